package experiment

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
)

// Folds of a cross-validation: which images the runs of a fold have.

// dealt are all images of a source by fold.
type dealt struct {
	folds    []data.Files
	unlisted data.Files
}

// fold is the images of the runs of one fold by role.
func (r *resolver) fold(key scanKey) (parts, error) {
	all := key
	all.split.fold, all.split.Fold = name.Fold{}, ""
	d, err := r.dealt.get(r.ctx, all, func() (dealt, error) { return r.deal(all) })
	if err != nil {
		return nil, err
	}
	n, _ := key.split.fold.Number()
	p := parts{"test": d.folds[n], unlisted: d.unlisted}
	p["train"], p["val"] = key.split.validation(slices.Concat(d.folds[n+1:], d.folds[:n]))
	if p["val"].Len() == 0 {
		what := "image"
		if key.split.Group != "" {
			what = "group"
		}
		return nil, &sourceError{
			message: fmt.Sprintf("outside of fold %d of %q is a single %s, to train and to validate on", n, key.source, what),
			hint:    "take more folds, or more " + what + "s", field: "split.folds",
		}
	}
	return p, nil
}

// joined puts files of one folder together.
func joined(list []data.Files) data.Files {
	if len(list) == 0 {
		return data.Files{}
	}
	all := parts{}
	for i, f := range list {
		all[strconv.Itoa(i)] = f
	}
	return data.Pool(list[0].Root, all)
}

// validation divides the images outside of a fold, which are the folds that follow it
// in a circle. Validation takes its fraction from the first of them, so that every
// image is trained on in other folds. It has a group at least, or an image; and
// nothing where one is all there is.
func (s *splitConfig) validation(others []data.Files) (train, val data.Files) {
	n := 0
	for _, f := range others {
		n += f.Len()
	}
	need := min(max(1, int(math.Round(float64(s.Val)/(s.Train+float64(s.Val))*float64(n)))), n-1)
	var trains, vals []data.Files
	for i, f := range others {
		last := i == len(others)-1
		switch {
		case need <= 0:
			trains = append(trains, f)
		case f.Len() <= need && !last:
			vals = append(vals, f)
			need -= f.Len()
		default:
			in, out := s.apart(f, float64(need)/float64(f.Len()), len(vals) == 0, last && len(trains) == 0)
			vals, trains = append(vals, in), append(trains, out)
			need = 0
		}
	}
	return joined(trains), joined(vals)
}

// apart cuts a fraction from files. Some says that it has to have a group or an image,
// and leave that it has to leave one; where there is one alone, some counts if leave
// does not.
func (s *splitConfig) apart(f data.Files, fraction float64, some, leave bool) (in, out data.Files) {
	cut := s.cut(f, fraction, 1-fraction)
	if in, out = cut[0], cut[1]; in.Len() > 0 && out.Len() > 0 || in.Len() == 0 && !some || out.Len() == 0 && !leave {
		return in, out
	}
	count := f.Units(s.Group)
	units, err := f.Folds(count, s.Seed.number, s.Group, "")
	if err != nil {
		panic(err) // there are that many
	}
	smallest := units[count-1]
	switch {
	case count == 1 && leave:
		return data.Files{Root: f.Root}, f
	case count == 1:
		return f, data.Files{Root: f.Root}
	case in.Len() == 0:
		return smallest, joined(units[:count-1])
	}
	return joined(units[:count-1]), smallest
}

// deal finds the files of a source and deals them out, or reads where they belong.
func (r *resolver) deal(key scanKey) (dealt, error) {
	dir, there, err := key.find()
	if err != nil {
		return dealt{}, err
	}
	pool, s := data.Pool(dir, there), key.split
	if s.From != "" {
		return r.listedFolds(key, pool)
	}
	folds, err := pool.Folds(int(s.Folds), s.Seed.number, s.Group, s.Stratify)
	if err != nil {
		return dealt{}, &sourceError{
			message: fmt.Sprintf("%q cannot be divided: %v", key.source, err),
			hint:    fmt.Sprintf("write folds: %d or fewer", pool.Units(s.Group)), field: "split.folds",
		}
	}
	return dealt{folds: folds}, nil
}

// listedFolds are those of data.split.from.
func (r *resolver) listedFolds(key scanKey, pool data.Files) (dealt, error) {
	p, err := listed(r.ctx, r.index, key, pool, data.ReadFolds)
	if err != nil {
		return dealt{}, err
	}
	d := dealt{unlisted: p[unlisted]}
	for i := range int(key.split.Folds) {
		f, has := p[strconv.Itoa(i)]
		if !has {
			return dealt{}, unlikeList(key, "has no fold %d", i)
		}
		d.folds = append(d.folds, f)
	}
	if more := strconv.Itoa(len(d.folds)); p[more].Len() > 0 {
		return dealt{}, unlikeList(key, "has a fold %d", len(d.folds))
	}
	return d, nil
}

func unlikeList(key scanKey, format string, fold int) error {
	return &sourceError{
		message: fmt.Sprintf("%s "+format+", and data.split.folds is %d", key.split.From, fold, key.split.Folds),
		hint:    "folds are numbered from 0 on, and the list has all of them", field: "split.folds",
	}
}
