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

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
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
type sourceError struct {
	message, hint string
	field         string // of data, that is wrong; "" for the source
}

func (e *sourceError) Error() string { return e.message }

// A placeKey is a name in an experiment of something that is looked for from root.
type placeKey struct{ root, name string }

// A sourceKey decides which files a source has.
type sourceKey struct{ root, source, layout string }

// A scanKey decides how they are divided.
type scanKey struct {
	sourceKey
	split splitConfig
	// fraction of the data, where it counts before the parts are cut.
	fraction float64
	// domain says that all files are wanted for testing.
	domain bool
}

// A splitKey decides which of them a run reads in a role.
type splitKey struct {
	scanKey
	role  string
	limit limitConfig
	// sampled is the fraction of the training images that is drawn.
	sampled float64
}

// A countKey is files by their content, and whether their masks are colors.
type countKey struct {
	digest string
	colors bool
}

// A mistakeKey is files by their content, and what their masks are taken for.
type mistakeKey struct {
	digest  string
	layout  *data.Layout
	colors  bool
	classes int
}

// A pairKey is two splits by their content.
type pairKey struct{ train, test string }

// A readKey is files, and how they are read. Those with the same content differ in
// the names that messages have.
type readKey struct{ digest, root, first, data string }

func (f files) readKey(d *spec.Data) readKey {
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(d) // fails for invalid UTF-8 alone, which checkNames refuses
	return readKey{f.split.GetDigest(), f.files.Root, f.files.Images[0], string(text)}
}

func (d *dataConfig) sourceKey(root string) sourceKey { return sourceKey{root, d.Source, d.Layout} }

func (d *dataConfig) scanKey(root string, wanted []string) scanKey {
	key := scanKey{sourceKey: d.sourceKey(root), split: d.Split, domain: len(wanted) == 1}
	if key.domain {
		key.split.Folds, key.split.Fold, key.split.fold = 0, "", name.Fold{}
	}
	if d.Split.likeOriginal() {
		key.fraction = d.Fraction
	}
	return key
}

func (d *dataConfig) splitKey(root string, wanted []string, role string) splitKey {
	key := splitKey{scanKey: d.scanKey(root, wanted), role: role, limit: d.Limit, sampled: 1}
	if role == "train" && !d.Split.likeOriginal() {
		key.sampled = d.Fraction
	}
	return key
}

// wanted are the roles that files are looked for.
func (k *scanKey) wanted() []string {
	if k.domain {
		return []string{"test"}
	}
	return roles
}

// scan finds the files of a source and divides them.
func (r *resolver) scan(key scanKey) (parts, error) {
	return r.scans.get(r.ctx, key, func() (parts, error) {
		if key.split.Folds > 0 {
			return r.fold(key)
		}
		return scan(r.ctx, r.index, key)
	})
}

// find looks for the files of a source; they lie below dir.
func (key sourceKey) find() (dir string, there parts, err error) {
	if dir, err = findData(key.root, key.source); err != nil {
		return "", nil, err
	}
	layout, err := data.FindLayout(dir, key.layout)
	if err != nil {
		hint := "leave data.layout out to have the layout recognized"
		if key.layout == "auto" {
			hint = "runner help data says what each layout has"
		}
		return "", nil, &sourceError{message: err.Error(), hint: hint}
	}
	there, err = layout.Parts(dir)
	return dir, there, err
}

func scan(ctx context.Context, x *data.Index, key scanKey) (parts, error) {
	dir, there, err := key.find()
	if err != nil {
		return nil, err
	}
	p := parts{}
	if key.split.From != "" && !key.domain {
		if there, err = listed(ctx, x, key, data.Pool(dir, there), data.ReadParts); err != nil {
			return nil, err
		}
		p[unlisted] = there[unlisted]
	}
	fraction, wanted := key.split, key.wanted()
	val := float64(fraction.Val)
	if whole, ok := there[data.All]; ok && key.domain { // which is scored as a whole
		p["test"] = whole
	} else if fraction.likeOriginal() && !key.domain {
		if !ok {
			whole = data.Pool(dir, there)
		}
		for i, part := range whole.SplitOriginal(fraction.Seed.number, key.fraction, val, fraction.Test) {
			p[roles[i]] = part
		}
	} else if ok {
		cut := fraction.cut(whole, fraction.Train, val, fraction.Test)
		for i, role := range roles {
			p[role] = cut[i]
		}
	} else {
		for _, role := range wanted {
			p[role] = there[role]
		}
		// A source with no val/ gives some of train/.
		if p["val"].Len() == 0 && p["train"].Len() > 0 && val > 0 && slices.Contains(wanted, "val") {
			cut := fraction.cut(p["train"], fraction.Train/(fraction.Train+val), val/(fraction.Train+val))
			p["train"], p["val"] = cut[0], cut[1]
		}
	}
	if val == 0 && slices.Contains(wanted, "val") && p["val"].Len() == 0 {
		p["val"] = p["test"] // which is reported if it is empty
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(role string) bool { return role == "val" })
	}
	for _, role := range wanted {
		if p[role].Len() == 0 {
			return nil, emptyPart(key, there, role)
		}
	}
	return p, nil
}

// unlisted are the images that a list of the parts leaves out.
const unlisted = "unlisted"

// listed are the files of a source by part as a list has them, which read reads.
func listed(ctx context.Context, x *data.Index, key scanKey, pool data.Files, read func(string) (data.Listed, error)) (parts, error) {
	from := key.split.From
	if !filepath.IsAbs(from) {
		from = filepath.Join(key.root, from)
	}
	lists, err := read(from)
	if err != nil {
		hint := "data.split.from is a CSV file, or a folder with train.txt, val.txt and test.txt, found from the project's directory"
		if key.split.Folds > 0 {
			hint = `with folds, data.split.from is a CSV file with the columns image and fold, as "runner data split" writes it, found from the project's directory`
		}
		return nil, &sourceError{message: fmt.Sprintf("%q cannot be divided: %v", key.source, err), hint: hint}
	}
	p, rest, err := pool.Divide(lists)
	if err != nil {
		return nil, &sourceError{message: fmt.Sprintf("%q cannot be divided: %v", key.source, err), hint: "a line names an image of the source by its stem or its path, and no image is listed twice"}
	}
	if err := pool.Compare(ctx, x, lists); err != nil {
		return nil, &sourceError{message: fmt.Sprintf("%q is not the data that was divided: %v", key.source, err), hint: "restore the files, or remove the columns of SHA-256 from the list: it then fits any content"}
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
	if layout := r.layout(d.sourceKey(root)); layout != nil {
		t.colors = layout.Colors
		t.values, t.fault = layout.Label(t.values, len(d.Classes))
	}
	return t
}

// layout is that of a source; nil of one that cannot be found, or is drawn.
func (r *resolver) layout(key sourceKey) *data.Layout {
	if key.source == procedural {
		return nil
	}
	layout, _ := r.layouts.get(r.ctx, key, func() (*data.Layout, error) {
		dir, err := findData(key.root, key.source)
		if err != nil {
			return nil, err
		}
		return data.FindLayout(dir, key.layout)
	})
	return layout
}

// findData is findSource with a word about what is not found.
func findData(root, source string) (string, error) {
	if source == procedural {
		return "", &sourceError{message: fmt.Sprintf("%q is drawn, and has no files", source), hint: "name a data set with files"}
	}
	dir, places, ok := findSource(root, source)
	if !ok {
		for _, p := range places {
			// A link is no source of another name.
			if to, err := os.Readlink(p); err == nil {
				if _, err := os.Stat(p); err != nil {
					return "", &sourceError{message: fmt.Sprintf("there is no data %q: %s is a link to %s, which is not there", source, p, to), hint: "restore what the link leads to, or make the link again"}
				}
			}
		}
		hint := "it was looked for in " + lookedIn(root, places)
		if near := diagnostic.DidYouMean(source, sources(root)); near != "" {
			hint = fmt.Sprintf("did you mean %q? Otherwise: %s", near, hint)
		}
		return "", &sourceError{message: fmt.Sprintf("there is no data %q", source), hint: hint}
	}
	return dir, nil
}

// lookedIn lists places, those of the project from its root, each once: LORALAB_DATA
// may name the folder of the project.
func lookedIn(root string, places []string) string {
	var short []string
	for _, place := range places {
		place = filepath.Clean(place)
		if rel, err := filepath.Rel(root, place); err == nil && filepath.IsLocal(rel) {
			place = rel
		}
		if !slices.Contains(short, place) {
			short = append(short, place)
		}
	}
	return strings.Join(short, ", ")
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
	key := d.splitKey(root, wanted, role)
	return r.splits.get(r.ctx, key, func() (files, error) {
		p, err := r.scan(key.scanKey)
		if err != nil {
			return files{}, err
		}
		f := p[key.role]
		if n := key.taken(f.Len()); n < f.Len() {
			f = f.Sample(n, key.limit.Seed)
		}
		digest, err := f.Digest(r.ctx, r.index)
		return files{&spec.Split{Digest: digest, Count: uint32(f.Len())}, f}, err
	})
}

// taken is how many of n images are taken.
func (k *splitKey) taken(n int) int {
	if limit := map[string]uint32{"train": k.limit.Train, "val": k.limit.Val, "test": k.limit.Test}[k.role]; limit > 0 {
		n = min(n, int(limit))
	}
	if k.sampled < 1 {
		n = max(1, int(math.Round(k.sampled*float64(n))))
	}
	return n
}

// draw is a split of the procedural set. Roles draw other shapes; another
// style draws the same shapes.
func (d *dataConfig) draw(role string) files {
	p := d.Procedural
	i := slices.Index(roles, role)
	key := d.splitKey("", roles, role)
	count := uint32(key.taken(int([]uint32{p.Train, p.Val, p.Test}[i])))
	drawn := &spec.Procedural{Seed: p.Seed*uint64(len(roles)) + uint64(i), Count: count, Size: p.Size}
	if p.Style != "plain" {
		drawn.Style = p.Style
	}
	return files{split: &spec.Split{Digest: data.ProceduralDigest(drawn), Count: count, Procedural: drawn}}
}

// checkSource is what is wrong with a source, or with a field of data that divides it;
// nil if nothing is.
func (r *resolver) checkSource(root string, d *dataConfig, wanted []string) *sourceError {
	var faulty []string // parts
	var faults string
	for _, role := range wanted {
		s, err := r.split(root, d, wanted, role)
		if err != nil {
			var known *sourceError
			if errors.As(err, &known) {
				return known
			}
			hint := ""
			var scan *data.ScanError
			if errors.As(err, &scan) {
				hint = fmt.Sprintf("runner data check %s lists all that is wrong with the files", d.Source)
			}
			return &sourceError{message: fmt.Sprintf("data %q cannot be used: %v", d.Source, err), hint: hint}
		}
		if s.split.GetProcedural() != nil {
			continue
		}
		t := r.training(root, d)
		if t.fault != nil {
			return &sourceError{message: t.fault.Error(), hint: "name as many in data.classes, or give the color of each in data.colors"}
		}
		if !r.check {
			continue
		}
		if layout := r.layout(d.sourceKey(root)); layout != nil {
			key := mistakeKey{s.split.GetDigest(), layout, t.colors, len(d.Classes)}
			mistake, _ := r.mistakes.get(r.ctx, key, func() (string, error) {
				return layout.Mistake(r.ctx, r.index, s.files, key.colors, key.classes), r.ctx.Err()
			})
			if mistake != "" {
				return &sourceError{message: fmt.Sprintf("data %q cannot be used: of %s, %s", d.Source, role, mistake), hint: "runner help data says which masks each layout has"}
			}
		}
		read := t.data()
		text, _ := r.checked.get(r.ctx, s.readKey(read), func() (string, error) {
			return problems(data.Check(r.ctx, r.index, s.files, read)), r.ctx.Err()
		})
		if text != "" {
			faulty, faults = append(faulty, role), faults+text
		}
	}
	if len(faulty) > 0 {
		return &sourceError{
			message: fmt.Sprintf("files of %q (%s) cannot be used:%s", d.Source, strings.Join(faulty, ", "), faults),
			hint:    "repair or remove them; a mask holds the index of a class in data.classes, or data.ignore, and data.colors gives a class to other values, such as \"#ffffff\" in black and white",
		}
	}
	return nil
}

// occurring counts the masks of a part of the data in which each value occurs,
// and all of them.
func (r *resolver) occurring(root string, d *dataConfig, role string) (map[uint32]int, int, error) {
	s, err := r.split(root, d, roles, role)
	if err != nil {
		return nil, 0, err
	}
	key := countKey{s.split.GetDigest(), r.training(root, d).colors}
	counts, err := r.counted.get(r.ctx, key, func() (map[uint32]int, error) {
		return data.Occurring(r.ctx, r.index, s.files, key.colors), r.ctx.Err()
	})
	return counts, s.files.Len(), err
}

// unlisted counts the images of the data that a list of the parts leaves out.
func (r *resolver) unlisted(root string, d *dataConfig) int {
	if d.Source == procedural || d.Split.From == "" {
		return 0
	}
	p, err := r.scan(d.scanKey(root, roles))
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

// overlap counts the images of a domain, and those of them that are by their content
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
	n, err = r.repeated.get(r.ctx, pairKey{train.split.GetDigest(), test.split.GetDigest()}, func() (int, error) {
		same, err := test.files.Repeated(r.ctx, r.index, train.files)
		return len(same), err
	})
	return n, test.files.Len(), err
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
	look, err := r.looks.get(r.ctx, placeKey{root, folder}, func() (look styleFiles, err error) {
		dir, tried, there := findSource(root, folder)
		if !there {
			return look, fmt.Errorf("there is no folder %s; looked for in %s", folder, lookedIn(root, tried))
		}
		if look.files, err = data.ScanImages(dir); err == nil {
			look.digest, err = look.files.Digest(r.ctx, r.index)
		}
		return look, err
	})
	return look.files, look.digest, err
}

// network finds the weights of a style network, of the right form, and their
// digest.
func (r *resolver) network(root, weights string) (styleNetwork, error) {
	return r.nets.get(r.ctx, placeKey{root, weights}, func() (styleNetwork, error) { return findNetwork(root, weights) })
}

func findNetwork(root, weights string) (styleNetwork, error) {
	path, tried, there := findPlace(root, weights, fs.FileMode.IsRegular)
	if !there {
		return styleNetwork{}, &sourceError{message: fmt.Sprintf("there is no file %s", weights), hint: "it was looked for in " + lookedIn(root, tried)}
	}
	net, err := stylize.OpenNetwork(path)
	var pickled *stylize.PickledError
	switch {
	case errors.As(err, &pickled):
		return styleNetwork{}, &sourceError{message: pickled.Error(), hint: pickled.Cure()}
	case err != nil:
		return styleNetwork{}, err
	}
	return styleNetwork{path, net.Sum()}, nil
}
