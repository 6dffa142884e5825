package peft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

// Checked is what is known of an adapter that was written for PEFT.
type Checked struct {
	// Reader is the variant that read the files back as the adapter of the run;
	// "": none, for the Reason.
	Reader string `json:"reader,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Weak is how many layers the adapter changes too little to tell it from
	// another.
	Weak int `json:"weak,omitempty"`
	// Compared says that PEFT itself computes what the run does: its files were
	// read by a variant of a release, which is tested against PEFT, or its
	// variant was compared by `runner plugins test --peft`.
	Compared bool `json:"compared"`
}

// What an adapter that was read back may differ by: of what it changes, which
// is far below another scale, and of the outputs, for the rounding of the file
// to fp32. An effect below weak of the outputs is lost in that.
const (
	ofEffect = 1e-4
	ofOutput = 1e-6
	weak     = 1e-5
)

// Compare is the engine's call of that name.
type Compare func(context.Context, *spec.CompareRequest) (*spec.CompareReply, error)

// Check reads back the adapter that was written for PEFT into dir, and compares
// it with that of the run, computed by the engine: layers, parameters and
// outputs. Any difference is an error. Where no variant reads the files, it says
// why.
func (r *Reader) Check(ctx context.Context, dir string, run *spec.RunRequest, checkpoint string, compare Compare) (*Checked, error) {
	temp, err := os.MkdirTemp("", "loralab-export-")
	if err != nil {
		return nil, fmt.Errorf("reading the adapter back: %w", err)
	}
	defer os.RemoveAll(temp)
	c := &Checked{}
	s := Source{Dir: dir, Arch: run.GetSpec().GetBackbone().GetArch(), Depth: run.GetSpec().GetBackbone().GetDepth()}
	a, err := (&Reader{Variants: r.Variants, Cache: temp}).readBack(ctx, s, run.GetLabel().GetVariant())
	var broken *variant.Error
	switch {
	case errors.As(err, &broken):
		c.Reason, _, _ = strings.Cut(err.Error(), "\n")
	case unread(err):
		c.Reason = strings.Join(strings.Fields(err.Error()), " ")
	case err != nil:
		return nil, fmt.Errorf("the files for PEFT cannot be read back, so they are not kept: %w", err)
	default:
		if c.Weak, err = same(ctx, a, run, checkpoint, compare); err != nil {
			return nil, err
		}
		c.Reader = a.Variant
	}
	c.Compared = r.compared(ctx, c.Reader, s, run)
	return c, nil
}

// readBack reads an adapter of a variant. A shipped one is asked first: it is
// tested against PEFT, and no other plug-in need be started.
func (r *Reader) readBack(ctx context.Context, s Source, name string) (*Adapter, error) {
	if p, err := r.Variants.Find(name); err == nil && p.Bundled {
		s.Variant = name
		if a, err := r.Read(ctx, s); !unread(err) {
			return a, err
		}
		s.Variant = ""
	}
	return r.Read(ctx, s)
}

// unread reports whether an error is that no variant reads the files.
func unread(err error) bool {
	var no *unreadError
	var broken *variant.Error
	return errors.As(err, &no) || errors.As(err, &broken)
}

// same compares an adapter that was read with that of a run.
func same(ctx context.Context, a *Adapter, run *spec.RunRequest, checkpoint string, compare Compare) (tooWeak int, err error) {
	placements := run.GetSpec().GetAdapter().GetPlacements()
	other := &spec.Adapter{Programs: a.Build.GetPrograms()}
	var faults []string
	for _, p := range placements {
		i := slices.IndexFunc(a.Sites, func(s *protocol.Site) bool { return proto.Equal(s, p.GetSite()) })
		if i < 0 {
			faults = append(faults, program.SiteName(p.GetSite())+" has no adapter in the files")
			continue
		}
		other.Placements = append(other.Placements, &spec.Placement{Site: p.GetSite(), Program: a.Build.GetProgramOfSite()[i]})
	}
	for _, s := range a.Sites {
		if !slices.ContainsFunc(placements, func(p *spec.Placement) bool { return proto.Equal(s, p.GetSite()) }) {
			faults = append(faults, program.SiteName(s)+" has one in the files alone")
		}
	}
	if len(faults) == 0 {
		reply, err := compare(ctx, &spec.CompareRequest{Run: run, Checkpoint: checkpoint, Other: other, Values: a.Start})
		if err != nil {
			return 0, fmt.Errorf("comparing the adapter that was read back: %w", err)
		}
		for i, c := range reply.GetSites() {
			at := program.SiteName(placements[i].GetSite())
			switch limit := ofEffect*c.GetEffect() + ofOutput*c.GetOutput(); {
			case c.GetOtherValue() != "":
				faults = append(faults, fmt.Sprintf("%s: %s has another value", at, c.GetOtherValue()))
			case !(c.GetDifference() <= limit):
				faults = append(faults, fmt.Sprintf("%s: the outputs differ by %.2g, and the adapter changes them by %.2g", at, c.GetDifference(), c.GetEffect()))
			case !c.GetSameProgram() && !(c.GetEffect() > weak*c.GetOutput()):
				tooWeak++
			}
		}
	}
	if len(faults) == 0 {
		return tooWeak, nil
	}
	const most = 5
	if n := len(faults) - most; n > 1 {
		faults = append(faults[:most], fmt.Sprintf("and %d more", n))
	}
	return 0, fmt.Errorf("the files for PEFT, read back as variant %s, hold another adapter than the run, so they are not kept:\n  %s\ntell the author of variant %s; -merged does not need PEFT's form",
		a.Variant, strings.Join(faults, "\n  "), run.GetLabel().GetVariant())
}

// compared reports whether PEFT is known to compute the adapter of a run as it
// was written. reader is the variant that read it back.
func (r *Reader) compared(ctx context.Context, reader string, s Source, run *spec.RunRequest) bool {
	if p, err := r.Variants.Find(reader); err == nil && p.Bundled {
		return true
	}
	// The plug-in that is here has to be the one that made the run.
	name := run.GetLabel().GetVariant()
	p, err := r.Variants.Find(name)
	if err != nil || !p.Bundled && !ComparedWithPEFT(r.Cache, p.SHA256) {
		return false
	}
	adapter := run.GetSpec().GetAdapter()
	sites := make([]*protocol.Site, len(adapter.GetPlacements()))
	for i, p := range adapter.GetPlacements() {
		sites[i] = p.GetSite()
	}
	reply, err := r.Variants.Build(ctx, name, run.GetLabel().GetVariantParams(), s.model(), sites)
	if err != nil || !proto.Equal(reply.GetPeft(), run.GetPeft()) {
		return false
	}
	for i, p := range adapter.GetPlacements() {
		if !proto.Equal(reply.GetPrograms()[reply.GetProgramOfSite()[i]], adapter.GetPrograms()[p.GetProgram()]) {
			return false
		}
	}
	return true
}
