package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// defaultMutations is how many files TestMutated changes. LORALAB_MUTATIONS=N
// asks for another number, LORALAB_MUTATION_SEED=N for the changes of an earlier
// test.
const defaultMutations = 36

// mutatedMemory bounds the memory of every process that reads a mutated file, in
// bytes. Decoders may take 4 GiB together, and libtorch and a model take some.
const mutatedMemory = 5 << 30

// TestMutated changes pictures, archives of runs and files of run directories at
// random and has runner and engine read them. A third of the changes is of each
// kind. No process panics or exceeds mutatedMemory, nothing is written outside of
// where it belongs, and whatever apply then calls done has the weights and the
// scores that it had before.
func TestMutated(t *testing.T) {
	engine := realEngine(t)
	if engine == "" {
		return
	}
	n, seed := defaultMutations, uint64(time.Now().UnixNano())
	if v, err := strconv.Atoi(os.Getenv("LORALAB_MUTATIONS")); err == nil {
		n = v
	}
	if v, err := strconv.ParseUint(os.Getenv("LORALAB_MUTATION_SEED"), 10, 64); err == nil {
		seed = v
	}
	defer func() {
		if t.Failed() {
			t.Logf("for these changes again: LORALAB_MUTATION_SEED=%d", seed)
		}
	}()
	m := &mutator{victim: newVictim(t, engine, "killed"), rand: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	must(t, os.WriteFile(filepath.Join(m.dir, "killed.cue"), []byte(mutatedExperiment), 0o666))
	m.run(0, "apply", "killed.cue")
	m.pictures(n / 3)
	m.archives(n / 3)
	m.directories(n - 2*(n/3))
	for _, what := range slices.Sorted(maps.Keys(m.counts)) {
		t.Logf("%5d × %s", m.counts[what], what)
	}
	t.Logf("the largest process took %d MB", m.largest>>20)
}

// mutatedExperiment trains eight runs in a second or two.
const mutatedExperiment = `package experiments

import "github.com/loralab/loralab/schema"

mutated: schema.#Experiment & {
	backbone: model: "./vit"
	adapter: {variant: "lora", params: rank: 2}
	head: {kind: "conv", hidden: 8}
	data: {
		source: "procedural"
		size:   32
		classes: ["background", "shape", "boundary"]
		procedural: {train: 4, val: 2, test: 2, size: 32}
	}
	optim: lr: {adapter: 1e-2, head: 1e-2}
	train: {epochs: 2, batch: 2}
	seeds: [1, 2, 3, 4, 5, 6, 7, 8]
}
`

// mutator is a project whose files are changed at random.
type mutator struct {
	*victim
	rand    *rand.Rand
	counts  map[string]int // of changes and their results
	largest int64          // memory of a process, bytes
	stdout  []byte         // of the last run
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs runner in the project. It may end with the codes, nothing else.
func (m *mutator) run(code int, args ...string) string {
	m.t.Helper()
	out, got := m.runIn(m.dir, args...)
	if got != code {
		m.t.Fatalf("runner %s: exit code %d\n%s", strings.Join(args, " "), got, out)
	}
	return out
}

// runIn runs runner in a directory and fails the test if it or its engine ends
// by a panic or a signal, or takes too much memory.
func (m *mutator) runIn(dir string, args ...string) (string, int) {
	m.t.Helper()
	var out, messages bytes.Buffer
	cmd := exec.Command(m.runner, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, m.env, &out, &messages
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	m.stdout = out.Bytes()
	text := out.String() + messages.String()
	for _, bad := range []string{"panic:", "goroutine ", "fatal error", "signal:", "SIGSEGV", "runtime error"} {
		if strings.Contains(text, bad) {
			m.t.Errorf("runner %s:\n%s", strings.Join(args, " "), text)
			break
		}
	}
	code := cmd.ProcessState.ExitCode()
	if code != 0 && code != 1 {
		m.t.Errorf("runner %s: exit code %d\n%s", strings.Join(args, " "), code, text)
	}
	// Of the process and of those that it has waited for.
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	m.largest = max(m.largest, memory)
	if memory > mutatedMemory {
		m.t.Errorf("runner %s: %d MB of memory\n%s", strings.Join(args, " "), memory>>20, text)
	}
	return text, code
}

// changed is content with one to three random changes.
func (m *mutator) changed(content []byte) []byte {
	c := slices.Clone(content)
	extremes := [][]byte{{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0x7f}, {0, 1, 0, 0}, {0, 0, 1, 0}}
	for range 1 + m.rand.IntN(3) {
		if len(c) == 0 {
			break
		}
		at := m.rand.IntN(len(c))
		if m.rand.IntN(2) == 0 { // headers say more than pixels
			at = m.rand.IntN(min(len(c), 256))
		}
		switch m.rand.IntN(7) {
		case 0:
			c[at] ^= 1 << m.rand.IntN(8)
		case 1:
			c[at] = byte(m.rand.IntN(256))
		case 2:
			copy(c[at:], extremes[m.rand.IntN(len(extremes))])
		case 3:
			c = c[:at]
		case 4: // a part twice
			end := min(len(c), at+1+m.rand.IntN(64))
			c = slices.Concat(c[:end], c[at:end], c[end:])
		case 5: // a part less
			c = slices.Delete(c, at, min(len(c), at+1+m.rand.IntN(64)))
		case 6:
			for i := at; i < min(len(c), at+16); i++ {
				c[i] = byte(m.rand.IntN(256))
			}
		}
	}
	return c
}

// tree is what is below a directory: the content of files, the target of links.
func tree(t *testing.T, dir string, skip ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains(skip, rel):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			all[rel], err = os.Readlink(path)
			return err
		}
		text, err := os.ReadFile(path)
		all[rel] = string(text)
		return err
	})
	must(t, err)
	return all
}

// same reports files that differ between two states of a directory.
func same(t *testing.T, what string, before, after map[string]string) {
	t.Helper()
	for name := range after {
		if text, there := before[name]; !there || text != after[name] {
			t.Errorf("%s: %s was written", what, name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			t.Errorf("%s: %s was removed", what, name)
		}
	}
}

// pictures changes pictures and masks, which are segmented and checked.
func (m *mutator) pictures(n int) {
	m.t.Helper()
	seeds, err := filepath.Glob("../../core/data/testdata/pictures/*")
	must(m.t, err)
	seeds = slices.DeleteFunc(seeds, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.Mode().IsRegular()
	})
	const batch = 40
	for done := 0; done < n; done += batch {
		for _, dir := range []string{"photos", "out", "data"} {
			must(m.t, os.RemoveAll(filepath.Join(m.dir, dir)))
		}
		for _, dir := range []string{"photos", "data/own/images", "data/own/masks"} {
			must(m.t, os.MkdirAll(filepath.Join(m.dir, dir), 0o777))
		}
		for i := range min(batch, n-done) {
			seed := seeds[m.rand.IntN(len(seeds))]
			text, err := os.ReadFile(seed)
			must(m.t, err)
			text = m.changed(text)
			if filepath.Ext(seed) == ".png" && m.rand.IntN(3) > 0 {
				repairPNG(text)
			}
			name := fmt.Sprintf("p%02d", i)
			must(m.t, os.WriteFile(filepath.Join(m.dir, "photos", name+filepath.Ext(seed)), text, 0o666))
			// The same file as an image with a sound mask, and as the mask of a sound image.
			image, mask := flat(m.t, 8), flat(m.t, 0)
			if i%2 == 0 {
				image = text
			} else {
				mask = text
			}
			ext := map[bool]string{true: filepath.Ext(seed), false: ".png"}
			must(m.t, os.WriteFile(filepath.Join(m.dir, "data/own/images", name+ext[i%2 == 0]), image, 0o666))
			must(m.t, os.WriteFile(filepath.Join(m.dir, "data/own/masks", name+ext[i%2 == 1]), mask, 0o666))
			m.counts["picture: "+filepath.Ext(seed)]++
		}
		before := tree(m.t, m.dir, "out")
		text, _ := m.runIn(m.dir, "predict", "mutated/base/seed=1", "photos", "-o", "out")
		if strings.Contains(text, "retrying") {
			m.t.Errorf("the engine did not survive the pictures:\n%s", text)
		}
		m.runIn(m.dir, "data", "check", "own")
		same(m.t, "pictures", before, tree(m.t, m.dir, "out"))
		if m.t.Failed() {
			return
		}
	}
}

// repairPNG gives the chunks of a PNG the checksums of their content: decoders
// look at nothing of a chunk with another.
func repairPNG(text []byte) {
	for at := uint64(8); at+12 <= uint64(len(text)); {
		n := uint64(binary.BigEndian.Uint32(text[at:]))
		end := at + 8 + n
		if end+4 > uint64(len(text)) {
			return
		}
		binary.BigEndian.PutUint32(text[end:], crc32.ChecksumIEEE(text[at+4:end]))
		at = end + 4
	}
}

// flat is a PNG in one gray.
func flat(t *testing.T, level byte) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range img.Pix {
		img.SetGray(i%16, i/16, color.Gray{level})
	}
	var b bytes.Buffer
	must(t, png.Encode(&b, img))
	return b.Bytes()
}

// archives changes archives of a run, outside and inside of their compression,
// and imports them into an empty project.
func (m *mutator) archives(n int) {
	m.t.Helper()
	m.run(0, "export", "mutated/base/seed=1", "-archive", "-o", "run.tar.zst")
	sound, err := os.ReadFile(filepath.Join(m.dir, "run.tar.zst"))
	must(m.t, err)
	must(m.t, os.Remove(filepath.Join(m.dir, "run.tar.zst")))
	entries := unpacked(m.t, sound)
	var want map[string]string // of the run that is imported
	for i := range n + 1 {
		around := m.t.TempDir()
		project := filepath.Join(around, "project")
		must(m.t, os.MkdirAll(filepath.Join(project, "cue.mod"), 0o777))
		content, how := m.changed(sound), "archive: compressed bytes"
		kind := m.rand.IntN(4)
		if i == 0 {
			kind, content, how = -1, sound, "archive: as it was"
		}
		switch kind {
		case 0:
			e := slices.Clone(entries)
			i := m.rand.IntN(len(e))
			e[i].content = m.changed(e[i].content)
			content, how = packed(m.t, e), "archive: content of an entry"
		case 1:
			e := slices.Clone(entries)
			h := *e[m.rand.IntN(len(e))].header
			names := []string{"../outside", "/tmp/loralab-outside", "runs/../../outside", ".", "", strings.Repeat("x/", 2000) + "y", "a\x00b", "\x1b[2J", h.Name + "/x", string(m.changed([]byte(h.Name)))}
			h.Name = names[m.rand.IntN(len(names))]
			if m.rand.IntN(2) == 0 {
				h.Typeflag, h.Size = []byte{tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeDir, tar.TypeChar}[m.rand.IntN(5)], 0
				h.Linkname = "../../outside"
			}
			e = slices.Insert(e, m.rand.IntN(len(e)+1), entry{&h, nil})
			content, how = packed(m.t, e), "archive: one entry more"
		case 2:
			e := slices.Clone(entries)
			m.rand.Shuffle(len(e), func(i, j int) { e[i], e[j] = e[j], e[i] })
			e = e[:1+m.rand.IntN(len(e))]
			content, how = packed(m.t, e), "archive: order and number of entries"
		}
		must(m.t, os.WriteFile(filepath.Join(around, "run.tar.zst"), content, 0o666))
		before := tree(m.t, around)
		_, code := m.runIn(project, "import", "../run.tar.zst")
		after := tree(m.t, around, filepath.Join("project", "runs"))
		same(m.t, how, before, after)
		if code != 0 {
			how += ", refused"
			left, err := filepath.Glob(filepath.Join(project, "runs", "*", "*", "*"))
			must(m.t, err)
			if len(left) > 0 {
				m.t.Errorf("%s: left behind: %v", how, left)
			}
		} else {
			got := tree(m.t, filepath.Join(project, "runs", "mutated"))
			maps.DeleteFunc(got, func(name, _ string) bool { return filepath.Base(name) == "record.json" }) // has times
			if i == 0 {
				want = got
			}
			if !maps.Equal(got, want) {
				same(m.t, how, want, got)
			}
		}
		m.counts[how]++
		must(m.t, os.RemoveAll(around))
		if m.t.Failed() {
			return
		}
	}
}

// entry is one file of an archive.
type entry struct {
	header  *tar.Header
	content []byte
}

func unpacked(t *testing.T, archive []byte) (entries []entry) {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(archive))
	must(t, err)
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return entries
		}
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		entries = append(entries, entry{h, content})
	}
}

// packed is an archive of entries. What the format cannot express is left out.
func packed(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := *e.header
		h.Size, h.Format = int64(len(e.content)), tar.FormatUnknown
		if w.WriteHeader(&h) != nil {
			continue
		}
		_, err := w.Write(e.content)
		must(t, err)
	}
	must(t, w.Close())
	must(t, z.Close())
	return b.Bytes()
}

// directories changes files of run directories, one in each of eight runs at a
// time, and applies again. Every run that is done then has the weights and scores
// that it had.
func (m *mutator) directories(n int) {
	m.t.Helper()
	runs := filepath.Join(m.dir, "runs", "mutated")
	want := m.results()
	if len(want) != 8 {
		m.t.Fatalf("%d runs are done, want 8", len(want))
	}
	sound := filepath.Join(m.t.TempDir(), "sound")
	must(m.t, os.CopyFS(sound, os.DirFS(filepath.Join(m.dir, "runs"))))
	for done := 0; done < n; {
		must(m.t, os.RemoveAll(filepath.Join(m.dir, "runs")))
		must(m.t, os.CopyFS(filepath.Join(m.dir, "runs"), os.DirFS(sound)))
		if m.rand.IntN(2) == 0 { // the directories alone
			stored, err := filepath.Glob(filepath.Join(m.dir, "runs", "loralab.db*"))
			must(m.t, err)
			for _, path := range stored {
				must(m.t, os.Remove(path))
			}
		}
		dirs, err := filepath.Glob(filepath.Join(runs, "[0-9a-f]*"))
		must(m.t, err)
		outside := tree(m.t, m.dir, "runs", "report", "plots", "logs", "out")
		for _, dir := range dirs {
			if done == n {
				break
			}
			done++
			list := slices.Sorted(maps.Keys(tree(m.t, dir)))
			name := list[m.rand.IntN(len(list))]
			if m.rand.IntN(2) == 0 {
				name = []string{"checkpoints/last.safetensors", "checkpoints/best.safetensors"}[m.rand.IntN(2)]
			}
			if m.rand.IntN(2) == 0 { // interrupted: resumed at the last checkpoint
				must(m.t, os.Remove(filepath.Join(dir, "result.json")))
			}
			path := filepath.Join(dir, filepath.FromSlash(name))
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			must(m.t, err)
			must(m.t, os.WriteFile(path, m.changed(text), 0o666))
			m.counts["run directory: "+name]++
		}
		m.runIn(m.dir, "status", "killed.cue")
		m.runIn(m.dir, "predict", "mutated/base/seed="+strconv.Itoa(1+m.rand.IntN(8)), "data", "-o", "out")
		m.runIn(m.dir, "evaluate", "mutated/base/seed="+strconv.Itoa(1+m.rand.IntN(8)), "--domain", "noisy=procedural")
		text, code := m.runIn(m.dir, "apply", "killed.cue")
		got := m.results()
		if code == 0 && len(got) != len(want) {
			m.t.Errorf("apply ended well, but %d of %d runs have a result:\n%s", len(got), len(want), text)
		}
		for id, result := range got {
			if result != want[id] {
				m.t.Errorf("run %s has another result:\n%s\nwant\n%s\napply said:\n%s", id, result, want[id], text)
			}
		}
		m.counts[fmt.Sprintf("run directories: apply ended with %d", code)]++
		same(m.t, "run directories", outside, tree(m.t, m.dir, "runs", "report", "plots", "logs", "out"))
		if m.t.Failed() {
			return
		}
	}
}

// results is for each run that runner calls done its weights and scores.
func (m *mutator) results() map[string]string {
	m.t.Helper()
	text, _ := m.runIn(m.dir, "status", "--json", "killed.cue")
	var status struct {
		Experiments []struct {
			Runs []struct {
				ID    string `json:"id"`
				State string `json:"state"`
				Dir   string `json:"dir"`
			} `json:"runs"`
		} `json:"experiments"`
	}
	if err := json.Unmarshal(m.stdout, &status); err != nil {
		m.t.Fatalf("%v\n%s", err, text)
	}
	all := map[string]string{}
	for _, run := range status.Experiments[0].Runs {
		if run.State != "done" {
			continue
		}
		dir := filepath.Join(m.dir, filepath.FromSlash(run.Dir))
		var result struct {
			WeightsDigest string `json:"weights_digest"`
			BestStep      string `json:"best_step"`
			Validation    any    `json:"validation"`
		}
		text, err := os.ReadFile(filepath.Join(dir, "result.json"))
		must(m.t, err)
		must(m.t, json.Unmarshal(text, &result))
		scores, err := filepath.Glob(filepath.Join(dir, "evaluations", "*.json"))
		must(m.t, err)
		all[run.ID] = fmt.Sprint(result)
		for _, path := range scores {
			text, err := os.ReadFile(path)
			must(m.t, err)
			if strings.Contains(string(text), `"noisy"`) {
				continue // asked for by evaluate
			}
			all[run.ID] += "\n" + filepath.Base(path) + "\n" + string(text)
		}
	}
	return all
}
