package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/diagnostic"
)

// Part is images with one purpose.
type Part struct {
	Experiment string // "" of a source
	Name       string // "train", "val", "test", "all" or a domain
	// Cell is the first that has it, where cells differ in their data; with the
	// seed where runs do.
	Cell string
	// Fold is the first that has it, in cross-validation into Folds.
	Folds uint32
	Fold  name.Fold
	Split *spec.Split
	// Data says how the images are read. Normalization is left out unless it is
	// given, and Splits.
	Data   *spec.Data
	Files  data.Files // none if they are drawn
	Source string     // as it is named
	Layout string     // of a source without an experiment
	Masks  string     // the layout whose masks hold the values that these hold
	// Laid is how the source lies on disk, nil if images are drawn, and Named the number
	// of classes that its masks are read for, before any is merged; 0 of a source.
	Laid   *data.Layout
	Named  int
	Whole  bool // of ShiftedParts: the source is not divided
	Styles data.Files
	// Network is the file of the style network, and Look how that, or the folder
	// of Styles, is named.
	Network, Look string
	// Unused is what lies with the source and is not used.
	Unused []string
}

// Open serves the images as they are now.
func (p *Part) Open(ctx context.Context, x *data.Index) (*data.Set, error) {
	styles, err := p.Styles.Contents(ctx, x)
	if err != nil {
		return nil, err
	}
	if drawn := p.Split.GetProcedural(); drawn != nil {
		return data.OpenProcedural(drawn, p.Data, styles)
	}
	files, err := p.Files.Contents(ctx, x)
	if err != nil {
		return nil, err
	}
	return data.Open(files, p.Data, styles)
}

// Parts are the images that the cells of the experiment use, each once: what is
// trained, validated and tested on, and the domains. No backbone is needed.
func (e *Experiment) Parts() ([]Part, error) {
	x := e.expansion
	release, err := x.turn.take(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	var parts []Part
	add := func(cell, name, role string, d *dataConfig, wanted []string) error {
		places := &spec.Places{Files: map[string]*spec.Files{}}
		read, err := x.data(d, &backbone.Backbone{}, wanted, []string{role}, places)
		if err != nil {
			return err
		}
		p := Part{Experiment: e.Name, Name: name, Cell: cell, Folds: d.Split.Folds, Fold: d.Split.fold, Split: read.Splits[role], Data: read, Source: d.Source}
		read.Splits = nil
		p.Unused = x.resolve.unused(x.root, d)
		if layout := x.resolve.layout(d.sourceKey(x.root)); layout != nil {
			p.Masks, p.Laid, p.Named = layout.Masks(), layout, len(d.Classes)
		}
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
			p.Styles, p.Network, p.Look = files(read.Style.Digest), places.Networks[read.Style.Weights], d.look.name()
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
		seeds := x.seeds
		if !d.Split.Seed.run {
			seeds = seeds[:1] // all have the same
		}
		for _, repeat := range d.repeats(seeds) {
			cell, d := c.name, d.of(repeat)
			if c.config.Data.Split.Seed.run {
				cell += fmt.Sprintf(", seed %d", repeat.Seed)
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
		}
	}
	return parts, nil
}

// sourceFiles are the files of a source by part. Beside a data.ScanError they are
// returned all the same.
func sourceFiles(root, source string) (dir string, layout *data.Layout, parts map[string]data.Files, err error) {
	if dir, err = findData(root, source); err != nil {
		return "", nil, nil, withHint(err)
	}
	if layout, err = data.FindLayout(dir, "auto"); err != nil {
		return "", nil, nil, err
	}
	parts, err = layout.Parts(dir)
	return dir, layout, parts, err
}

// withHint is an error about a source with what helps against it, for those who
// have no file to point at.
func withHint(err error) error {
	var known *sourceError
	if errors.As(err, &known) && known.hint != "" {
		return fmt.Errorf("%s\n%s", known.message, known.hint)
	}
	return err
}

// sourceSize is the height and width at which a source without an experiment is
// shown.
const sourceSize = 224

// SourceParts are the images of a source, found as in an experiment. What its
// classes are is not known: every value of a mask is one of its own, but 255
// and what the layout ignores. Beside a data.ScanError, the parts are returned all the same.
func SourceParts(ctx context.Context, x *data.Index, root, source string) ([]Part, error) {
	dir, layout, found, err := sourceFiles(root, source)
	var unpaired *data.ScanError
	if err != nil && !errors.As(err, &unpaired) {
		return nil, err
	}
	colors := layout.Colors
	for _, f := range found {
		colors = colors || f.Colored()
	}
	var all []uint32
	for _, f := range found {
		for value := range data.Occurring(ctx, x, f, colors) {
			all = append(all, value)
		}
	}
	slices.Sort(all)
	d := &spec.Data{Height: sourceSize, Width: sourceSize, Values: map[uint32]int32{}, Colours: colors}
	for _, value := range slices.Compact(all) {
		if value == raster.Ignored && !colors || slices.Contains(layout.Ignored, value) {
			d.Values[value] = -1
			continue
		}
		d.Values[value] = int32(len(d.Classes))
		name := fmt.Sprintf("value %d", value)
		if colors {
			name = data.ColorName(value)
		}
		d.Classes = append(d.Classes, name)
	}
	var parts []Part
	for _, name := range append(slices.Clone(data.Roles), data.All) {
		if f, ok := found[name]; ok {
			digest, err := f.Digest(ctx, x)
			if err != nil {
				return nil, err
			}
			parts = append(parts, Part{Name: name, Data: d, Files: f, Source: source, Layout: layout.Name, Masks: layout.Masks(), Laid: layout, Unused: layout.Unused(dir), Split: &spec.Split{Digest: digest, Count: uint32(f.Len())}})
		}
	}
	if unpaired != nil {
		return parts, unpaired
	}
	return parts, nil
}

// Shifts are further domains of a source, as evaluate has them in a file.
type Shifts struct {
	Kinds      []string // corruptions or families of them
	Severities []int
	Styles     []string // kinds
	Images     string   // of styles
	Weights    string   // of a network
	Strength   float64
	Seed       uint64
}

// ShiftedParts are domains made of the test images of a source that is found as
// in an experiment; whole is for a source that is not divided, and takes all. The
// images keep their sizes.
func ShiftedParts(ctx context.Context, x *data.Index, root, source string, whole bool, s Shifts) ([]Part, error) {
	e, err := s.evaluate()
	if err != nil {
		return nil, err
	}
	_, layout, found, err := sourceFiles(root, source)
	if err != nil {
		return nil, err
	}
	name := "test"
	if f, undivided := found[data.All]; undivided {
		name = data.All
		if origin, err := data.ReadOrigin(f.Root); err != nil {
			return nil, err
		} else if origin.Part == "test" { // made of test images itself
			whole = true
		}
	}
	switch f := found[name]; {
	case name == data.All && !whole:
		return nil, fmt.Errorf("%s is not divided, so some of its images may be trained on\n--all takes all of them; of an experiment's file, the images that it tests on are taken", source)
	case name == "test" && whole:
		return nil, fmt.Errorf("%s has a test split, and the other images are there to be trained on\n--all is for sources that are not divided", source)
	case f.Len() == 0:
		return nil, fmt.Errorf("%s has no test images, and the others are there to be trained on", source)
	}
	digest, err := found[name].Digest(ctx, x)
	if err != nil {
		return nil, err
	}
	resolve := newResolver(ctx, Env{Index: x})
	var parts []Part
	for _, shifted := range e.shifted(&dataConfig{Source: source}) {
		p := Part{
			Name: shifted.name, Files: found[name], Source: source, Layout: layout.Name, Masks: layout.Masks(),
			Whole: name == data.All,
			Split: &spec.Split{Digest: digest, Count: uint32(found[name].Len())},
			Data:  &spec.Data{Corruption: shifted.data.corruption},
		}
		if look := shifted.data.look; look != nil {
			places := &spec.Places{Files: map[string]*spec.Files{}}
			if p.Data.Style, err = resolve.style(root, look, places); err != nil {
				return nil, withHint(err)
			}
			f := places.Files[p.Data.Style.Digest]
			p.Styles, p.Network, p.Look = data.Files{Root: f.GetRoot(), Images: f.GetImages()}, places.Networks[p.Data.Style.Weights], look.name()
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// evaluate is what a file would say.
func (s *Shifts) evaluate() (*evaluateConfig, error) {
	e := &evaluateConfig{}
	known := append(corrupt.Families(), corrupt.Kinds()...)
	for _, kind := range s.Kinds {
		if !slices.Contains(known, kind) {
			return nil, fmt.Errorf("there is no corruption %q\n%s", kind, diagnostic.Suggest(kind, "there are", known))
		}
	}
	for _, severity := range s.Severities {
		if severity < 1 || severity > corrupt.Severities {
			return nil, fmt.Errorf("severity %d: want 1 to %d", severity, corrupt.Severities)
		}
	}
	if len(s.Kinds) > 0 {
		e.Corruptions = &corruptionsConfig{Kinds: s.Kinds, Severities: s.Severities, Seed: s.Seed}
	}
	for _, kind := range s.Styles {
		known := []string{stylize.Network}
		for _, k := range stylize.Kinds() {
			known = append(known, written(k))
		}
		if !slices.Contains(known, kind) {
			hint := cmp.Or(renamed([]string{"evaluate", "styles", kind, "kind"}, kind), diagnostic.Suggest(kind, "there are", known))
			return nil, fmt.Errorf("there is no style %q\n%s", kind, hint)
		}
		if err := stylize.Check(recorded(kind), s.Strength); err != nil {
			return nil, err
		}
		look := lookConfig{Kind: kind, Images: s.Images, Strength: s.Strength, Seed: s.Seed}
		name := kind
		switch {
		case kind != stylize.Network && s.Images == "":
			return nil, fmt.Errorf("style %q needs images to take the look of\npass --images DIR", kind)
		case kind == stylize.Network && s.Weights == "":
			return nil, fmt.Errorf("style %q needs the weights of its network\npass --weights FILE", kind)
		case kind == stylize.Network:
			look.Images, look.Weights = "", s.Weights
			name = strings.TrimSuffix(filepath.Base(s.Weights), filepath.Ext(s.Weights))
		}
		e.Styles = append(e.Styles, namedLook{name, look})
	}
	return e, nil
}
