package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protojson"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

// trained is a run with a result in the project at root.
func trained(t *testing.T, root string) *store.Run {
	t.Helper()
	s := &spec.RunSpec{Seed: 7, Head: &spec.Head{Kind: "conv"}}
	run := &store.Run{ID: spec.Identity(s), Experiment: "e", Cell: "rank=8", Seed: 7, Summary: &spec.Summary{}}
	run.Dir = store.DirOf(run.Experiment, run.ID)
	if err := run.SetSpec(s); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]any{
		"request.json":       &spec.RunRequest{Id: run.ID, Spec: s, Label: &spec.Label{Experiment: "e", Cell: "rank=8"}},
		"result.json":        &spec.Summary{Id: run.ID, Steps: 72},
		"evaluations/a.json": &spec.Evaluated{Id: "a", Domain: "test"},
		"lock":               nil, ".metrics.tmp-1": nil,
	} {
		var text []byte
		var err error
		switch m := m.(type) {
		case *spec.RunRequest:
			text, err = protojson.Marshal(m)
		case *spec.Summary:
			text, err = protojson.Marshal(m)
		case *spec.Evaluated:
			text, err = protojson.Marshal(m)
		}
		path := filepath.Join(root, run.Dir, name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, text, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return run
}

func export(t *testing.T) (path string, run *store.Run) {
	t.Helper()
	root := t.TempDir()
	run = trained(t, root)
	path = filepath.Join(root, "run.tar.zst")
	m, err := Export(filepath.Join(root, run.Dir), run, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != 3 {
		t.Errorf("exported %v", m.Files)
	}
	if _, err := Export(filepath.Join(root, run.Dir), run, path, Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("exported over a file: %v", err)
	}
	return path, run
}

// A finished run whose weights were lost or changed is neither exported nor imported:
// its result has their SHA-256 (trial-data U7).
func TestLostWeights(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"is missing": os.Remove,
		"is damaged": func(path string) error { return os.WriteFile(path, []byte("other"), 0o666) },
	} {
		root := t.TempDir()
		run := trained(t, root)
		dir := filepath.Join(root, run.Dir)
		const weights = "adapter.safetensors"
		sum := sha256.Sum256([]byte("weights"))
		run.Summary = &spec.Summary{Id: run.ID, Steps: 72, Files: map[string]string{weights: hex.EncodeToString(sum[:])}}
		if err := os.WriteFile(filepath.Join(dir, weights), []byte("weights"), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Export(dir, run, filepath.Join(root, "sound.tar.zst"), Options{}); err != nil {
			t.Errorf("a sound run: %v", err)
		}
		if err := damage(filepath.Join(dir, weights)); err != nil {
			t.Fatal(err)
		}
		m, err := Export(dir, run, filepath.Join(root, "run.tar.zst"), Options{})
		if err == nil || !strings.Contains(err.Error(), weights+" "+name) || !strings.Contains(err.Error(), "runner rm") {
			t.Errorf("%s: exported %v, %v", name, m, err)
		}
		if _, err := os.Lstat(filepath.Join(root, "run.tar.zst")); err == nil {
			t.Errorf("%s: an archive was written", name)
		}
	}
	m := &Manifest{Files: []File{{Path: "a", SHA256: "1"}}}
	if m.whole(nil) != nil || m.whole(&spec.Summary{Files: map[string]string{"a": "1"}}) != nil || m.whole(&spec.Summary{Files: map[string]string{"a": "2"}}) == nil {
		t.Error("files and results are compared wrongly")
	}
}

// What was not committed stays where it is, unless it is asked for
// (trial-reliability 11).
func TestPatchStays(t *testing.T) {
	root := t.TempDir()
	run := trained(t, root)
	dir := filepath.Join(root, run.Dir)
	for _, name := range []string{"dirty.patch", "dirty-2.patch"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("+TOKEN=hidden\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for patches, want := range map[bool]int{false: 3, true: 5} {
		path := filepath.Join(t.TempDir(), "run.tar.zst")
		m, err := Export(dir, run, path, Options{Patches: patches})
		if err != nil || len(m.Files) != want || len(m.LeftOut) != 5-want {
			t.Errorf("patches %v: %+v, %v", patches, m, err)
		}
		into, _, err := take(t, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(into, run.Dir, "dirty.patch")); errors.Is(err, os.ErrNotExist) == patches {
			t.Errorf("patches %v: %v", patches, err)
		}
	}
}

// take imports an archive into a new project and returns it.
func take(t *testing.T, path string) (root string, _ *Manifest, err error) {
	t.Helper()
	root = t.TempDir()
	runs, err := store.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	m, err := Import(t.Context(), root, runs, path, Most)
	return root, m, err
}

func left(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(filepath.Join(root, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "loralab.db") && e.Name() != ".records" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestRoundTrip(t *testing.T) {
	path, run := export(t)
	root, m, err := take(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name() != "e/rank=8/seed=7" || !m.Trained {
		t.Errorf("imported %+v", m)
	}
	known, err := store.Read(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	got := known.Runs[run.ID]
	if got == nil || got.Summary.GetSteps() != 72 || len(got.Evaluations) != 1 || got.State != store.Done {
		t.Errorf("the project knows %+v", got)
	}
	runs, err := store.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	var there *KnownError
	if _, err := Import(t.Context(), root, runs, path, Most); !errors.As(err, &there) {
		t.Errorf("imported a second time: %v", err)
	}
}

// An archive with any byte changed is refused and leaves nothing, or is the
// same archive still: not every bit of a frame counts.
func TestDamage(t *testing.T) {
	path, run := export(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := bytes.Clone(whole)
		if at := rapid.IntRange(0, len(text)-1).Draw(rt, "at"); rapid.Bool().Draw(rt, "cut") {
			text = text[:at]
		} else {
			text[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		}
		damaged := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(damaged, text, 0o666); err != nil {
			rt.Fatal(err)
		}
		root, m, err := take(t, damaged)
		if err == nil {
			if m.ID != run.ID {
				rt.Fatalf("imported %+v", m)
			}
			return
		}
		if names := left(t, root); len(names) > 0 {
			rt.Fatalf("%v; it left %v", err, names)
		}
	})
}

// What an archive says of itself is not believed.
func TestLies(t *testing.T) {
	request := func(s *spec.RunSpec, id string) string {
		text, err := protojson.Marshal(&spec.RunRequest{Id: id, Spec: s, Label: &spec.Label{Experiment: "e", Cell: "c"}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	s := &spec.RunSpec{Seed: 1}
	id := spec.Identity(s)
	for name, c := range map[string]struct {
		manifest func(*Manifest)
		request  string
		file     string
		want     string
	}{
		"another specification": {request: request(&spec.RunSpec{Seed: 2}, id), want: "its specification is that of run"},
		"another seed":          {manifest: func(m *Manifest) { m.Seed = 3 }, want: "its specification has seed 1, not seed 3"},
		"no identity":           {manifest: func(m *Manifest) { m.ID = "../../../etc" }, want: "no identity"},
		"a way out":             {file: "../../outside", want: "no file of a run"},
		"from the root":         {file: "/etc/passwd", want: "no file of a run"},
		"a hidden file":         {file: "a/.hidden", want: "no file of a run"},
		"experiment with slash": {manifest: func(m *Manifest) { m.Experiment = "../x" }, want: "cannot be the name of an experiment"},
		"hidden experiment":     {manifest: func(m *Manifest) { m.Experiment = ".trash" }, want: "cannot be the name of an experiment"},
		"newer format":          {manifest: func(m *Manifest) { m.Format = 2 }, want: "use a newer runner"},
		"wrong digest":          {manifest: func(m *Manifest) { m.Files[0].SHA256 = strings.Repeat("0", 64) }, want: "is damaged"},
		"wrong size":            {manifest: func(m *Manifest) { m.Files[0].Size++ }, want: "bytes, and it lists"},
		"other file":            {manifest: func(m *Manifest) { m.Files[0].Path = "result.json" }, want: `it lists result.json next and holds "request.json"`},
		"fewer files":           {manifest: func(m *Manifest) { m.Files = append(m.Files, File{Path: "b"}) }, want: "it ends before b"},
		"more files":            {manifest: func(m *Manifest) { m.Files = m.Files[:0] }, want: "more than it lists"},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.request
			if text == "" {
				text = request(s, id)
			}
			file := c.file
			if file == "" {
				file = "request.json"
			}
			sum := sha256.Sum256([]byte(text))
			m := &Manifest{Format: format, ID: id, Experiment: "e", Cell: "c", Seed: 1, Files: []File{{file, int64(len(text)), hex.EncodeToString(sum[:])}}}
			if c.manifest != nil {
				c.manifest(m)
			}
			head, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			z, err := zstd.NewWriter(&out)
			if err != nil {
				t.Fatal(err)
			}
			w := tar.NewWriter(z)
			err = errors.Join(
				entry(w, manifestName, int64(len(head)), bytes.NewReader(head)),
				entry(w, file, int64(len(text)), strings.NewReader(text)),
				w.Close(), z.Close())
			path := filepath.Join(t.TempDir(), "lie")
			if err := errors.Join(err, os.WriteFile(path, out.Bytes(), 0o666)); err != nil {
				t.Fatal(err)
			}
			root, _, err := take(t, path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if names := left(t, root); len(names) > 0 {
				t.Errorf("it left %v", names)
			}
		})
	}
}

// pack writes an archive of files that are what its manifest says.
func pack(t *testing.T, m Manifest, files map[string]string) string {
	t.Helper()
	if len(m.Files) == 0 {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			m.Files = append(m.Files, File{name, int64(len(files[name])), digest(files[name])})
		}
	}
	head, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = entry(w, manifestName, int64(len(head)), bytes.NewReader(head))
	for _, f := range m.Files {
		if text, there := files[f.Path]; there {
			err = errors.Join(err, entry(w, f.Path, int64(len(text)), strings.NewReader(text)))
		}
	}
	path := filepath.Join(t.TempDir(), "run.tar.zst")
	if err := errors.Join(err, w.Close(), z.Close(), os.WriteFile(path, out.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
	return path
}

// Checkpoints are compared with the digests that they carry, on both ways: those of
// a run in training too, which no result lists (trial-data U7). A journal that was
// changed is of the past, and the weights are whole.
func TestCheckpoints(t *testing.T) {
	for _, finished := range []bool{false, true} {
		root := t.TempDir()
		run := trained(t, root)
		dir := filepath.Join(root, run.Dir)
		run.Summary = nil
		if finished {
			run.Summary = &spec.Summary{Id: run.ID, Steps: 72, Files: map[string]string{"metrics.jsonl": digest("lost")}}
		} else if err := os.Remove(filepath.Join(dir, "result.json")); err != nil {
			t.Fatal(err)
		}
		last := filepath.Join(dir, "checkpoints", "last.safetensors")
		if err := os.Mkdir(filepath.Dir(last), 0o777); err != nil {
			t.Fatal(err)
		}
		meta := map[string]string{"format": "pt", "id": run.ID, "step": "4"}
		if _, err := safetensors.WriteSealed(last, []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1, 2}, 2)}, meta); err != nil {
			t.Fatal(err)
		}
		sound := filepath.Join(root, "sound.tar.zst")
		if _, err := Export(dir, run, sound, Options{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := take(t, sound); err != nil {
			t.Errorf("a sound run: %v", err)
		}
		text, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)-1] ^= 1
		if err := os.WriteFile(last, text, 0o666); err != nil {
			t.Fatal(err)
		}
		_, err = Export(dir, run, filepath.Join(root, "run.tar.zst"), Options{})
		want := "the next apply"
		if finished {
			want = "runner gc --checkpoints"
		}
		if err == nil || !strings.Contains(err.Error(), "checkpoints/last.safetensors is damaged") || !strings.Contains(err.Error(), want) {
			t.Errorf("exported: %v, want %s", err, want)
		}
		// As an earlier loralab exports it.
		m := Manifest{Format: format, ID: run.ID, Experiment: "e", Cell: "rank=8", Seed: 7, Trained: finished}
		files := map[string]string{"checkpoints/last.safetensors": string(text)}
		for _, name := range []string{"request.json", "result.json"} {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				files[name] = string(text)
			}
		}
		at, _, err := take(t, pack(t, m, files))
		if err == nil || !strings.Contains(err.Error(), "checkpoints/last.safetensors is damaged") {
			t.Errorf("imported: %v", err)
		}
		if names := left(t, at); len(names) > 0 {
			t.Errorf("it left %v", names)
		}
	}
}

// The file to write.
func TestPlaces(t *testing.T) {
	root := t.TempDir()
	run := trained(t, root)
	dir := filepath.Join(root, run.Dir)
	for name, want := range map[string]string{"run.zip": "name it " + filepath.Join(root, "run.tar.zst"), "run": "run.tar.zst", "here.tar.zst": "is a directory"} {
		if err := os.MkdirAll(filepath.Join(root, "here.tar.zst"), 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := Export(dir, run, filepath.Join(root, name), Options{Replace: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if _, err := os.Stat(filepath.Join(root, name)); err == nil && name != "here.tar.zst" {
			t.Errorf("%s was written", name)
		}
	}
	path := filepath.Join(root, "run.tar.zst")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(dir, run, path, Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("written over a file: %v", err)
	}
	if _, err := Export(dir, run, path, Options{Replace: true}); err != nil {
		t.Error(err)
	}
	if _, _, err := take(t, path); err != nil {
		t.Error(err)
	}
	if _, _, err := take(t, dir); err == nil || !strings.Contains(err.Error(), "adapter: from") {
		t.Errorf("importing a directory: %v", err)
	}
}

// Weights that are not those of the result are not imported.
func TestOtherWeights(t *testing.T) {
	s := &spec.RunSpec{Seed: 1}
	id := spec.Identity(s)
	request, err := protojson.Marshal(&spec.RunRequest{Id: id, Spec: s, Label: &spec.Label{Experiment: "e", Cell: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	const weights = "head.safetensors"
	result, err := protojson.Marshal(&spec.Summary{Id: id, Steps: 1, Files: map[string]string{weights: digest("weights")}})
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Format: format, ID: id, Experiment: "e", Cell: "c", Seed: 1, Trained: true}
	for _, files := range []map[string]string{
		{"request.json": string(request), "result.json": string(result)},
		{"request.json": string(request), "result.json": string(result), weights: "others"},
	} {
		root, _, err := take(t, pack(t, m, files))
		if err == nil || !strings.Contains(err.Error(), weights+" is ") {
			t.Errorf("got %v", err)
		}
		if names := left(t, root); len(names) > 0 {
			t.Errorf("it left %v", names)
		}
	}
}

// What an archive holds is read before it appears (trial-reliability 15), its
// names and sizes are bounded (trial-reliability 18, 29).
func TestContent(t *testing.T) {
	s := &spec.RunSpec{Seed: 1}
	id := spec.Identity(s)
	text, err := protojson.Marshal(&spec.RunRequest{Id: id, Spec: s, Label: &spec.Label{Experiment: "e", Cell: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	request := string(text)
	plain := Manifest{Format: format, ID: id, Experiment: "e", Cell: "c", Seed: 1}
	edit := func(change func(m *Manifest)) Manifest {
		m := plain
		change(&m)
		return m
	}
	with := func(name, content string) map[string]string {
		return map[string]string{"request.json": request, name: content}
	}
	trained := edit(func(m *Manifest) { m.Trained = true })
	for name, c := range map[string]struct {
		m     Manifest
		files map[string]string
		want  string // "" for an archive that is taken in
	}{
		"sound":                  {plain, with("log.txt", "x"), ""},
		"trained":                {trained, with("result.json", `{"id":"`+id+`"}`), ""},
		"garbled result":         {trained, with("result.json", `{"id":`), "reading its result.json: "},
		"result of another":      {trained, with("result.json", `{"id":"00"}`), "reading its result.json: it is of run"},
		"garbled evaluation":     {plain, with("evaluations/aaaaaaaaaaaa.json", `{`), "reading its evaluations/aaaaaaaaaaaa.json: "},
		"garbled checkpoint":     {plain, with("checkpoints/last.safetensors", "x"), "reading its checkpoints/last.safetensors: "},
		"best without last":      {plain, with("checkpoints/best.safetensors", "x"), "reading its checkpoints/last.safetensors: it is missing"},
		"garbled record":         {plain, with("record.json", "{"), "reading its record.json: "},
		"record of another":      {plain, with("record.json", `{"format":1,"id":"`+strings.Repeat("0", 64)+`"}`), "reading its record.json: it is of run"},
		"names in the record":    {plain, with("record.json", `{"format":1,"id":"`+id+`","state":"stopped","names":[{"experiment":"../x","cell":"c","seed":1}],"spec":{"seed":"1"}}`), "cannot be the name of an experiment"},
		"record without names":   {plain, with("record.json", `{"format":1,"id":"`+id+`","state":"done"}`), "it has no names"},
		"another spec on record": {plain, with("record.json", `{"format":1,"id":"`+id+`","state":"done","names":[{"experiment":"e","cell":"c"}],"spec":{"seed":"2"}}`), "its specification is that of run"},
		"said to be trained":     {trained, with("log.txt", "x"), "it says trained: true"},
		"no request":             {plain, map[string]string{"log.txt": "x"}, "it holds no run"},
		"a cell with NUL":        {edit(func(m *Manifest) { m.Cell = "a\x00b" }), with("log.txt", "x"), "cannot be the name of a cell"},
		"a cell with an escape":  {edit(func(m *Manifest) { m.Cell = "a\x1b[2J" }), with("log.txt", "x"), "cannot be the name of a cell"},
		"a file with an escape":  {plain, with("a\x1b[2J", "x"), "is no file of a run"},
		"no room": {edit(func(m *Manifest) {
			m.Files = []File{{Path: "request.json", Size: 1 << 60}}
		}), with("log.txt", "x"), "GB free"},
		"no size": {edit(func(m *Manifest) {
			m.Files = []File{{Path: "a", Size: math.MaxInt64}, {Path: "b", Size: math.MaxInt64}}
		}), nil, "are no sizes"},
		"less than nothing": {edit(func(m *Manifest) { m.Files = []File{{Path: "a", Size: -1}} }), nil, "are no sizes"},
		"a file twice":      {edit(func(m *Manifest) { m.Files = []File{{Path: "a"}, {Path: "a"}} }), nil, "is no file of a run"},
	} {
		t.Run(name, func(t *testing.T) {
			root, _, err := take(t, pack(t, c.m, c.files))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if names := left(t, root); len(names) > 0 {
				t.Errorf("it left %v", names)
			}
		})
	}
	// More than a run usually holds is asked for first.
	root := t.TempDir()
	runs, err := store.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	path := pack(t, plain, with("log.txt", strings.Repeat("x", 1000)))
	var large *LargeError
	if _, err := Import(t.Context(), root, runs, path, 1000); !errors.As(err, &large) || large.Bytes != int64(len(request)+1000) {
		t.Errorf("got %v", err)
	}
}
