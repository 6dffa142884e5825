package tensorboard_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/internal/python"
	tb "github.com/loralab/loralab/runner/tensorboard"
)

func root(t testing.TB, dir string) *os.Root {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func write(t testing.TB, dir *os.Root, events ...tb.Event) {
	t.Helper()
	w, err := tb.Create(dir)
	for _, e := range events {
		err = errors.Join(err, w.Write(e))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t rapid.TB, dir *os.Root) (all []tb.Event) {
	t.Helper()
	if err := tb.Read(dir, func(e tb.Event) { all = append(all, e) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// seen is what testdata/read.py prints.
type seen struct {
	Runs map[string]struct {
		Scalars map[string][][]any
		Images  map[string][][]int
	}
	Metrics []string
	Hparams map[string]string
	Groups  []struct {
		Name     string
		Hparams  map[string]any
		Metrics  map[string]float64
		Sessions map[string][]float64
	}
}

// TensorBoard itself reads what is written here: scalars that JSON does not have, an
// image, sessions with two seeds, and a run that was killed in an event and continued.
func TestTensorBoardReads(t *testing.T) {
	interpreter := python.Find(t)
	dir := t.TempDir()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 5, 3))); err != nil {
		t.Fatal(err)
	}
	begun := time.Unix(1_700_000_000, 500_000_000)
	parameters := map[string]any{"rank": 4.0, "variant": "lora", "flip": true, "sites": []string{"query"}}
	for seed := range 2 {
		start := tb.Event{Values: []tb.Value{
			tb.SessionStart("rank=4", parameters, begun),
			tb.Experiment("ranks", parameters, []string{"val/dice"}),
		}}
		write(t, root(t, filepath.Join(dir, "rank=4", fmt.Sprintf("seed-%d", seed))),
			start,
			tb.Event{Step: 1, Values: []tb.Value{tb.Scalar("train/loss", 0.5), tb.Scalar("val/dice", 0.25)}},
			tb.Event{Step: 2, Values: []tb.Value{tb.Scalar("train/loss", math.NaN()), tb.Scalar("val/dice", 0.5+float64(seed)/4)}},
			tb.Event{Step: 3, Values: []tb.Value{tb.Scalar("train/loss", math.Inf(1)), tb.Image("samples/test", tb.Picture{Width: 5, Height: 3, Channels: 1, PNG: picture.Bytes()})}},
			tb.Event{Step: 3, Values: []tb.Value{tb.SessionEnd(tb.Success, begun)}},
		)
	}
	killed := filepath.Join(dir, "killed")
	r := root(t, killed)
	var events []tb.Event
	for i := range 10 {
		events = append(events, tb.Event{Step: int64(i), Values: []tb.Value{tb.Scalar("train/loss", float64(i))}})
	}
	write(t, r, events...)
	cut(t, killed, 7)
	if got := read(t, r); len(got) != 9 {
		t.Errorf("%d events are before the cut", len(got))
	}
	write(t, r, tb.Event{Step: 9, Start: true}, tb.Event{Step: 9, Values: []tb.Value{tb.Scalar("train/loss", 90)}})

	cmd := exec.Command(interpreter, "testdata/read.py", dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
	var got seen
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	one := got.Runs["rank=4/seed-1"]
	if want := [][]any{{1.0, 0.5}, {2.0, "nan"}, {3.0, "inf"}}; !reflect.DeepEqual(one.Scalars["train/loss"], want) {
		t.Errorf("losses %v", one.Scalars["train/loss"])
	}
	if want := [][]int{{3, 5, 3, picture.Len()}}; !reflect.DeepEqual(one.Images["samples/test"], want) {
		t.Errorf("images %v, want %v", one.Images["samples/test"], want)
	}
	losses := got.Runs["killed"].Scalars["train/loss"]
	if len(losses) != 10 || !reflect.DeepEqual(losses[9], []any{9.0, 90.0}) {
		t.Errorf("after the kill: %v", losses)
	}
	if !reflect.DeepEqual(got.Metrics, []string{"val/dice"}) || len(got.Groups) != 1 {
		t.Fatalf("metrics %v, groups %v", got.Metrics, got.Groups)
	}
	// The page of TensorBoard has the columns that are named here, and no others.
	if want := map[string]string{"rank": "DATA_TYPE_FLOAT64", "variant": "DATA_TYPE_STRING", "flip": "DATA_TYPE_BOOL", "sites": "DATA_TYPE_STRING"}; !reflect.DeepEqual(got.Hparams, want) {
		t.Errorf("columns %v", got.Hparams)
	}
	group := got.Groups[0]
	if want := map[string]any{"rank": 4.0, "variant": "lora", "flip": true, "sites": "[query]"}; group.Name != "rank=4" || !reflect.DeepEqual(group.Hparams, want) {
		t.Errorf("group %q with %v", group.Name, group.Hparams)
	}
	if group.Metrics["val/dice"] != 0.625 { // the mean of 0.5 and 0.75
		t.Errorf("metrics %v", group.Metrics)
	}
	if want := map[string][]float64{"rank=4/seed-0": {1, 1_700_000_000.5}, "rank=4/seed-1": {1, 1_700_000_000.5}}; !reflect.DeepEqual(group.Sessions, want) {
		t.Errorf("sessions %v", group.Sessions)
	}
}

// cut takes bytes from the end of the only file.
func cut(t *testing.T, dir string, n int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	info, err := os.Stat(names[0])
	if err == nil {
		err = os.Truncate(names[0], info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What was written is read; of a file that is cut or changed anywhere, the events
// before that place.
func TestReadWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "loralab-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		at, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer at.Close()
		var want []tb.Event
		w, err := tb.Create(at)
		if err != nil {
			t.Fatal(err)
		}
		size := func() int64 {
			info, err := os.Stat(one(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		ends := []int64{size()}
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			e := tb.Event{Time: time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")), Step: rapid.Int64Min(0).Draw(t, "step")}
			for range rapid.IntRange(1, 3).Draw(t, "values") {
				v := tb.Scalar(rapid.String().Draw(t, "tag"), float64(rapid.Float32().Draw(t, "value")))
				v.Description = rapid.String().Draw(t, "description")
				if rapid.Bool().Draw(t, "image") {
					v = tb.Image(v.Tag, tb.Picture{Width: 1, Height: rapid.IntRange(1, 4000).Draw(t, "height"), Channels: 3})
				}
				e.Values = append(e.Values, v)
			}
			want = append(want, e)
			if err := w.Write(e); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, size())
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, at); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v became %+v", want, got)
		}
		place := rapid.Int64Range(0, ends[len(ends)-1]-1).Draw(t, "place")
		whole := 0
		for i, end := range ends {
			if end <= place {
				whole = i
			}
		}
		if rapid.Bool().Draw(t, "cut") {
			err = os.Truncate(one(t, dir), place)
		} else {
			text, _ := os.ReadFile(one(t, dir))
			text[place] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			err = os.WriteFile(one(t, dir), text, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, at); len(got) != whole || whole > 0 && !reflect.DeepEqual(got, want[:whole]) {
			t.Fatalf("of %d events %d were read, not %d", len(want), len(got), whole)
		}
	})
}

func one(t rapid.TB, dir string) string {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return names[0]
}

// A file sorts behind those before it, also within one second and with a clock that
// was set back.
func TestFilesSortInTime(t *testing.T) {
	dir := t.TempDir()
	r := root(t, dir)
	late := "events.out.tfevents.9000000000.host.1.0"
	if err := os.WriteFile(filepath.Join(dir, late), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		write(t, r, tb.Event{Step: int64(i), Values: []tb.Value{tb.Scalar("a", 1)}})
	}
	for i, e := range read(t, r) {
		if e.Step != int64(i) {
			t.Errorf("event %d is of step %d", i, e.Step)
		}
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(names) != 4 || filepath.Base(names[0]) != late {
		t.Errorf("files %v", names)
	}
}
