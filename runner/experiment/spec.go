package experiment

import (
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/core/augment"
	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
	vit "github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
)

// From the configuration of a cell to the messages of a run. What has no effect is
// left out, so that changing it moves no run.

// terms are the losses with a weight. What has no effect on one is left out, so
// that changing it moves no run.
func (l *lossConfig) terms(classes []string) []*spec.Loss {
	var terms []*spec.Loss
	for _, t := range []*spec.Loss{
		{Kind: "cross_entropy", Weight: l.CrossEntropy, Smoothing: l.Smoothing},
		{Kind: "dice", Weight: l.Dice},
		{Kind: "log_cosh_dice", Weight: l.LogCoshDice},
		{Kind: "focal", Weight: l.Focal, Gamma: l.Gamma},
		{Kind: "lovasz", Weight: l.Lovasz},
	} {
		if t.Weight == 0 {
			continue
		}
		if t.Kind == "cross_entropy" || t.Kind == "focal" {
			t.Weighting = recorded(l.ClassWeights.by)
			for _, name := range classes {
				if l.ClassWeights.of == nil {
					break
				}
				w, ok := l.ClassWeights.of[name]
				if !ok {
					w = 1
				}
				t.ClassWeights = append(t.ClassWeights, w)
			}
		}
		terms = append(terms, t)
	}
	return terms
}

// ranges are what augmentations draw from unless told; those without draw from
// none.
var ranges = map[string][2]float64{
	augment.Resize: {0.5, 2}, "rotate": {-10, 10}, "scale": {0.75, 1.25}, "crop": {0.5, 1}, "blur": {0.1, 2}, "noise": {0, 0.05},
}

// always are the augmentations of every image, unless told.
var always = []string{augment.Resize, augment.Window, "photometric"}

// spec fills in what is not given.
func (a *augmentConfig) spec() *spec.Augment {
	out := &spec.Augment{Kind: recorded(a.Kind), P: 0.5}
	switch {
	case a.P != nil:
		out.P = *a.P
	case slices.Contains(always, a.Kind):
		out.P = 1
	}
	if r, ok := ranges[a.Kind]; ok {
		switch out.ShortSide = a.ShortSide != nil; {
		case out.ShortSide:
			r = *a.ShortSide
		case a.Range != nil:
			r = *a.Range
		}
		out.Low, out.High = r[0], r[1]
	}
	if a.MaxClass < 1 {
		out.MaxClass = a.MaxClass
	}
	if a.Kind == "color" {
		or := func(v *float64, absent float64) float64 {
			if v == nil {
				return absent
			}
			return *v
		}
		out.Brightness, out.Contrast, out.Saturation, out.Hue = or(a.Brightness, 0.2), or(a.Contrast, 0.2), or(a.Saturation, 0.2), or(a.Hue, 0.02)
	}
	return out
}

// views are those of a run with a seed, nil if there are none.
func (d *dataConfig) views(seed uint64) *spec.Views {
	if d.Views == nil || len(d.Augment) == 0 {
		return nil
	}
	if !d.Views.Seed.run {
		seed = d.Views.Seed.number
	}
	return &spec.Views{Count: d.Views.Count, Seed: seed}
}

// scoring is an evaluation with what it says of how images are seen.
func (e *evaluateConfig) scoring() *spec.Evaluation {
	out := &spec.Evaluation{Checkpoint: e.Checkpoint}
	if e.Resolution == spec.Original {
		out.Resolution = spec.Original
	}
	if w := e.Window; w != nil {
		out.Window = &spec.Window{StrideH: w.Stride[0], StrideW: w.Stride[1], Scale: float64(w.Scale)}
	}
	if t := e.TTA; t != nil {
		out.TestTime = spec.NewTestTime(t.Flip, t.Scales)
	}
	return out
}

// strengths are those that a run with an adapter is scored at, ascending and with 1;
// nil if the adapter is scored as trained alone.
func (e *evaluateConfig) strengths() []float64 {
	all := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(e.Strength), 1))))
	if len(all) == 1 {
		return nil
	}
	return all
}

// all lists the corruptions, by kind and severity.
func (c *corruptionsConfig) all() (list []*spec.Corruption) {
	if c == nil {
		return nil
	}
	var kinds []string
	for _, kind := range c.Kinds {
		members := corrupt.Family(kind)
		if len(members) == 0 {
			members = []string{kind}
		}
		for _, m := range members {
			if !slices.Contains(kinds, m) {
				kinds = append(kinds, m)
			}
		}
	}
	for _, kind := range kinds {
		for _, severity := range c.Severities {
			list = append(list, &spec.Corruption{Kind: kind, Severity: uint32(severity), Seed: c.Seed})
		}
	}
	return list
}

// names are the domains that corruptions make.
func (c *corruptionsConfig) names() (list []string) {
	for _, made := range c.all() {
		list = append(list, corruptedName(made))
	}
	return list
}

// corruptedName is the name of a corrupted test split: "fog-3".
func corruptedName(c *spec.Corruption) string { return fmt.Sprintf("%s-%d", c.Kind, c.Severity) }

// shifted are the domains made of the test split: corrupted, then styled.
func (e *evaluateConfig) shifted(data *dataConfig) (out []struct {
	name string
	data dataConfig
},
) {
	add := func(name string, change func(*dataConfig)) {
		d := *data
		change(&d)
		out = append(out, struct {
			name string
			data dataConfig
		}{name, d})
	}
	for _, made := range e.Corruptions.all() {
		add(corruptedName(made), func(d *dataConfig) { d.corruption = made })
	}
	for i := range e.Styles {
		add(e.Styles[i].name, func(d *dataConfig) { d.look = &e.Styles[i].lookConfig })
	}
	return out
}

// training is what becomes of the classes of the masks.
type training struct {
	classes []string         // as trained
	values  map[uint32]int32 // value of a mask -> index of the class; -1: ignored
	colors  bool             // values are colors
	fault   error            // values of the classes are not known
}

// data is that as masks are read with.
func (t training) data() *spec.Data {
	return &spec.Data{Classes: t.classes, Values: t.values, Colours: t.colors}
}

// colored has colors as values in place of indices. The caller has checked the
// names.
func (t training) colored(classes []string, of map[string]colors) training {
	out := training{classes: t.classes, values: map[uint32]int32{}, colors: true}
	for name, list := range of {
		class := int32(-1)
		if name != ignored {
			class = t.values[uint32(slices.Index(classes, name))]
		}
		for _, c := range list {
			out.values[c] = class
		}
	}
	return out
}

// train merges classes. The caller has checked the names.
func mergeClasses(classes []string, remap map[string]string, ignore *uint32) training {
	t := training{values: map[uint32]int32{}}
	for _, c := range classes {
		if to, ok := remap[c]; !ok || to == c {
			t.classes = append(t.classes, c)
		}
	}
	for value, c := range classes {
		if to, ok := remap[c]; ok {
			c = to
		}
		t.values[uint32(value)] = int32(slices.Index(t.classes, c)) // -1 for ignore
	}
	if ignore != nil {
		t.values[*ignore] = -1
	}
	return t
}

func (b *backboneConfig) depth(arch *spec.Architecture) uint32 {
	if b.Depth > 0 {
		return min(b.Depth, arch.GetDepth())
	}
	return arch.GetDepth()
}

// model is the backbone as a variant sees it.
func (b *backboneConfig) model(arch *spec.Architecture) *protocol.Model {
	return &protocol.Model{
		Family: arch.GetFamily(), Dim: arch.GetDim(), Depth: b.depth(arch), Heads: arch.GetHeads(), Mlp: arch.GetMlp(),
	}
}

// sites are the adapted places: the patch embedding, then those of the blocks, by
// block and in the order of vit.Targets.
func (c *config) sites(arch *spec.Architecture) ([]*protocol.Site, bool) {
	blocks, message, _ := c.Adapter.Blocks.of(c.Backbone.depth(arch))
	if message != "" {
		return nil, false
	}
	var sites []*protocol.Site
	add := func(block uint32, name string) {
		if s, ok := vit.Site(arch, block, name); ok && slices.Contains(c.Adapter.Targets, name) {
			sites = append(sites, s)
		}
	}
	add(0, vit.SitePatch)
	for _, b := range blocks {
		for _, name := range vit.Targets {
			if name != vit.SitePatch {
				add(b, name)
			}
		}
	}
	return sites, true
}

// freeze lists the blocks that train.
func (c *config) freeze(arch *spec.Architecture) *spec.Freeze {
	switch c.Backbone.Freeze.kind {
	case "all":
		return &spec.Freeze{Kind: spec.Freeze_ALL}
	case "none", "until":
		return &spec.Freeze{Kind: spec.Freeze_NONE}
	}
	depth := c.Backbone.depth(arch)
	frozen, _, _ := c.Backbone.Freeze.blocks.of(depth)
	f := &spec.Freeze{Kind: spec.Freeze_BLOCKS}
	for b := range depth {
		if !slices.Contains(frozen, b) {
			f.Trainable = append(f.Trainable, b)
		}
	}
	if len(f.Trainable) == 0 {
		f.Kind = spec.Freeze_ALL
	}
	return f
}

// spec leaves out what the kind of optimiser and schedule has not.
func (o *optimConfig) spec() *spec.Optim {
	out := &spec.Optim{
		Kind: o.Kind, LrHead: o.LR.Head, WeightDecay: o.WeightDecay, DecayVectors: o.DecayVectors, ClipNorm: o.Clip,
		Schedule: &spec.Schedule{Kind: o.Schedule.Kind, Warmup: o.Schedule.Warmup},
	}
	if o.Schedule.WarmupSteps > 0 {
		out.Schedule.Warmup, out.Schedule.WarmupSteps = 0, o.Schedule.WarmupSteps
	}
	if o.Kind == "sgd" {
		out.Momentum, out.Nesterov = o.Momentum, o.Nesterov && o.Momentum > 0
	} else {
		out.Beta1, out.Beta2, out.Eps = o.Betas[0], o.Betas[1], o.Eps
	}
	s := out.Schedule
	switch s.Kind {
	case "linear", "cosine", "trapezoid", "polynomial":
		s.Floor = o.Schedule.Floor
	}
	switch s.Kind {
	case "polynomial":
		s.Power = o.Schedule.Power
	case "step":
		s.Milestones, s.Gamma = o.Schedule.Milestones, o.Schedule.Gamma
	case "trapezoid":
		s.Decay, s.Lagging = o.Schedule.Decay, o.Schedule.Lagging
		if s.Lagging {
			s.Floor = 0
		}
	}
	return out
}

func (t *trainConfig) spec() *spec.Train {
	out := &spec.Train{
		Epochs: t.Epochs, Batch: t.Batch, Precision: t.Precision, MaxSteps: t.MaxSteps, Monitor: metric.Canonical(t.Monitor),
		EvalEvery: t.EvalEvery, Ema: t.EMA, Patience: t.Patience, Deterministic: t.Deterministic,
	}
	if t.Steps > 0 {
		out.Epochs, out.Steps = 0, t.Steps
	}
	if t.EvalSteps > 0 {
		out.EvalEvery, out.EvalSteps = 0, t.EvalSteps
	}
	if t.Accumulate > 1 {
		out.Accumulate = t.Accumulate
	}
	if t.Patience > 0 {
		out.MinDelta = t.MinDelta
	}
	return out
}

// trains reports whether there is a step at all.
func (t *trainConfig) trains() bool { return t.Epochs > 0 || t.Steps > 0 }

// asTested reports whether validations score images otherwise than at the model's
// size, as evaluate says.
func (t *trainConfig) asTested(e *evaluateConfig) bool {
	return t.Validate == "test" && e.Resolution == spec.Original
}

// settle turns groups, or freezing up to an epoch, into the rules that settle
// every tensor. Rates of the parts count for nothing then.
func (c *config) settle(s *spec.RunSpec) {
	o := s.Optim
	switch {
	case len(c.Optim.Groups) > 0:
		for _, g := range c.Optim.Groups {
			o.Rules = append(o.Rules, g.rules(s.Backbone)...)
		}
	case c.Backbone.Freeze.kind == "until":
		o.Rules = []*spec.Rule{{Pattern: "backbone.*", Lr: o.LrBackbone, Frozen: true, UntilEpoch: c.Backbone.Freeze.until}}
		if s.Adapter != nil {
			o.Rules = append(o.Rules, &spec.Rule{Pattern: "adapter.*", Lr: o.LrAdapter})
		}
		o.Rules = append(o.Rules, &spec.Rule{Pattern: "head.*", Lr: o.LrHead})
	default:
		return
	}
	o.LrBackbone, o.LrAdapter, o.LrHead = 0, 0, 0
	o.ForgetAtUnfreezing = c.Optim.Forget && c.thaws()
	s.Backbone.Freeze = nil
}

// thaws reports whether something is frozen up to an epoch.
func (c *config) thaws() bool {
	return c.Backbone.Freeze.kind == "until" || slices.ContainsFunc(c.Optim.Groups, func(g groupConfig) bool { return g.Until > 0 })
}

// everyBackbone is the pattern that layer-wise decay goes with.
const everyBackbone = "backbone.*"

// rules are what a group says, block by block if its rate falls with depth
// (Clark et al., ELECTRA, arXiv:2003.10555; BEiT).
func (g *groupConfig) rules(b *spec.Backbone) []*spec.Rule {
	rule := func(pattern string, by float64) *spec.Rule {
		r := &spec.Rule{Pattern: pattern, Frozen: g.Frozen || g.Until > 0, UntilEpoch: g.Until}
		if g.LR != nil && (!r.Frozen || g.Until > 0) {
			r.Lr = *g.LR * by
		}
		if g.WeightDecay != nil && r.Lr > 0 {
			r.WeightDecay = g.WeightDecay
		}
		return r
	}
	row, err := vit.Of(b.GetArch())
	if err != nil || g.LayerDecay == nil || g.Pattern != everyBackbone { // every backbone that was found has a row
		return []*spec.Rule{rule(g.Pattern, 1)}
	}
	depth := int(b.GetDepth())
	var rules []*spec.Rule
	for i := range depth {
		rules = append(rules, rule("backbone."+row.Block(i, "*"), math.Pow(*g.LayerDecay, float64(depth-i))))
	}
	return append(rules,
		rule("backbone."+row.Embeddings+".*", math.Pow(*g.LayerDecay, float64(depth+1))),
		rule(everyBackbone, 1)) // the final norm
}

// spec leaves out what its kind has not.
func (c *headConfig) spec(depth uint32) *spec.Head {
	h := &spec.Head{
		Kind: c.Kind, Hidden: c.Hidden, Norm: c.Norm, Dropout: c.Dropout,
		Layers: c.Layers, Heads: c.Heads, Width: c.Width, Stages: c.Stages,
	}
	if c.Taps != nil {
		// The last block alone is what a head sees anyway.
		if taps, _, _ := c.Taps.of(depth); !slices.Equal(taps, []uint32{depth - 1}) {
			h.Taps = taps
		}
	}
	design.Prune(h)
	return h
}

// style resolves a look, and notes where its files are.
func (r *resolver) style(root string, look *lookConfig, places *spec.Places) (*spec.Style, error) {
	// What decides nothing is left out, so that changing it moves nothing.
	out := &spec.Style{Kind: recorded(look.Kind), Strength: look.Strength}
	if look.Kind == stylize.Network {
		net, err := r.network(root, look.Weights)
		if err != nil {
			return nil, err
		}
		out.Weights = net.digest
		if places.Networks == nil {
			places.Networks = map[string]string{}
		}
		places.Networks[net.digest] = net.path
		return out, nil
	}
	files, digest, err := r.look(root, look.Images)
	if err != nil {
		return nil, err
	}
	out.Seed, out.Digest = look.Seed, digest
	places.Files[digest] = &spec.Files{Root: files.Root, Images: files.Images}
	return out, nil
}
