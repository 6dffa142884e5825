package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/sdk"
)

// pictures writes a set of images of 24×16 pixels with masks of three classes, of
// which mask may change the labels, and puts it into a request as a split.
func pictures(t *testing.T, req *spec.RunRequest, d *spec.Data, role, prefix string, n int, mask func(i int, labels []byte)) string {
	t.Helper()
	root := t.TempDir()
	write := func(folder, name string, m image.Image) {
		var b bytes.Buffer
		if err := errors.Join(png.Encode(&b, m), os.MkdirAll(filepath.Join(root, folder), 0o777), os.WriteFile(filepath.Join(root, folder, name), b.Bytes(), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		name := fmt.Sprintf("%s%02d.png", prefix, i)
		img, labels := image.NewGray(image.Rect(0, 0, 16, 24)), image.NewGray(image.Rect(0, 0, 16, 24))
		for k := range img.Pix {
			class := (k/16 + 5*i) / 9 % 3
			img.Pix[k], labels.Pix[k] = byte(60*class+(k*k+i*7)%23), byte(class)
		}
		if mask != nil {
			mask(i, labels.Pix)
		}
		write("images", name, img)
		write("masks", name, labels)
	}
	files, err := data.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := files.Digest(t.Context(), data.NewIndex(data.Look{}))
	if err != nil {
		t.Fatal(err)
	}
	d.Splits[role] = &spec.Split{Digest: digest, Count: uint32(n)}
	d.Values[255] = -1
	place(req, digest, files)
	return root
}

func place(req *spec.RunRequest, digest string, f data.Files) {
	if req.Places.Files == nil {
		req.Places.Files = map[string]*spec.Files{}
	}
	req.Places.Files[digest] = &spec.Files{Root: f.Root, Images: f.Images, Masks: f.Masks}
}

// warnings are the texts of notes.
func warnings(events []*spec.Event) (list []string) {
	for _, e := range events {
		if n := e.GetNote(); n.GetWarning() {
			list = append(list, n.Text)
		}
	}
	return list
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of the last quarter of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-len(b)/8] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// otherBest makes a sound checkpoint of other weights of the best one of a run, of
// another step unless that is "".
func otherBest(t *testing.T, r rundir.Run, to, step string) {
	t.Helper()
	f, err := r.Checkpoint(rundir.Best)
	if err != nil {
		t.Fatal(err)
	}
	var ts []safetensors.Tensor
	for _, name := range f.Names() {
		x, _ := f.Get(name)
		x.Data = bytes.Clone(x.Data)
		x.Data[0] ^= 1
		ts = append(ts, x)
	}
	meta := f.Metadata()
	f.Close()
	if step != "" {
		meta["step"] = step
	}
	if _, err := safetensors.WriteSealed(r.Path(to), ts, meta); err != nil {
		t.Fatal(err)
	}
}

// One identity, one result, whatever images are called: trial-reliability 1.
func TestNamesOfImagesMoveNothing(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var sums [2]*spec.Summary
	var ids [2]string
	for i, prefix := range []string{"p", "z_"} {
		req := request(t, func(r *spec.RunRequest) {
			d := r.Spec.Data
			for role, n := range map[string]int{"train": 6, "val": 3} {
				pictures(t, r, d, role, prefix, n, nil)
			}
			d.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}, {Kind: "rotate", P: 1, Low: -20, High: 20}, {Kind: "noise", P: 1, Low: 0.01, High: 0.1}}
			test := proto.CloneOf(d)
			test.Augment, test.Splits = nil, map[string]*spec.Split{}
			pictures(t, r, test, "test", prefix, 4, nil)
			damaged, styled := proto.CloneOf(test), proto.CloneOf(test)
			damaged.Corruption = &spec.Corruption{Kind: "elastic_transform", Severity: 5}
			styles, err := data.ScanImages(pictures(t, r, proto.CloneOf(test), "test", prefix+"s", 3, nil))
			if err != nil {
				t.Fatal(err)
			}
			digest, err := styles.Digest(t.Context(), data.NewIndex(data.Look{}))
			if err != nil {
				t.Fatal(err)
			}
			place(r, digest, styles)
			styled.Style = &spec.Style{Kind: "colour", Strength: 1, Digest: digest}
			r.Evaluations = []*spec.Evaluation{
				{Domain: "damaged", Data: damaged},
				{Domain: "styled", Data: styled},
				{Domain: "damaged@original", Data: damaged, Resolution: spec.Original},
			}
		})
		events, err := run(t, trainer(t), req, 0)
		sums[i], ids[i] = finished(t, events, err), req.Id
	}
	if ids[0] != ids[1] {
		t.Fatal("names move the identity")
	}
	if sums[0].WeightsDigest != sums[1].WeightsDigest {
		t.Error("one identity, two trainings")
	}
	for i, e := range sums[0].Evaluations {
		if !proto.Equal(e, sums[1].Evaluations[i]) {
			t.Errorf("one identity, two scores: %v and %v", e, sums[1].Evaluations[i])
		}
	}
}

// Images that change after the check and before they are read: trial-reliability 4.
func TestImagesThatChangeAreNoticed(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, folder := range []string{"images", "masks"} {
		var root string
		req := request(t, func(r *spec.RunRequest) {
			root = pictures(t, r, r.Spec.Data, "train", "p", 6, nil)
		})
		path := filepath.Join(root, folder, "p03.png")
		err := trainer(t).Run(t.Context(), req, func(e *spec.Event) {
			if e.GetStarted() != nil {
				flip(t, path)
			}
		})
		if err == nil || !strings.Contains(err.Error(), path+": the file changed after it was planned") {
			t.Errorf("%s: got %v", folder, err)
		}
		if _, err := os.Stat(filepath.Join(req.Places.RunDir, rundir.Result)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a result all the same: %v", err)
		}
	}
}

// A backbone that changes while runs use it: trial-reliability 2.
func TestBackboneThatChanges(t *testing.T) {
	other := func(t *testing.T, path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(b) / 2; i < len(b); i += 4 {
			b[i] ^= 1 // the last bit of half of the weights
		}
		return b
	}
	write := func(t *testing.T, path string, b []byte) {
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change    func(t *testing.T, path string)
		fails     string // "": the run uses what it had
		retryable bool
		next      string // failure of the next run; "": none
	}{
		"in place": {
			change: func(t *testing.T, path string) { write(t, path, other(t, path)) },
			fails:  "changed while it was in use", next: "is not the one of the plan",
		},
		"renamed over": {
			change: func(t *testing.T, path string) {
				write(t, path+".new", other(t, path))
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			},
			next: "is not the one of the plan",
		},
		"cut": {
			change: func(t *testing.T, path string) {
				info, err := os.Stat(path)
				if err == nil {
					err = os.Truncate(path, info.Size()-16) // within a page: the mapping lives
				}
				if err != nil {
					t.Fatal(err)
				}
			},
			fails: "changed while it was in use", next: "is not the one of the plan",
		},
		"written as it was": {
			change: func(t *testing.T, path string) {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, b)
			},
			fails: "may have been another one in between", retryable: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			path := filepath.Join(t.TempDir(), "model.safetensors")
			copied(t, backbone, path)
			at := func(r *spec.RunRequest) { r.Places.Backbone = path }
			undisturbed := request(t, at)
			events, err := run(t, tr, undisturbed, 0)
			want := finished(t, events, err)

			req := request(t, at)
			var last *spec.Event
			err = tr.Run(t.Context(), req, func(e *spec.Event) {
				last = proto.CloneOf(e)
				if e.GetStep().GetStep() == 6 { // in the second epoch, behind the first checkpoint
					c.change(t, path)
				}
			})
			if c.fails == "" {
				if err != nil || last.GetFinished().GetSummary().GetWeightsDigest() != want.WeightsDigest {
					t.Fatalf("the file in use was not touched: %v", err)
				}
			} else {
				if err == nil || !strings.Contains(err.Error(), c.fails) || last.GetFailed().GetRetryable() != c.retryable {
					t.Fatalf("got %v, %v", err, last)
				}
				f, err := rundir.Of(req).Checkpoint(rundir.Last)
				if err != nil || f.Metadata()["step"] != "4" {
					t.Errorf("of the changed weights a checkpoint was written: %v", err)
				}
				f.Close()
			}
			// What the trainer keeps between runs is not that of the changed file.
			next := request(t, at, func(r *spec.RunRequest) { r.Spec.Seed++ })
			if _, err := run(t, tr, next, 0); c.next == "" && err != nil || c.next != "" && (err == nil || !strings.Contains(err.Error(), c.next)) {
				t.Errorf("the next run: %v", err)
			}
			if c.fails != "" {
				copied(t, backbone, path)
				events, err := run(t, tr, req, 0)
				if got := finished(t, events, err); got.WeightsDigest != want.WeightsDigest {
					t.Error("it ends with other weights")
				}
			}
		})
	}
}

// What a stopped run left is damaged: the training begins again, says so, and ends
// as if nothing had been: trial-reliability 3, 16.
func TestDamagedCheckpoints(t *testing.T) {
	tr := trainer(t)
	whole := request(t)
	events, err := run(t, tr, whole, 0)
	want := finished(t, events, err)
	stopped := func(t *testing.T) *spec.RunRequest {
		req := request(t)
		if _, err := run(t, tr, req, 10); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		return req
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, r rundir.Run)
		why    string
	}{
		"best flipped":            {func(t *testing.T, r rundir.Run) { flip(t, r.Path(rundir.Best)) }, "best.safetensors is damaged"},
		"best gone":               {func(t *testing.T, r rundir.Run) { _ = os.Remove(r.Path(rundir.Best)) }, "best.safetensors is missing"},
		"best cut":                {func(t *testing.T, r rundir.Run) { _ = os.Truncate(r.Path(rundir.Best), 1000) }, "best.safetensors is damaged"},
		"best of another":         {func(t *testing.T, r rundir.Run) { otherBest(t, r, rundir.Best, "3") }, "best.safetensors is of step 3, and the best validation was after step "},
		"best of another machine": {func(t *testing.T, r rundir.Run) { otherBest(t, r, rundir.Best, "") }, "best.safetensors is not the one that was written with"},
		"last gone":               {func(t *testing.T, r rundir.Run) { _ = os.Remove(r.Path(rundir.Last)) }, "last.safetensors is missing"},
		"last flipped":            {func(t *testing.T, r rundir.Run) { flip(t, r.Path(rundir.Last)) }, "last.safetensors is damaged"},
		"last empty":              {func(t *testing.T, r rundir.Run) { _ = os.Truncate(r.Path(rundir.Last), 0) }, "last.safetensors is damaged"},
		"last not sealed": {func(t *testing.T, r rundir.Run) {
			f, err := r.Checkpoint(rundir.Last)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			meta := f.Metadata()
			delete(meta, "sha256")
			if err := safetensors.Write(r.Path(rundir.Last), nil, meta); err != nil {
				t.Fatal(err)
			}
		}, "last.safetensors is damaged: it has no digest of its content"},
	} {
		t.Run(name, func(t *testing.T) {
			req := stopped(t)
			c.damage(t, rundir.Of(req))
			events, err := run(t, tr, req, 0)
			got := finished(t, events, err)
			if w := warnings(events); len(w) != 1 || !strings.HasPrefix(w[0], "the training begins again from the start: ") || !strings.Contains(w[0], c.why) {
				t.Errorf("told %q, want %q", w, c.why)
			}
			if got.WeightsDigest != want.WeightsDigest || !proto.Equal(got.Validation, want.Validation) || journal(t, whole) != journal(t, req) {
				t.Error("it ends otherwise than an undisturbed run")
			}
		})
	}
	// Killed between the two checkpoints of a validation: nothing is lost.
	for name, seal := range map[string]bool{"last written": true, "last not written": false} {
		t.Run("killed, "+name, func(t *testing.T) {
			req := stopped(t)
			r := rundir.Of(req)
			if seal {
				if err := os.Rename(r.Path(rundir.Best), r.Path(rundir.NextBest)); err != nil {
					t.Fatal(err)
				}
				copied(t, r.Path(rundir.NextBest), r.Path(rundir.Best))
				otherBest(t, r, rundir.Best, "3")
			} else {
				otherBest(t, r, rundir.NextBest, "9")
			}
			events, err := run(t, tr, req, 0)
			if got := finished(t, events, err); got.WeightsDigest != want.WeightsDigest || len(warnings(events)) != 0 {
				t.Errorf("told %q", warnings(events))
			}
			if _, err := os.Stat(r.Path(rundir.NextBest)); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the checkpoint that waited is still there")
			}
		})
	}
}

// What a finished run left is damaged: the error names the cure.
func TestDamagedResults(t *testing.T) {
	tr := trainer(t)
	finishedRun := func(t *testing.T) (*spec.RunRequest, *spec.Summary) {
		req := request(t, func(r *spec.RunRequest) { r.Spec.Train.Epochs = 1 })
		events, err := run(t, tr, req, 0)
		return req, finished(t, events, err)
	}
	req, sum := finishedRun(t)
	for _, name := range []string{rundir.Best, rundir.Adapter, rundir.Head, rundir.Journal} {
		b, err := os.ReadFile(rundir.Of(req).Path(name))
		if err != nil || sum.Files[name] != fmt.Sprintf("%x", sha256.Sum256(b)) {
			t.Errorf("%s: the result has the digest %q, %v", name, sum.Files[name], err)
		}
	}
	further := func(r *spec.RunRequest) {
		e := proto.CloneOf(r.Evaluations[0])
		e.Domain, e.Data.Splits["test"].Procedural.Seed = "further", 77
		r.Evaluations = append(r.Evaluations, e)
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, r rundir.Run)
		want   string
	}{
		"best flipped":             {func(t *testing.T, r rundir.Run) { flip(t, r.Path(rundir.Best)) }, "best.safetensors is damaged"},
		"best gone":                {func(t *testing.T, r rundir.Run) { _ = os.Remove(r.Path(rundir.Best)) }, "there is no checkpoint"},
		"best of another training": {func(t *testing.T, r rundir.Run) { otherBest(t, r, rundir.Best, "") }, "it is not the one that result.json was written with"},
		"result changed": {func(t *testing.T, r rundir.Run) {
			b, err := os.ReadFile(r.Path(rundir.Result))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.Path(rundir.Result), bytes.Replace(b, []byte(`"steps": "4"`), []byte(`"steps": "5"`), 1), 0o666); err != nil {
				t.Fatal(err)
			}
		}, "result.json is damaged: its content was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			req, _ := finishedRun(t)
			c.damage(t, rundir.Of(req))
			further(req)
			_, err := run(t, tr, req, 0)
			cure := fmt.Sprintf("remove the run with `runner rm %s`, then apply", req.Id[:12])
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), cure) {
				t.Errorf("evaluate: %v", err)
			}
			err = tr.Predict(t.Context(), &spec.PredictRequest{Run: req, Checkpoint: "best"}, func(*spec.Prediction) error { return nil })
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), cure) {
				t.Errorf("predict: %v", err)
			}
		})
	}
	// A score that was changed is made again.
	req, sum = finishedRun(t)
	path := rundir.Of(req).Path("evaluations/" + sum.Evaluations[0].Id[:12] + ".json")
	e := proto.CloneOf(sum.Evaluations[0])
	e.Metrics.Dice = 0.99
	b, err := protojson.Marshal(e)
	if err == nil {
		err = os.WriteFile(path, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	events, err := run(t, tr, req, 0)
	if again := finished(t, events, err); !proto.Equal(again.Evaluations[0], sum.Evaluations[0]) || len(warnings(events)) != 1 {
		t.Errorf("%v, told %q", again.Evaluations[0], warnings(events))
	}
}

// A journal that was changed or cut is set aside, and no two lines of it become
// one: trial-reliability 6.
func TestDamagedJournal(t *testing.T) {
	tr := trainer(t)
	whole := request(t)
	events, err := run(t, tr, whole, 0)
	want := finished(t, events, err)
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut by a byte": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()-1)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"changed": flip,
		"gone":    func(_ *testing.T, path string) { _ = os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t)
			if _, err := run(t, tr, req, 5); !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			damage(t, rundir.Of(req).Path(rundir.Journal))
			events, err := run(t, tr, req, 0)
			got := finished(t, events, err)
			if w := warnings(events); len(w) != 1 || !strings.Contains(w[0], "metrics.jsonl is damaged") || !strings.Contains(w[0], "after step 5") {
				t.Errorf("told %q", w)
			}
			if got.WeightsDigest != want.WeightsDigest {
				t.Error("it ends with other weights")
			}
			all := strings.SplitAfter(journal(t, whole), "\n")
			if !strings.HasSuffix(journal(t, whole), journal(t, req)) || len(strings.SplitAfter(journal(t, req), "\n")) >= len(all) {
				t.Errorf("the journal is\n%s", journal(t, req))
			}
		})
	}
}

// A process that is killed after it has set a journal aside leaves a run that
// continues without setting the new journal aside too.
func TestDamagedJournalThenKilled(t *testing.T) {
	for name, at := range map[string]func(e *spec.Event) bool{
		"before the checkpoint": func(e *spec.Event) bool { return e.GetStarted() != nil },
		"before the next one":   func(e *spec.Event) bool { return e.GetStep().GetStep() == 6 },
	} {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			req := request(t)
			if _, err := run(t, tr, req, 5); !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			flip(t, rundir.Of(req).Path(rundir.Journal))
			damaged, err := os.ReadFile(rundir.Of(req).Path(rundir.Journal))
			if err != nil {
				t.Fatal(err)
			}
			killed := proto.CloneOf(req)
			killed.Places.RunDir = filepath.Join(t.TempDir(), "killed")
			err = tr.Run(t.Context(), req, func(e *spec.Event) {
				if at(e) {
					if err := os.CopyFS(killed.Places.RunDir, os.DirFS(req.Places.RunDir)); err != nil {
						t.Error(err)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			events, err := run(t, tr, killed, 0)
			finished(t, events, err)
			if b, err := os.ReadFile(rundir.Of(killed).Path(rundir.DamagedJournal)); err != nil || !bytes.Equal(b, damaged) {
				t.Errorf("the damaged journal is now\n%s%v\nwant\n%s", b, err, damaged)
			}
			if text := journal(t, killed); !strings.Contains(text, `"step":"6"`) {
				t.Errorf("the journal is\n%s", text)
			}
		})
	}
}

// Checkpoints name the choice that the run computes with: with all that the process
// has measured, the first run of a machine would leave other bytes than the second.
func TestCheckpointsHoldTheProbeOfTheRun(t *testing.T) {
	tr := trainer(t)
	err := cpu.Do(func() error {
		cpu.SetProbes(map[string]string{"attention/float32/1000/64": "products"}) // of another run
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	req := request(t)
	events, err := run(t, tr, req, 0)
	finished(t, events, err)
	for _, name := range []string{rundir.Best, rundir.Last} {
		f, err := safetensors.Open(rundir.Of(req).Path(name))
		if err != nil {
			t.Fatal(err)
		}
		var probes map[string]string
		if err := json.Unmarshal([]byte(f.Metadata()["probes"]), &probes); err != nil || len(probes) != 1 {
			t.Errorf("%s holds the choices %s, %v", name, f.Metadata()["probes"], err)
		}
		f.Close()
	}
}

// The directory of a run is removed while it trains: nothing of it comes back.
func TestRemovedDirectory(t *testing.T) {
	tr := trainer(t)
	req := request(t)
	err := tr.Run(t.Context(), req, func(e *spec.Event) {
		if e.GetStep().GetStep() == 6 {
			if err := os.RemoveAll(req.Places.RunDir); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "was removed while the run was in progress") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(req.Places.RunDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something of it came back: %v", err)
	}
	events, err := run(t, tr, req, 0)
	finished(t, events, err)
}

// Outputs that are no numbers become no mask, no score and no best checkpoint:
// trial-reliability 5, 19, trial-data F13.
func TestNaN(t *testing.T) {
	tr := trainer(t)
	first := request(t, func(r *spec.RunRequest) { r.Spec.Train.Epochs = 1 })
	events, err := run(t, tr, first, 0)
	finished(t, events, err)
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		values := append(tensorsIn(t, first, rundir.Adapter), tensorsIn(t, first, rundir.Head)...)
		for i, x := range values {
			if x.Name == "conv2.bias" {
				values[i] = safetensors.FromFloat32(x.Name, []float32{0, float32(v), 0}, x.Shape...)
			}
		}
		req := startWith(t, values, noEpochs)
		_, err := run(t, tr, req, 0)
		if err == nil || !strings.Contains(err.Error(), "the outputs are NaN or infinite on image procedural-00000, with the weights after step 0") {
			t.Fatalf("%v: validation: %v", v, err)
		}
		if left, _ := filepath.Glob(filepath.Join(req.Places.RunDir, "checkpoints", "*")); len(left) > 0 {
			t.Errorf("%v: %v", v, left)
		}
	}
	// A checkpoint of before it carried digests may hold one.
	old := proto.CloneOf(first)
	old.Spec.Revision, old.Train = 2, false
	old.Id, old.Places.RunDir = spec.Identity(old.Spec), t.TempDir()
	f, err := rundir.Of(first).Checkpoint(rundir.Best)
	if err != nil {
		t.Fatal(err)
	}
	var ts []safetensors.Tensor
	for _, name := range f.Names() {
		x, _ := f.Get(name)
		if name == "head.conv2.bias" {
			x = safetensors.FromFloat32(name, []float32{0, float32(math.NaN()), 0}, x.Shape...)
		}
		x.Data = bytes.Clone(x.Data)
		ts = append(ts, x)
	}
	meta := map[string]string{
		"id": old.Id, "step": "4", "steps": "4", "journal": "0", "seconds": "1", "best": "4", "best_metrics": "{}", "stale": "0", "pixels": "null",
		"probes": f.Metadata()["probes"],
	}
	f.Close()
	r := rundir.Of(old)
	if err := os.Mkdir(r.Path("checkpoints"), 0o777); err != nil {
		t.Fatal(err)
	}
	result, err := protojson.Marshal(&spec.Summary{Id: old.Id, BestStep: 4, Steps: 4})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(safetensors.Write(r.Path(rundir.Best), ts, meta), os.WriteFile(r.Path(rundir.Result), result, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(e *spec.Evaluation){
		func(*spec.Evaluation) {},
		func(e *spec.Evaluation) { e.Resolution = spec.Original },
		func(e *spec.Evaluation) {
			e.Resolution, e.Window = spec.Original, &spec.Window{StrideH: 16, StrideW: 16}
		},
	} {
		e := proto.CloneOf(first.Evaluations[0])
		change(e)
		old.Evaluations = []*spec.Evaluation{e}
		if _, err := run(t, tr, old, 0); err == nil || !strings.Contains(err.Error(), "the outputs are NaN or infinite on image procedural-00000, with the weights after step 4") {
			t.Errorf("scoring %v: %v", e.Window, err)
		}
	}
	root := pictures(t, old, proto.CloneOf(first.Spec.Data), "test", "p", 1, nil)
	mask := filepath.Join(t.TempDir(), "mask.png")
	for _, w := range []*spec.Window{nil, {StrideH: 16, StrideW: 16}} {
		var said *spec.Prediction
		err := tr.Predict(t.Context(), &spec.PredictRequest{
			Run: old, Checkpoint: "best", Window: w, Pictures: []*spec.Picture{{Image: filepath.Join(root, "images", "p00.png"), Mask: mask}},
		}, func(p *spec.Prediction) error { said = p; return nil })
		if err != nil || !strings.Contains(said.GetFailure(), "the outputs are NaN") {
			t.Errorf("predicted %v, %v", said, err)
		}
	}
	if _, err := os.Stat(mask); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a mask of NaN was written")
	}
}

// Images of which some pixels, or all, are ignored.
func ignoring(t *testing.T, r *spec.RunRequest) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	pictures(t, r, r.Spec.Data, "train", "p", 12, func(i int, labels []byte) {
		for k := range labels[:min(len(labels), 96*i)] { // from the fourth on: all
			labels[k] = 255
		}
	})
	pictures(t, r, r.Spec.Data, "val", "v", 3, nil)
}

// Several batches in an update are one large batch, also where pixels are ignored:
// trial-data F7.
func TestAccumulateIgnoring(t *testing.T) {
	losses := map[uint32][]float64{}
	for _, accumulate := range []uint32{1, 2, 6} {
		req := request(t, func(r *spec.RunRequest) {
			ignoring(t, r)
			r.Spec.Head.Dropout, r.Spec.Train.Epochs = 0, 2
			r.Spec.Loss = []*spec.Loss{{Kind: "cross_entropy", Weight: 1, ClassWeights: []float64{1, 3, 0.5}}, {Kind: "focal", Weight: 0.5, Gamma: 2}}
			r.Spec.Train.Batch, r.Spec.Train.Accumulate = 6/accumulate, accumulate
		})
		events, err := run(t, trainer(t), req, 0)
		finished(t, events, err)
		for _, e := range events {
			if s := e.GetStep(); s != nil {
				losses[accumulate] = append(losses[accumulate], s.Loss)
			}
		}
	}
	for accumulate, got := range losses {
		for i, v := range losses[1] {
			if len(got) != 4 || math.Abs(v-got[i]) > 1e-4 {
				t.Fatalf("losses %v, of %d batches in an update %v", losses[1], accumulate, got)
			}
		}
	}
}

// An update in which no pixel counts moves nothing and ends nothing: trial-data F12.
func TestUncountedUpdates(t *testing.T) {
	for name, losses := range map[string][]*spec.Loss{
		"cross entropy": {{Kind: "cross_entropy", Weight: 1}},
		"focal":         {{Kind: "focal", Weight: 1, Gamma: 2}},
		"dice":          {{Kind: "dice", Weight: 1}, {Kind: "lovasz", Weight: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			req := request(t, func(r *spec.RunRequest) {
				ignoring(t, r)
				r.Spec.Loss, r.Spec.Train.Batch, r.Spec.Train.Epochs = losses, 1, 1
			})
			events, err := run(t, tr, req, 7)
			if !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			more, err := run(t, tr, req, 0)
			sum := finished(t, more, err)
			uncounted := 0
			for _, e := range append(events, more...) {
				if s := e.GetStep(); s.GetUncounted() {
					uncounted++
					if s.Loss != 0 || s.GradNorm != 0 {
						t.Errorf("step %v", s)
					}
				}
			}
			if uncounted != 8 || sum.Uncounted != 8 || sum.Steps != 12 {
				t.Errorf("%d updates, the result says %d", uncounted, sum.Uncounted)
			}
			if w := warnings(append(events, more...)); len(w) != 1 || !strings.Contains(w[0], "no pixel of the images of step") {
				t.Errorf("told %q", w)
			}
		})
	}
	// Classes without weight count for nothing.
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	req := request(t, func(r *spec.RunRequest) {
		pictures(t, r, r.Spec.Data, "train", "p", 4, func(_ int, labels []byte) { clear(labels) })
		r.Spec.Loss = []*spec.Loss{{Kind: "cross_entropy", Weight: 1, ClassWeights: []float64{0, 1, 1}}}
		r.Spec.Train.Epochs = 1
	})
	events, err := run(t, trainer(t), req, 0)
	if sum := finished(t, events, err); sum.Uncounted != 1 || sum.Unmoved != nil {
		t.Errorf("summary %v", sum)
	}
}

// A monitor that can have no value is an error before anything trains: trial-data
// F16.
func TestMonitorWithoutValue(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	without := func(_ int, labels []byte) {
		for i, v := range labels {
			labels[i] = min(v, 1)
		}
	}
	ignored := func(_ int, labels []byte) {
		for i := range labels {
			labels[i] = 255
		}
	}
	for name, c := range map[string]struct {
		mask    func(int, []byte)
		monitor string
		weights []float64
		want    string
	}{
		"class":     {without, "dice/boundary", nil, `no image of the split val shows the class "boundary", so dice/boundary has no value`},
		"ignored":   {ignored, "dice/mean", nil, "no pixel of the split val counts for dice/mean"},
		"no weight": {without, "loss", []float64{0, 0, 1}, "no pixel of the split val counts for loss"},
		"sound":     {without, "dice/animal", nil, ""},
	} {
		req := request(t, func(r *spec.RunRequest) {
			pictures(t, r, r.Spec.Data, "val", "v", 2, c.mask)
			r.Spec.Train.Monitor, r.Spec.Train.Epochs = c.monitor, 1
			r.Spec.Loss = []*spec.Loss{{Kind: "cross_entropy", Weight: 1, ClassWeights: c.weights}}
		})
		events, err := run(t, trainer(t), req, 0)
		if c.want == "" {
			finished(t, events, err)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, e := range events {
			if e.GetStep() != nil {
				t.Fatalf("%s: it was trained before", name)
			}
		}
	}
}

// Gains that are too small each add up: trial-data U1. Values of 0 do not keep the
// weights of the beginning: trial-data F16.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		monitor string
		values  []float64 // NaN: none
		best    []bool
		stale   []int
	}{
		"small gains": {"dice/mean", []float64{0.5, 0.54, 0.58, 0.62, 0.61, 0.63}, []bool{true, true, true, true, false, true}, []int{0, 1, 2, 0, 1, 2}},
		"falling":     {"loss", []float64{1, 0.95, 0.85, 0.9}, []bool{true, true, true, false}, []int{0, 1, 0, 1}},
		"zeros":       {"dice/mean", []float64{0, 0, 0, 0.01, 0}, []bool{true, true, true, true, false}, []int{0, 1, 2, 3, 4}},
		"no value":    {"dice/mean", []float64{math.NaN(), 0.2, math.NaN(), 0.4}, []bool{false, true, false, true}, []int{1, 0, 1, 0}},
	} {
		s := &session{spec: &spec.RunSpec{Train: &spec.Train{Monitor: c.monitor, MinDelta: 0.1}}}
		for i, v := range c.values {
			best := s.judge(v, !math.IsNaN(v))
			if best != c.best[i] || s.stale != c.stale[i] {
				t.Errorf("%s: value %d: best %v, stale for %d", name, i, best, s.stale)
			}
			if best {
				s.bestOf = &spec.Metrics{Loss: v, Dice: v, Pixels: 1}
			}
		}
	}
}

type builder func(g *sdk.Graph, s sdk.Site) sdk.Node

func (b builder) Build(g *sdk.Graph, s sdk.Site) sdk.Node { return b(g, s) }

// An adapter that does not move, or has no gradient: trial-plugins F1.
func TestAdaptersThatDoNotMove(t *testing.T) {
	factors := func(g *sdk.Graph, s sdk.Site, b sdk.Init) sdk.Node {
		x := g.MatMul(g.X(), g.T(g.Param("A", sdk.Dims(2, s.In), sdk.Zeros)))
		return g.MatMul(x, g.T(g.Param("B", sdk.Dims(s.Out, 2), b)))
	}
	train := func(t *testing.T, build builder, stop int) ([]*spec.Event, *spec.Summary, error) {
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Adapter, r.Evaluations = placed(t, build, []uint32{4}, []string{"query"}), nil
			r.Spec.Train.Epochs, r.Spec.Train.Batch, r.Spec.Train.EvalEvery = 2, 1, 2
		})
		tr := trainer(t)
		events, err := run(t, tr, req, stop)
		if stop > 0 && errors.Is(err, ErrStopped) {
			var more []*spec.Event
			more, err = run(t, tr, req, 0)
			events = append(events, more...)
		}
		return events, events[len(events)-1].GetFinished().GetSummary(), err
	}
	for _, stop := range []int{0, 9} { // resumed, too
		events, sum, err := train(t, func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Add(g.Base(g.X()), factors(g, s, sdk.Zeros)) }, stop)
		if err != nil {
			t.Fatal(err)
		}
		if len(sum.Unmoved) != 2 || !strings.HasSuffix(sum.Unmoved[0], "query.A") {
			t.Errorf("unmoved %v", sum.Unmoved)
		}
		if w := warnings(events); len(w) != 2 || !strings.Contains(w[0], "none of its 2 tensors had a gradient other than 0 in the first 20 updates") ||
			!strings.Contains(w[1], "adapter tensors that never moved: blocks.4.query.A, blocks.4.query.B") {
			t.Errorf("told %q", w)
		}
	}
	events, sum, err := train(t, func(g *sdk.Graph, s sdk.Site) sdk.Node {
		unused := g.Param("unused", sdk.Dims(3), sdk.Constant(1))
		_ = unused
		return g.Add(g.Base(g.X()), factors(g, s, sdk.KaimingUniform(1)))
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Unmoved) != 1 || !strings.HasSuffix(sum.Unmoved[0], "query.unused") {
		t.Errorf("unmoved %v, told %q", sum.Unmoved, warnings(events))
	}
	if w := warnings(events); len(w) != 3 || !strings.Contains(w[0], "nothing uses 1 of the adapter's parameters, so they do not train: blocks.4.query.unused") ||
		!strings.Contains(w[1], "1 of 3 tensors of the adapter had no gradient other than 0 in the first 20 updates: adapter.blocks.4.query.unused") {
		t.Errorf("told %q", w)
	}
	// The square root of 0 has no gradient.
	_, _, err = train(t, func(g *sdk.Graph, s sdk.Site) sdk.Node {
		b := g.Param("b", sdk.Dims(s.Out), sdk.Zeros)
		return g.Add(g.Base(g.X()), g.Mul(g.Base(g.X()), g.Sqrt(g.Sum(g.Mul(b, b)))))
	}, 0)
	if err == nil || !strings.Contains(err.Error(), "the norm of the gradients is NaN at step 1; there is no checkpoint yet; the gradient of adapter.blocks.4.query.b is not finite") {
		t.Errorf("got %v", err)
	}
}

// A cache directory that cannot be written gives one warning and stops nothing:
// trial-reliability 20.
func TestCacheThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	tr := New(cpu, filepath.Join(file, "cache"))
	defer tr.Close()
	for i := range 2 {
		req := request(t, func(r *spec.RunRequest) { r.Spec.Train.Epochs, r.Spec.Seed = 1, uint64(i) })
		events, err := run(t, tr, req, 0)
		finished(t, events, err)
		if w := warnings(events); len(w) != 1-i || i == 0 && !strings.Contains(w[0], "cannot be kept") {
			t.Errorf("run %d: told %q", i, w)
		}
	}
}

// Names of classes may change at any time: results have those of now.
func TestRenamedClasses(t *testing.T) {
	tr := trainer(t)
	named := func(names ...string) func(*spec.RunRequest) {
		return func(r *spec.RunRequest) {
			r.Spec.Data.Classes, r.Spec.Train.Monitor = names, "dice/"+names[1]
			for _, e := range r.Evaluations {
				e.Data.Classes = names
			}
		}
	}
	whole := request(t, named("a", "b", "c"))
	events, err := run(t, tr, whole, 0)
	want := finished(t, events, err)
	req := request(t, named("a", "b", "c"))
	if _, err := run(t, tr, req, 10); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	now := request(t, named("x", "y", "z"))
	if now.Id != req.Id {
		t.Fatal("names of classes move the identity")
	}
	now.Places.RunDir = req.Places.RunDir
	events, err = run(t, tr, now, 0)
	got := finished(t, events, err)
	if got.WeightsDigest != want.WeightsDigest || got.BestStep != want.BestStep || got.Validation.Classes[1].Name != "y" || got.Validation.Dice != want.Validation.Dice {
		t.Errorf("got %v, want %v", got, want)
	}
	// Scored before, under the old names.
	now = request(t, named("p", "q", "r"))
	now.Places.RunDir = req.Places.RunDir
	events, err = run(t, tr, now, 0)
	if got := finished(t, events, err); got.Evaluations[0].Metrics.Classes[2].Name != "r" || got.Evaluations[0].Metrics.Dice != want.Evaluations[0].Metrics.Dice {
		t.Errorf("got %v", got.Evaluations[0])
	}
}
