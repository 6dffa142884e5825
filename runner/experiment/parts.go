package experiment

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/hub"
)

// Part is images with one purpose.
type Part struct {
	Name string // "train", "val", "test", "all" or a domain
	// Cell is the first that has it, where cells differ in their data; with the
	// seed where runs do.
	Cell  string
	Split *spec.Split
	// Data says how the images are read. Normalisation is left out unless it is
	// given, and Splits.
	Data   *spec.Data
	Files  data.Files // none if they are drawn
	Layout string     // of a source without an experiment
	Styles data.Files
}

// Open serves the images.
func (p *Part) Open() (*data.Set, error) {
	if drawn := p.Split.GetProcedural(); drawn != nil {
		return data.OpenProcedural(drawn, p.Data, p.Styles)
	}
	return data.Open(p.Files, p.Data, p.Styles)
}

// Parts are the images that the cells of the experiment use, each once: what is
// trained, validated and tested on, and the domains. No backbone is needed.
func (e *Experiment) Parts() ([]Part, error) {
	x := e.expansion
	var parts []Part
	add := func(cell, name, role string, d *dataConfig, wanted []string) error {
		places := &spec.Places{Files: map[string]*spec.Files{}}
		read, err := x.data(d, &hub.Backbone{}, wanted, []string{role}, places)
		if err != nil {
			return err
		}
		p := Part{Name: name, Cell: cell, Split: read.Splits[role], Data: read}
		read.Splits = nil
		if role == "train" {
			for i := range d.Augment {
				read.Augment = append(read.Augment, d.Augment[i].spec())
			}
		}
		files := func(digest string) data.Files {
			f := places.Files[digest]
			return data.Files{Root: f.GetRoot(), Images: f.GetImages(), Masks: f.GetMasks()}
		}
		p.Files = files(p.Split.GetDigest())
		if read.Style != nil {
			p.Styles = files(read.Style.Digest)
		}
		if !slices.ContainsFunc(parts, func(q Part) bool {
			return q.Name == name && q.Split.GetDigest() == p.Split.GetDigest() && proto.Equal(q.Data, p.Data)
		}) {
			parts = append(parts, p)
		}
		return nil
	}
	type pair struct {
		data     *dataConfig
		evaluate *evaluateConfig
	}
	seen := map[pair]bool{}
	for _, c := range e.cells {
		d := c.config.Data
		if k := (pair{d, c.config.Evaluate}); seen[k] {
			continue
		} else {
			seen[k] = true
		}
		for _, seed := range x.seeds {
			cell, d := c.name, d.of(seed)
			if d.Split != c.config.Data.Split {
				cell += fmt.Sprintf(", seed %d", seed)
			}
			for _, role := range roles {
				if err := add(cell, role, role, d, roles); err != nil {
					return nil, err
				}
			}
			for _, domain := range c.config.Evaluate.Domains {
				m := domain.data(d)
				if err := add(cell, domain.name, "test", &m, []string{"test"}); err != nil {
					return nil, err
				}
			}
			for _, shifted := range c.config.Evaluate.shifted(d) {
				if err := add(cell, shifted.name, "test", &shifted.data, roles); err != nil {
					return nil, err
				}
			}
			if d == c.config.Data {
				break // all runs have these
			}
		}
	}
	return parts, nil
}

// sourceSize is the height and width at which a source without an experiment is
// shown.
const sourceSize = 224

// SourceParts are the images of a source, found as in an experiment. What its
// classes are is not known: every value of a mask is one of its own, but 255
// and what the layout ignores. Beside a data.ScanError, the parts are returned all the same.
func SourceParts(ctx context.Context, root, source string) ([]Part, error) {
	dir, err := findData(root, source)
	var missing *sourceError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%s\n%s", missing.message, missing.hint)
	} else if err != nil {
		return nil, err
	}
	layout, err := data.FindLayout(dir, "auto")
	if err != nil {
		return nil, err
	}
	found, err := layout.Parts(dir)
	var unpaired *data.ScanError
	if err != nil && !errors.As(err, &unpaired) {
		return nil, err
	}
	var all []uint32
	for _, f := range found {
		for value := range data.Occurring(ctx, f, false) {
			all = append(all, value)
		}
	}
	slices.Sort(all)
	d := &spec.Data{Height: sourceSize, Width: sourceSize, Values: map[uint32]int32{}}
	for _, value := range slices.Compact(all) {
		if value == data.Ignored || slices.Contains(layout.Ignored, value) {
			d.Values[value] = -1
			continue
		}
		d.Values[value] = int32(len(d.Classes))
		d.Classes = append(d.Classes, fmt.Sprintf("value %d", value))
	}
	var parts []Part
	for _, name := range append(slices.Clone(data.Roles), data.All) {
		if f, ok := found[name]; ok {
			digest, err := f.Digest(ctx)
			if err != nil {
				return nil, err
			}
			parts = append(parts, Part{Name: name, Data: d, Files: f, Layout: layout.Name, Split: &spec.Split{Digest: digest, Count: uint32(f.Len())}})
		}
	}
	if unpaired != nil {
		return parts, unpaired
	}
	return parts, nil
}
