package name

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
)

// A Fold is a fold of a cross-validation, by its number from 0 on. The zero value is
// none. In JSON it is the number, or null.
type Fold struct{ after uint32 } // the number and 1

// NewFold is the fold with a number.
func NewFold(number uint32) Fold { return Fold{number + 1} }

// Number is the number of a fold; false for none.
func (f Fold) Number() (uint32, bool) { return max(f.after, 1) - 1, f.after > 0 }

// IsZero reports whether it is no fold.
func (f Fold) IsZero() bool { return f.after == 0 }

// String is the number, "" for none.
func (f Fold) String() string {
	if n, ok := f.Number(); ok {
		return strconv.FormatUint(uint64(n), 10)
	}
	return ""
}

func (f Fold) MarshalJSON() ([]byte, error) {
	if n, ok := f.Number(); ok {
		return json.Marshal(n)
	}
	return []byte("null"), nil
}

// mostFold bounds what is read: the schema allows far fewer.
const mostFold = 1 << 30

func (f *Fold) UnmarshalJSON(text []byte) error {
	var n *uint32
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	switch *f = (Fold{}); {
	case n == nil:
	case *n >= mostFold:
		return fmt.Errorf("there is no fold %d", *n)
	default:
		*f = NewFold(*n)
	}
	return nil
}

// A Repeat tells the runs of a cell apart: a seed, and a fold where there are folds.
type Repeat struct {
	Fold Fold
	Seed uint64
}

// String is the end of the name of a run: "seed=1", or "fold=2/seed=1".
func (r Repeat) String() string {
	if r.Fold.IsZero() {
		return fmt.Sprintf("seed=%d", r.Seed)
	}
	return fmt.Sprintf("fold=%s/seed=%d", r.Fold, r.Seed)
}

// Words are the same in a sentence: "seed 1", or "fold 2, seed 1".
func (r Repeat) Words() string {
	if r.Fold.IsZero() {
		return fmt.Sprintf("seed %d", r.Seed)
	}
	return fmt.Sprintf("fold %s, seed %d", r.Fold, r.Seed)
}

// Compare orders repeats by fold, then by seed.
func (r Repeat) Compare(o Repeat) int {
	return cmp.Or(cmp.Compare(r.Fold.after, o.Fold.after), cmp.Compare(r.Seed, o.Seed))
}

// Run is how people refer to a run: "ablation_rank/rank=8/seed=1", or
// "ablation_rank/rank=8/fold=2/seed=1".
func Run(experiment, cell string, r Repeat) string {
	return experiment + "/" + cell + "/" + r.String()
}
