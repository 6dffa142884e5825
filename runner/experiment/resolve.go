package experiment

import (
	"cmp"
	"context"
	"slices"

	"cuelang.org/go/cue"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/peft"
	"github.com/loralab/loralab/runner/variant"
)

// resolver answers for what lies outside of the files: backbones, variants,
// data. Within one Load everything is asked once, however many cells use it.
// Functions are nil where the environment has nothing to answer with.
type resolver struct {
	ctx   context.Context
	index *data.Index
	check bool // contents of data files
	// keepGoing leaves out cells whose plug-in fails.
	keepGoing bool
	backbone  func(model string) (*backbone.Backbone, error)
	describe  func(ctx context.Context, name string) (*protocol.DescribeReply, error)
	adopt     func(ctx context.Context, s peft.Source) (*peft.Adapter, error)
	trained   func(experiment, variant string) string
	build     func(ctx context.Context, name, params string, m *protocol.Model, sites []*protocol.Site) (*protocol.BuildReply, error)

	// What was found out. What makes an answer sees the key and the machine, and
	// nothing else of an experiment: a setting that it needs has to be in the key.
	schemas  memo[string, cue.Value]
	layouts  memo[sourceKey, *data.Layout]
	left     memo[sourceKey, []string] // what is not used of sources
	scans    memo[scanKey, parts]
	dealt    memo[scanKey, dealt] // without the fold of a run
	splits   memo[splitKey, files]
	checked  memo[readKey, string] // what is wrong with files
	mistakes memo[mistakeKey, string]
	remarked memo[readKey, [2]string]
	counted  memo[countKey, map[uint32]int] // masks with a value
	repeated memo[pairKey, int]
	looks    memo[placeKey, styleFiles]
	nets     memo[placeKey, styleNetwork]
}

type answer[T any] struct {
	value T
	err   error
}

// A memo keeps answers.
type memo[K comparable, V any] map[K]answer[V]

// get is the answer of a key, found out once. An end of the context is no answer.
func (m memo[K, V]) get(ctx context.Context, key K, find func() (V, error)) (V, error) {
	a, ok := m[key]
	if !ok {
		if a.value, a.err = find(); a.err == nil || ctx.Err() == nil {
			m[key] = a
		}
	}
	return a.value, a.err
}

func newResolver(ctx context.Context, env Env) *resolver {
	r := &resolver{
		ctx:       ctx,
		index:     env.Index,
		check:     env.CheckData,
		keepGoing: env.KeepGoing,
		trained:   env.Trained,
		schemas:   memo[string, cue.Value]{},
		layouts:   memo[sourceKey, *data.Layout]{},
		left:      memo[sourceKey, []string]{},
		scans:     memo[scanKey, parts]{},
		dealt:     memo[scanKey, dealt]{},
		splits:    memo[splitKey, files]{},
		checked:   memo[readKey, string]{},
		mistakes:  memo[mistakeKey, string]{},
		remarked:  memo[readKey, [2]string]{},
		counted:   memo[countKey, map[uint32]int]{},
		repeated:  memo[pairKey, int]{},
		looks:     memo[placeKey, styleFiles]{},
		nets:      memo[placeKey, styleNetwork]{},
	}
	if r.index == nil {
		r.index = data.NewIndex(data.Look{})
	}
	if env.Hub != nil {
		r.backbone = remembered(ctx, env.Hub.Resolve)
		if env.Fetch != nil {
			r.backbone = remembered(ctx, func(name string) (*backbone.Backbone, error) { return env.Hub.Fetch(ctx, name, env.Fetch) })
		}
	}
	if v := env.Variants; v != nil {
		r.describe, r.build = v.Describe, v.Build
		if env.Hub != nil {
			r.adopt = (&peft.Reader{Variants: v, Cache: env.Hub.Cache}).Read
		}
	}
	return r
}

// remembered asks once for each name, unless the context has ended.
func remembered[T any](ctx context.Context, ask func(string) (T, error)) func(string) (T, error) {
	asked := memo[string, T]{}
	return func(name string) (T, error) {
		return asked.get(ctx, name, func() (T, error) { return ask(name) })
	}
}

// partial reports whether there is too little to resolve runs.
func (r *resolver) partial() bool { return r.backbone == nil || r.describe == nil }

// params is the schema of a variant's parameters.
func (r *resolver) params(c *cue.Context, name string) (cue.Value, error) {
	if r.describe == nil || name == none || name == "" {
		return cue.Value{}, nil
	}
	return r.schemas.get(r.ctx, name, func() (cue.Value, error) {
		reply, err := r.describe(r.ctx, name)
		if err != nil {
			return cue.Value{}, err
		}
		return variant.CompileSchema(c, reply)
	})
}

// run resolves one run of a cell. Everything in it has been checked.
func (x *expansion) run(c *cell, repeat name.Repeat) (*Run, error) {
	r, cfg := x.resolve, *c.config
	cfg.Data = cfg.Data.of(repeat)
	bb, err := r.backbone(cfg.Backbone.Model)
	if err != nil {
		return nil, err
	}
	run := &Run{
		Experiment: x.name,
		Cell:       c.name,
		Values:     c.values,
		Fold:       repeat.Fold,
		Seed:       repeat.Seed,
		Fraction:   cfg.Data.Fraction,
		Places:     &spec.Places{Backbone: bb.Path, Files: map[string]*spec.Files{}},
		Label:      &spec.Label{Experiment: x.name, Cell: c.name, Backbone: bb.Name, Variant: cfg.Adapter.Variant},
	}
	s := &spec.RunSpec{
		Revision: spec.Revision,
		Seed:     repeat.Seed,
		Backbone: &spec.Backbone{Digest: bb.Digest, Arch: bb.Arch, Depth: cfg.Backbone.depth(bb.Arch), Freeze: cfg.freeze(bb.Arch)},
		Head:     cfg.Head.spec(cfg.Backbone.depth(bb.Arch)),
		Optim:    cfg.Optim.spec(),
		Train:    cfg.Train.spec(),
		Loss:     cfg.Loss.terms(mergeClasses(cfg.Data.Classes, cfg.Data.Remap, cfg.Data.Ignore).classes),
	}
	// A rate without effect is left out, so that moving it moves no run.
	if s.Backbone.Freeze.Kind != spec.Freeze_ALL {
		s.Optim.LrBackbone = cfg.Optim.LR.Backbone
	}
	if cfg.Adapter.Variant != none {
		if err := x.adapt(c, s, run); err != nil {
			return nil, err
		}
	}
	if s.Data, err = x.data(cfg.Data, bb, roles, []string{"train", "val"}, run.Places); err != nil {
		return nil, err
	}
	for i := range cfg.Data.Augment {
		s.Data.Augment = append(s.Data.Augment, cfg.Data.Augment[i].spec())
	}
	s.Data.Views = cfg.Data.views(repeat.Seed)
	if cfg.Train.asTested(cfg.Evaluate) {
		seen := cfg.Evaluate.scoring()
		s.Train.Resolution, s.Train.Window = seen.Resolution, seen.Window
	}
	cfg.settle(s)
	if n, ok := repeat.Fold.Number(); ok {
		s.Folds = &spec.Folds{Count: cfg.Data.Split.Folds, Fold: n}
	}
	s.Backbone.WithoutNorm = !cfg.Backbone.Norm
	if s.Backbone.DropPath = cfg.Backbone.DropPath; s.Backbone.DropPath > 0 {
		// Tensors that cannot be listed are reported by checkTensors.
		if tensors, err := params.Of(s); err == nil && params.DropPath(s, tensors) == nil {
			s.Backbone.DropPath = 0
		}
	}
	run.Spec = s
	run.ID = spec.Identity(s)

	strengths := []float64{1}
	if cfg.Adapter.Variant != none {
		strengths = append(strengths, cfg.Evaluate.strengths()...)
		strengths = slices.Compact(slices.Sorted(slices.Values(strengths)))
	}
	var weaker []Evaluation // at other strengths, which follow all others
	evaluate := func(domain string, d *dataConfig, wanted []string) error {
		resolved, err := x.data(d, bb, wanted, []string{"test"}, run.Places)
		if err != nil {
			return err
		}
		for _, t := range strengths {
			e := cfg.Evaluate.scoring()
			e.SetStrength(t)
			e.Domain, e.Data, e.Precision = e.ColumnName(domain), resolved, cmp.Or(cfg.Evaluate.Precision, cfg.Train.Precision)
			evaluation := Evaluation{ID: spec.EvaluationIdentity(run.ID, e), Spec: e}
			if t == 1 {
				run.Evaluations = append(run.Evaluations, evaluation)
			} else {
				weaker = append(weaker, evaluation)
			}
		}
		return nil
	}
	if err := evaluate("test", cfg.Data, roles); err != nil {
		return nil, err
	}
	for _, d := range cfg.Evaluate.Domains {
		m := d.data(cfg.Data)
		if err := evaluate(d.name, &m, []string{"test"}); err != nil {
			return nil, err
		}
	}
	for _, d := range cfg.Evaluate.shifted(cfg.Data) {
		if err := evaluate(d.name, &d.data, roles); err != nil {
			return nil, err
		}
	}
	run.Evaluations = append(run.Evaluations, weaker...)
	return run, nil
}

// adapt puts the programs of the variant into the specification.
func (x *expansion) adapt(c *cell, s *spec.RunSpec, run *Run) error {
	r, cfg := x.resolve, c.config
	a := x.adaptation(c)
	if a.from != nil {
		run.Label.Variant = a.from.Variant
	}
	about, err := r.describe(r.ctx, run.Label.Variant)
	if err != nil {
		return err
	}
	s.Adapter = &spec.Adapter{Programs: a.reply.GetPrograms()}
	for i, site := range a.sites {
		s.Adapter.Placements = append(s.Adapter.Placements, &spec.Placement{Site: site, Program: a.reply.GetProgramOfSite()[i]})
	}
	s.Optim.LrAdapter = cfg.Optim.LR.Adapter
	run.Label.VariantVersion, run.Label.VariantParams = about.GetVersion(), string(a.params)
	run.PEFT = a.reply.GetPeft()
	if a.from != nil {
		s.Adapter.Start, run.Places.Start = a.from.Digest, a.from.Start
	}
	return nil
}

// data resolves the splits of some roles and notes where their files are.
func (x *expansion) data(d *dataConfig, bb *backbone.Backbone, wanted, used []string, places *spec.Places) (*spec.Data, error) {
	t := x.resolve.training(x.root, d)
	out := &spec.Data{
		Classes: t.classes, Values: t.values, Colours: t.colors,
		Height: d.Size[0], Width: d.Size[1],
		Mean: bb.Mean, Std: bb.Std,
		Splits: map[string]*spec.Split{},
	}
	if d.Normalize != nil {
		out.Mean, out.Std = d.Normalize.Mean, d.Normalize.Std
	}
	out.Corruption = d.corruption
	if d.look != nil {
		style, err := x.resolve.style(x.root, d.look, places)
		if err != nil {
			return nil, err
		}
		out.Style = style
	}
	for _, role := range used {
		s, err := x.resolve.split(x.root, d, wanted, role)
		if err != nil {
			return nil, err
		}
		out.Splits[role] = s.split
		if s.split.GetProcedural() == nil {
			places.Files[s.split.GetDigest()] = &spec.Files{Root: s.files.Root, Images: s.files.Images, Masks: s.files.Masks}
		}
	}
	return out, nil
}
