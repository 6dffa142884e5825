package experiment

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

const (
	smokeSuffix = ".smoke"
	smokeSteps  = 2
	smokeTrials = 2 // of each search
	smokeImages = 4 // in validation and test; training has as many as the steps take
)

// Smoke is the experiments with every cell cut down to what shows that it
// works: the first seed, two steps, a few images. Names end in ".smoke" and
// identities are others, so that whatever is kept of these runs lies apart from
// the real ones. Weights are chosen by the loss, since a few images may leave a
// class without a score.
func Smoke(ctx context.Context, x *data.Index, experiments []*Experiment) ([]*Experiment, error) {
	s := &smoke{index: x, splits: map[smokeKey]files{}}
	var all []*Experiment
	for _, e := range experiments {
		small := *e
		small.Name += smokeSuffix
		small.Runs, small.smoke = nil, s
		seen := map[string]bool{}
		for _, run := range e.Runs {
			if seen[run.Cell] {
				continue
			}
			seen[run.Cell] = true
			cut, err := s.run(ctx, run, small.Name)
			if err != nil {
				return nil, fmt.Errorf("cutting %s down: %w", run.Name(), err)
			}
			small.Runs = append(small.Runs, cut)
		}
		if err := s.studies(ctx, &small, e.Studies); err != nil {
			return nil, err
		}
		all = append(all, &small)
	}
	return all, nil
}

// smoke remembers the splits that were cut, by digest and size.
type smoke struct {
	index  *data.Index
	splits map[smokeKey]files
}

// A smokeKey is a split, and how many images of it are kept.
type smokeKey struct {
	digest string
	count  uint32
}

func (s *smoke) run(ctx context.Context, run *Run, name string) (*Run, error) {
	cut := *run
	cut.Experiment = name
	cut.Spec, cut.Label, cut.Places = proto.CloneOf(run.Spec), proto.CloneOf(run.Label), proto.CloneOf(run.Places)
	cut.Label.Experiment = name
	train := cut.Spec.Train
	train.MaxSteps, train.EvalEvery, train.EvalSteps, train.Monitor = smokeSteps, 1, 0, "loss"
	cut.Spec.Optim.Schedule.WarmupSteps = 0  // of more steps than there are
	train.Resolution, train.Window = "", nil // at which there is no loss
	cut.Places.Files = map[string]*spec.Files{}
	if err := s.data(ctx, cut.Spec.Data, run.Places, cut.Places, smokeSteps*train.Batch); err != nil {
		return nil, err
	}
	cut.ID = spec.Identity(cut.Spec)
	cut.Evaluations = nil
	for _, e := range run.Evaluations {
		small := proto.CloneOf(e.Spec)
		if err := s.data(ctx, small.Data, run.Places, cut.Places, 0); err != nil {
			return nil, err
		}
		cut.Evaluations = append(cut.Evaluations, Evaluation{ID: spec.EvaluationIdentity(cut.ID, small), Spec: small})
	}
	return &cut, nil
}

// studies cuts searches down to two trials each, and the training of the better.
func (s *smoke) studies(ctx context.Context, small *Experiment, studies []*Study) error {
	small.Studies = nil
	for _, study := range studies {
		cut := *study
		cut.Experiment, cut.of = small.Name, small
		cut.Objective, cut.Minimize = "loss", true
		cut.Trials, cut.Steps, cut.Top, cut.Pruner = smokeTrials, 0, 1, Pruner{Kind: "none"}
		cut.Seeds, cut.RetestSeeds, cut.Untuned = study.Seeds[:1], study.RetestSeeds[:1], nil
		run, err := s.run(ctx, study.Untuned[0], small.Name)
		if err != nil {
			return fmt.Errorf("cutting %s down: %w", study.Untuned[0].Name(), err)
		}
		cut.Untuned = append(cut.Untuned, run)
		small.Studies = append(small.Studies, &cut)
	}
	return nil
}

// data cuts the splits of d, to a number of training images and to smokeImages
// of any other kind.
func (s *smoke) data(ctx context.Context, d *spec.Data, from, to *spec.Places, training uint32) error {
	if digest := d.GetStyle().GetDigest(); digest != "" {
		to.Files[digest] = from.Files[digest]
	}
	for role, split := range d.GetSplits() {
		n := uint32(smokeImages)
		if role == "train" {
			n = training
		}
		if split.Procedural != nil {
			drawn := proto.CloneOf(split.Procedural)
			drawn.Count = min(drawn.Count, n)
			d.Splits[role] = &spec.Split{Digest: data.ProceduralDigest(drawn), Count: drawn.Count, Procedural: drawn}
			continue
		}
		key := smokeKey{split.Digest, n}
		cut, known := s.splits[key]
		if !known {
			places := from.Files[split.Digest]
			cut.files = data.Files{Root: places.GetRoot(), Images: places.GetImages(), Masks: places.GetMasks()}
			if n < split.Count {
				cut.files = cut.files.Sample(int(n), 0)
			}
			digest, err := cut.files.Digest(ctx, s.index)
			if err != nil {
				return err
			}
			cut.split = &spec.Split{Digest: digest, Count: uint32(cut.files.Len())}
			s.splits[key] = cut
		}
		d.Splits[role] = cut.split
		to.Files[cut.split.Digest] = &spec.Files{Root: cut.files.Root, Images: cut.files.Images, Masks: cut.files.Masks}
	}
	return nil
}

// IsSmokeSpec reports whether a specification may be one that Smoke has cut.
func IsSmokeSpec(s *spec.RunSpec) bool { return s.GetTrain().GetMaxSteps() == smokeSteps }

// IsSmoke reports whether Smoke has named an experiment so.
func IsSmoke(name string) bool { return strings.HasSuffix(name, smokeSuffix) }
