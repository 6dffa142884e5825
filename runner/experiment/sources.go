package experiment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
	"github.com/loralab/loralab/runner/diagnostic"
)

// Sources of images: where they lie, how they are divided, and what is wrong with
// them.

// styleFiles are images to take a look from.
type styleFiles struct {
	files  data.Files
	digest string
}

// styleNetwork is the file of a style network.
type styleNetwork struct{ path, digest string }

const procedural = "procedural" // the source that is drawn

// parts are the files of a source by role.
type parts map[string]data.Files

// files is one split, resolved.
type files struct {
	split *spec.Split
	files data.Files
}

var roles = []string{"train", "val", "test"}

// data is the configuration that a domain is read with.
func (d *domainConfig) data(base *dataConfig) dataConfig {
	m := d.merged(base)
	m.Source, m.Layout = d.Source, "auto"
	m.Limit = limitConfig{Test: d.Limit, Seed: d.Seed}
	m.Procedural.Style = d.Style
	m.Procedural.Seed = d.Seed
	return m
}

// findSource is the directory of a source, absolute.
func findSource(root, source string) (string, []string, bool) {
	return findPlace(root, source, fs.FileMode.IsDir)
}

// findPlace is where something of a kind lies that an experiment names, and all
// places where it was looked for.
func findPlace(root, source string, is func(fs.FileMode) bool) (string, []string, bool) {
	var places []string
	if filepath.IsAbs(source) {
		places = []string{source}
	} else {
		places = []string{filepath.Join(root, source), filepath.Join(root, "data", source)}
		if dir := os.Getenv("LORALAB_DATA"); dir != "" {
			places = append(places, filepath.Join(dir, source))
		}
		if exe, err := os.Executable(); err == nil {
			if real, err := filepath.EvalSymlinks(exe); err == nil {
				exe = real
			}
			places = append(places, filepath.Join(filepath.Dir(exe), "..", "data", source))
		}
	}
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && is(info.Mode()) {
			return p, places, true
		}
	}
	return "", places, false
}

// sourceError is a source that cannot be used.
type sourceError struct{ message, hint string }

func (e *sourceError) Error() string { return e.message }

// scan finds the files of a source and divides them.
func (r *resolver) scan(root string, d *dataConfig, roles []string) (parts, error) {
	key := fmt.Sprintf("%q %q %s %+v %v", root, d.Source, d.Layout, d.Split, roles)
	if d.Split.likeOriginal() {
		key += fmt.Sprint(d.Fraction) // counts there
	}
	if a, ok := r.scans[key]; ok {
		return a.value, a.err
	}
	p, err := scan(r.ctx, r.index, root, d, roles)
	r.scans[key] = answer[parts]{p, err}
	return p, err
}

func scan(ctx context.Context, x *data.Index, root string, d *dataConfig, wanted []string) (parts, error) {
	dir, err := findData(root, d.Source)
	if err != nil {
		return nil, err
	}
	layout, err := data.FindLayout(dir, d.Layout)
	if err != nil {
		return nil, &sourceError{err.Error(), `leave data.layout out to have the layout recognised`}
	}
	there, err := layout.Parts(dir)
	if err != nil {
		return nil, err
	}
	p := parts{}
	if d.Split.From != "" && len(wanted) > 1 {
		if there, err = listed(ctx, x, root, dir, d, there); err != nil {
			return nil, err
		}
		p[unlisted] = there[unlisted]
	}
	fraction := d.Split
	if whole, ok := there[data.All]; ok && len(wanted) == 1 { // a domain is scored as a whole
		p[wanted[0]] = whole
	} else if fraction.likeOriginal() && len(wanted) > 1 {
		if !ok {
			whole = data.Pool(dir, there)
		}
		for i, part := range whole.SplitOriginal(fraction.Seed.number, d.Fraction, fraction.Val, fraction.Test) {
			p[roles[i]] = part
		}
	} else if ok {
		cut := fraction.cut(whole, fraction.Train, fraction.Val, fraction.Test)
		for i, role := range roles {
			p[role] = cut[i]
		}
	} else {
		for _, role := range wanted {
			p[role] = there[role]
		}
		// A source with no val/ gives some of train/.
		if p["val"].Len() == 0 && p["train"].Len() > 0 && slices.Contains(wanted, "val") {
			cut := fraction.cut(p["train"], fraction.Train/(fraction.Train+fraction.Val), fraction.Val/(fraction.Train+fraction.Val))
			p["train"], p["val"] = cut[0], cut[1]
		}
	}
	for _, role := range wanted {
		if p[role].Len() == 0 {
			return nil, &sourceError{
				fmt.Sprintf("%q has no images for %s", d.Source, role),
				fmt.Sprintf("%s needs %s/images and %s/masks, or images and masks enough to divide", dir, role, role),
			}
		}
	}
	return p, nil
}

// unlisted are the images that a list of the parts leaves out.
const unlisted = "unlisted"

// listed are the files of a source by part as a list has them.
func listed(ctx context.Context, x *data.Index, root, dir string, d *dataConfig, there parts) (parts, error) {
	from := d.Split.From
	if !filepath.IsAbs(from) {
		from = filepath.Join(root, from)
	}
	lists, err := data.ReadParts(from)
	if err != nil {
		return nil, &sourceError{fmt.Sprintf("%q cannot be divided: %v", d.Source, err), "data.split.from is a CSV file, or a folder with train.txt, val.txt and test.txt, found from the project's directory"}
	}
	pool := data.Pool(dir, there)
	p, rest, err := pool.Divide(lists)
	if err != nil {
		return nil, &sourceError{fmt.Sprintf("%q cannot be divided: %v", d.Source, err), "a line names an image of the source by its stem or its path, and no image is listed twice"}
	}
	if err := pool.Compare(ctx, x, lists); err != nil {
		return nil, &sourceError{fmt.Sprintf("%q is not the data that was divided: %v", d.Source, err), "restore the files, or remove the columns of SHA-256 from the list: it then fits any content"}
	}
	p[unlisted] = rest
	return p, nil
}

// training is what becomes of the values of the masks of a source. One that
// cannot be found, which is reported at the source, leaves them as they are.
func (r *resolver) training(root string, d *dataConfig) training {
	t := mergeClasses(d.Classes, d.Remap, d.Ignore)
	if len(d.Colors) > 0 && d.Source != procedural {
		return t.colored(d.Classes, d.Colors)
	}
	if layout := r.layout(root, d); layout != nil {
		t.colors = layout.Colors
		t.values, t.fault = layout.Label(t.values, len(d.Classes))
	}
	return t
}

// layout is that of a source; nil of one that cannot be found, or is drawn.
func (r *resolver) layout(root string, d *dataConfig) *data.Layout {
	if d.Source == procedural {
		return nil
	}
	key := fmt.Sprintf("%q %q %s", root, d.Source, d.Layout)
	layout, ok := r.layouts[key]
	if !ok {
		if dir, err := findData(root, d.Source); err == nil {
			layout, _ = data.FindLayout(dir, d.Layout)
		}
		r.layouts[key] = layout
	}
	return layout
}

// findData is findSource with a word about what is not found.
func findData(root, source string) (string, error) {
	dir, places, ok := findSource(root, source)
	if !ok {
		for _, p := range places {
			// A link is no source of another name.
			if to, err := os.Readlink(p); err == nil {
				if _, err := os.Stat(p); err != nil {
					return "", &sourceError{fmt.Sprintf("there is no data %q: %s is a link to %s, which is not there", source, p, to), "restore what the link leads to, or make the link again"}
				}
			}
		}
		hint := "it was looked for in " + strings.Join(places, ", ")
		if near := diagnostic.DidYouMean(source, sources(root)); near != "" {
			hint = fmt.Sprintf("did you mean %q? Otherwise: %s", near, hint)
		}
		return "", &sourceError{fmt.Sprintf("there is no data %q", source), hint}
	}
	return dir, nil
}

// sources are the data sets below the project's data folder, for suggestions.
func sources(root string) []string {
	found := []string{procedural}
	for _, pattern := range []string{"*", "*/*"} {
		matches, _ := filepath.Glob(filepath.Join(root, "data", pattern))
		for _, m := range matches {
			if rel, err := filepath.Rel(filepath.Join(root, "data"), m); err == nil {
				found = append(found, filepath.ToSlash(rel))
			}
		}
	}
	return found
}

// split is one split with its digest.
func (r *resolver) split(root string, d *dataConfig, wanted []string, role string) (files, error) {
	if d.Source == procedural {
		return d.draw(role), nil
	}
	key := fmt.Sprintf("%q %q %s %+v %v %s %v %v", root, d.Source, d.Layout, d.Split, wanted, role, d.Fraction, d.Limit)
	if a, ok := r.splits[key]; ok {
		return a.value, a.err
	}
	a := func() (a answer[files]) {
		p, err := r.scan(root, d, wanted)
		if err != nil {
			a.err = err
			return a
		}
		f := p[role]
		if n := d.taken(role, f.Len()); n < f.Len() {
			f = f.Sample(n, d.Limit.Seed)
		}
		digest, err := f.Digest(r.ctx, r.index)
		a.value, a.err = files{&spec.Split{Digest: digest, Count: uint32(f.Len())}, f}, err
		return a
	}()
	r.splits[key] = a
	return a.value, a.err
}

// taken is how many of n images of a role are taken.
func (d *dataConfig) taken(role string, n int) int {
	if limit := map[string]uint32{"train": d.Limit.Train, "val": d.Limit.Val, "test": d.Limit.Test}[role]; limit > 0 {
		n = min(n, int(limit))
	}
	if role == "train" && d.Fraction < 1 && !d.Split.likeOriginal() {
		n = max(1, int(math.Round(d.Fraction*float64(n))))
	}
	return n
}

// draw is a split of the procedural set. Roles draw other shapes; another
// style draws the same shapes.
func (d *dataConfig) draw(role string) files {
	p := d.Procedural
	i := slices.Index(roles, role)
	count := uint32(d.taken(role, int([]uint32{p.Train, p.Val, p.Test}[i])))
	drawn := &spec.Procedural{Seed: p.Seed*uint64(len(roles)) + uint64(i), Count: count, Size: p.Size}
	if p.Style != "plain" {
		drawn.Style = p.Style
	}
	return files{split: &spec.Split{Digest: data.ProceduralDigest(drawn), Count: count, Procedural: drawn}}
}

// checkSource is what is wrong with a source, if anything.
func (r *resolver) checkSource(root string, d *dataConfig, wanted []string) (message, hint string) {
	var faulty []string // parts
	var faults string
	for _, role := range wanted {
		s, err := r.split(root, d, wanted, role)
		if err != nil {
			var known *sourceError
			if errors.As(err, &known) {
				return known.message, known.hint
			}
			hint := ""
			var scan *data.ScanError
			if errors.As(err, &scan) {
				hint = fmt.Sprintf("runner data check %s lists all that is wrong with the files", d.Source)
			}
			return fmt.Sprintf("data %q cannot be used: %v", d.Source, err), hint
		}
		if s.split.GetProcedural() != nil {
			continue
		}
		t := r.training(root, d)
		if t.fault != nil {
			return t.fault.Error(), "name as many in data.classes, or give the color of each in data.colors"
		}
		if !r.check {
			continue
		}
		// Parts with the same contents differ in the files that are at fault.
		key := fmt.Sprint(s.split.GetDigest(), s.files.Root, s.files.Images[0], t.values, t.colors)
		text, ok := r.checked[key]
		if !ok {
			text = problems(data.Check(r.ctx, r.index, s.files, t.data()))
			r.checked[key] = text
		}
		if text != "" {
			faulty, faults = append(faulty, role), faults+text
		}
	}
	if len(faulty) > 0 {
		return fmt.Sprintf("files of %q (%s) cannot be used:%s", d.Source, strings.Join(faulty, ", "), faults),
			"repair or remove them; a mask holds the index of a class in data.classes, or data.ignore, and data.colors gives a class to other values, such as \"#ffffff\" in black and white"
	}
	return "", ""
}

// occurring counts the masks of a part of the data in which each value occurs,
// and all of them.
func (r *resolver) occurring(root string, d *dataConfig, role string) (map[uint32]int, int, error) {
	s, err := r.split(root, d, roles, role)
	if err != nil {
		return nil, 0, err
	}
	colors := r.training(root, d).colors
	key := fmt.Sprint(s.split.GetDigest(), colors)
	counts, ok := r.counted[key]
	if !ok {
		counts = data.Occurring(r.ctx, r.index, s.files, colors)
		r.counted[key] = counts
	}
	return counts, s.files.Len(), nil
}

// unlisted counts the images of the data that a list of the parts leaves out.
func (r *resolver) unlisted(root string, d *dataConfig) int {
	if d.Source == procedural || d.Split.From == "" {
		return 0
	}
	p, err := r.scan(root, d, roles)
	if err != nil {
		return 0 // reported at the source
	}
	return p[unlisted].Len()
}

// shared counts the images of a domain that are also trained on.
func (r *resolver) shared(root string, d, domain *dataConfig) int {
	if d.Source == "" || d.Source == procedural || domain.Source == procedural {
		return 0
	}
	test, err := r.split(root, domain, []string{"test"}, "test")
	train, err2 := r.split(root, d, roles, "train")
	if err != nil || err2 != nil || test.files.Root != train.files.Root {
		return 0
	}
	n := 0
	for _, image := range test.files.Images {
		if _, found := slices.BinarySearch(train.files.Images, image); found {
			n++
		}
	}
	return n
}

// overlap counts the images of a domain, of so many, that are by their content
// among those trained on, or were made of such. Only what is known anyway is
// compared: the sums of files that make the digests of splits.
func (r *resolver) overlap(root string, d, domain *dataConfig) (n, of int, err error) {
	if d.Source == "" || d.Source == procedural || domain.Source == procedural {
		return 0, 0, nil
	}
	wanted := []string{"test"}
	if domain == d {
		wanted = roles
	}
	test, err := r.split(root, domain, wanted, "test")
	if err != nil {
		return 0, 0, err
	}
	train, err := r.split(root, d, roles, "train")
	if err != nil {
		return 0, 0, err
	}
	key := [2]string{train.split.GetDigest(), test.split.GetDigest()}
	n, known := r.repeated[key]
	if !known {
		same, err := test.files.Repeated(r.ctx, r.index, train.files)
		if err != nil {
			return 0, 0, err
		}
		n = len(same)
		r.repeated[key] = n
	}
	return n, test.files.Len(), nil
}

// problems lists the first files at fault.
func problems(found []data.Problem) string {
	const most = 10
	var b strings.Builder
	for i, p := range found {
		if i == most {
			fmt.Fprintf(&b, "\n    and %d more", len(found)-most)
			break
		}
		b.WriteString("\n    " + p.String())
	}
	return b.String()
}

// look finds images to take a look from, and their digest.
func (r *resolver) look(root, folder string) (data.Files, string, error) {
	a, ok := r.looks[folder]
	if !ok {
		dir, tried, there := findSource(root, folder)
		if !there {
			a.err = fmt.Errorf("there is no folder %s; looked for %s", folder, strings.Join(tried, ", "))
		} else if a.value.files, a.err = data.ScanImages(dir); a.err == nil {
			a.value.digest, a.err = a.value.files.Digest(r.ctx, r.index)
		}
		r.looks[folder] = a
	}
	return a.value.files, a.value.digest, a.err
}

// network finds the weights of a style network, of the right form, and their
// digest.
func (r *resolver) network(root, weights string) (styleNetwork, error) {
	a, ok := r.nets[weights]
	if !ok {
		a.value, a.err = findNetwork(root, weights)
		r.nets[weights] = a
	}
	return a.value, a.err
}

func findNetwork(root, weights string) (styleNetwork, error) {
	path, tried, there := findPlace(root, weights, fs.FileMode.IsRegular)
	if !there {
		return styleNetwork{}, &sourceError{fmt.Sprintf("there is no file %s", weights), "it was looked for in " + strings.Join(tried, ", ")}
	}
	net, err := stylize.OpenNetwork(path)
	var pickled *stylize.PickledError
	switch {
	case errors.As(err, &pickled):
		return styleNetwork{}, &sourceError{pickled.Error(), pickled.Cure()}
	case err != nil:
		return styleNetwork{}, err
	}
	return styleNetwork{path, net.Sum()}, nil
}
