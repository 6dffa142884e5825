package train

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// othersWait is how long an engine waits for another that scores the same ensemble:
// what that one scores is not scored again.
const othersWait = 24 * time.Hour

// Ensemble scores the mean of the probabilities of several trained runs on all
// evaluations that are not in its directory yet. All members are in memory. A frozen
// backbone is there once, and its tokens are computed once; what comes after the
// frozen blocks is computed by one member after the other, batch by batch.
//
// The directories of the members are only read.
func (t *Trainer) Ensemble(ctx context.Context, req *spec.EnsembleRequest, emit func(*spec.Event)) error {
	t.running.Lock()
	defer t.running.Unlock()
	if err := checkEnsemble(req); err != nil {
		return fmt.Errorf("checking the request: %w", err)
	}
	s := t.ensemble(req, emit)
	if err := s.dir.own(); err != nil {
		return err
	}
	if err := s.dir.take(ctx, othersWait); err != nil {
		return err
	}
	defer s.dir.close()
	defer s.close()
	err := s.openMembers()
	if err == nil {
		err = s.evaluate(ctx, &spec.Summary{})
	}
	if changed := (*backboneError)(nil); errors.As(err, &changed) {
		err = errors.Join(err, t.distrust())
	}
	return err
}

// ensemble is the session of an ensemble, whose specification is that of its first
// member.
func (t *Trainer) ensemble(req *spec.EnsembleRequest, emit func(*spec.Event)) *session {
	// The same members in another order give the same bits.
	members := slices.SortedFunc(slices.Values(req.Members), func(a, b *spec.RunRequest) int { return strings.Compare(a.Id, b.Id) })
	first := members[0]
	own := &spec.RunRequest{
		Id: req.Id, Spec: first.Spec, Evaluations: req.Evaluations, SampleImages: req.SampleImages,
		Places: proto.CloneOf(first.Places),
	}
	own.Places.RunDir = req.Dir
	s := &session{t: t, req: own, spec: first.Spec, dir: &runDir{Run: rundir.Run{Dir: rundir.Dir(req.Dir), ID: req.Id, Revision: spec.Revision}}, emit: emit}
	if own.Places.Files == nil {
		own.Places.Files = map[string]*spec.Files{}
	}
	for _, m := range members {
		maps.Copy(own.Places.Files, m.Places.Files)
		s.members = append(s.members, &session{t: t, req: m, spec: m.Spec, dir: &runDir{Run: rundir.Of(m)}, emit: func(*spec.Event) {}})
	}
	return s
}

func (s *session) openMembers() error {
	for _, m := range s.members {
		if err := m.open(); err != nil {
			return err
		}
		var err error
		if m.trained, err = m.dir.Summary(); err != nil {
			return fmt.Errorf("%w; %s", err, m.dir.Cure())
		}
		if m.trained == nil {
			return fmt.Errorf("run %s is not trained", rundir.Short(m.req.Id))
		}
	}
	return nil
}

// checkEnsemble finds what the runner should never have sent.
func checkEnsemble(req *spec.EnsembleRequest) error {
	if len(req.GetMembers()) < 2 {
		return errors.New("an ensemble has two members or more")
	}
	var ids []string
	first := proto.CloneOf(req.Members[0])
	first.Evaluations = req.Evaluations
	for i, m := range append([]*spec.RunRequest{first}, req.Members[1:]...) {
		if err := check(m); err != nil {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
		if slices.Contains(ids, m.Id) {
			return fmt.Errorf("run %s is a member twice", rundir.Short(m.Id))
		}
		ids = append(ids, m.Id)
		if err := alike(first.Spec, m.Spec); err != nil {
			return fmt.Errorf("runs %s and %s cannot be members of one ensemble: they differ in %w", rundir.Short(first.Id), rundir.Short(m.Id), err)
		}
	}
	switch {
	case req.Id != spec.EnsembleIdentity(ids):
		return errors.New("the identity is not that of the members")
	case req.Dir == "":
		return errors.New("a place is missing")
	case slices.ContainsFunc(req.Evaluations, func(e *spec.Evaluation) bool { return e.Merged }):
		return errors.New("the adapters of an ensemble cannot be merged")
	}
	return nil
}

// alike reports what two members differ in, other than their weights.
func alike(a, b *spec.RunSpec) error {
	switch {
	case !proto.Equal(a.Backbone, b.Backbone):
		return errors.New("the backbone")
	case len(a.Data.Classes) != len(b.Data.Classes):
		return errors.New("the number of classes")
	case a.Train.Precision != b.Train.Precision:
		return errors.New("the precision")
	case !proto.Equal(a.Head, b.Head):
		return errors.New("the head")
	case !slices.EqualFunc(a.Adapter.GetPlacements(), b.Adapter.GetPlacements(), func(x, y *spec.Placement) bool { return proto.Equal(x.Site, y.Site) }):
		return errors.New("the places of the adapter")
	case !slices.EqualFunc(a.Optim.Rules, b.Optim.Rules, func(x, y *spec.Rule) bool { return proto.Equal(x, y) }):
		return errors.New("what trains")
	}
	return nil
}
