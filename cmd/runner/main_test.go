package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/runner/trust"
)

// The scripts in testdata are what users rely on. Each runs in a project of its
// own, with a tiny random backbone in ./vit and the variant lora below. The
// engine is the one of engine_test.go, which trains nothing and keeps all
// promises; the e2e scripts take the real one.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"runner":        main,
		"runner-engine": func() { spec.ServeEngine(&testEngine{}) },
		"lora":          func() { sdk.Serve(testVariant) },
		"misspelt": func() {
			v := testVariant
			v.Name, v.Schema = "misspelt", "#Params: {\n\t// Rank.\n\trank: itn\n}\n"
			sdk.Serve(v)
		},
		"replay": replayed,
	})
}

type testLora struct {
	Rank  int
	Alpha float64
}

func (v testLora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(1))
	b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", b)
	return g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

func (v testLora) PEFTConfig([]sdk.Site) map[string]any {
	return map[string]any{"peft_type": "LORA", "r": v.Rank, "lora_alpha": v.Alpha}
}

func adoptLora(config map[string]any, _ []sdk.Site) (testLora, []sdk.Problem) {
	s := sdk.ReadSettings(config, "LORA")
	v := testLora{Rank: s.Int("r", 8), Alpha: s.Number("lora_alpha", 8)}
	return v, s.Problems()
}

var testVariant = sdk.Variant[testLora]{
	Name: "lora", Version: "1.2.3", About: "Low-rank update", Paper: "arXiv:2106.09685", Parameters: "rank*(in+out)",
	PEFT: "LORA", Adopt: adoptLora,
	Formula: "y = base(x) + s·x Aᵀ Bᵀ", Examples: []string{"rank: 4", "rank: 2, alpha: 1"},
	Schema: `
#Params: {
	// Rank of the update.
	rank!: int & >=1 & <=64 | error("must be a whole number from 1 to 64")
	// Scale times rank.
	alpha: *8 | number & >0 | error("must be a number above 0")
}
`,
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return isEndToEnd(file) || strings.HasPrefix(filepath.Base(file), "slurm_") || strings.HasPrefix(filepath.Base(file), "gpu_")
	})
	scripts(t, files, func(env *testscript.Env) (string, error) { return lookPath(env, "runner-engine") })
}

// The end-to-end scripts take the real engine.
func TestEndToEnd(t *testing.T) {
	files, err := filepath.Glob("testdata/e2e_*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if engine := realEngine(t); engine != "" {
		scripts(t, files, func(*testscript.Env) (string, error) { return engine, nil })
	}
}

// realEngine is the path of the real engine, which is there after make build;
// "" where it is not. In CI it has to be.
func realEngine(t *testing.T) string {
	t.Helper()
	engine := os.Getenv("LORALAB_ENGINE")
	if engine == "" {
		engine = "../../bin/runner-engine"
	}
	engine, err := filepath.Abs(engine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(engine); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no engine to test with: %v", err)
		}
		t.Logf("nothing tested: %v; see: make build", err)
		return ""
	}
	return engine
}

func isEndToEnd(file string) bool { return strings.HasPrefix(filepath.Base(file), "e2e_") }

// scripts runs scripts with an engine.
func scripts(t *testing.T, files []string, engine func(*testscript.Env) (string, error)) {
	// Under nohup every process that is started ignores SIGHUP too, and scripts that
	// send it would wait for ever. A signal that is caught here is not ignored there.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	cache := t.TempDir() // shared: hashing this binary takes a while
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := filehash.Of(self) // which every command is
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("LORALAB_UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("XDG_DATA_HOME", filepath.Join(env.WorkDir, ".data"))
			env.Setenv("HF_HOME", filepath.Join(env.WorkDir, ".data"))
			env.Setenv("TZ", "UTC")
			// Threads that wait for each other are slow where others compute too.
			env.Setenv("LORALAB_THREADS", "1")
			path, err := engine(env)
			if err != nil {
				return err
			}
			env.Setenv("LORALAB_ENGINE", path)
			lora, err := lookPath(env, "lora")
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Join(env.WorkDir, "plugins.d"), 0o777); err != nil {
				return err
			}
			if err := os.Symlink(lora, filepath.Join(env.WorkDir, "plugins.d", "lora")); err != nil {
				return err
			}
			trusted, err := trust.Open(filepath.Join(env.WorkDir, ".data", "loralab", "trusted.json"))
			if err != nil {
				return err
			}
			if err := trusted.Add(trust.Entry{SHA256: sum, Name: "lora"}); err != nil {
				return err
			}
			return tinyBackbone(filepath.Join(env.WorkDir, "vit"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":     await,
			"choke":     choke,
			"replace":   replace,
			"busy":      busy,
			"send":      send,
			"confine":   confine,
			"fields":    fields,
			"counted":   counted,
			"vet":       vet,
			"draw":      draw,
			"borrow":    borrow,
			"size":      size,
			"pictures":  pictures,
			"published": writePublished,
			"network":   network,
			"agree":     agree,
			"shown":     shown,
			"wandb":     wandbServer,
			"gpus":      gpus,
		},
	})
}

// lookPath finds one of the commands of TestMain as scripts do.
func lookPath(env *testscript.Env, name string) (string, error) {
	for _, dir := range filepath.SplitList(env.Getenv("PATH")) {
		if file := filepath.Join(dir, name); exec.Command(file).Err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no %s on the scripts' PATH", name)
}

// await FILE PATTERN waits until a file, which a pattern may name, has text
// that matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	until(ts, fmt.Sprintf("%s matches %s", args[0], args[1]), func() bool {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		return slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && pattern.Match(text)
		})
	})
}

func until(ts *testscript.TestScript, what string, ok func() bool) {
	const limit = 5 * time.Minute // generous: only a broken program waits for it
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("after %v it is still not so that %s", limit, what)
		}
	}
}

// choke FIFO fills a pipe, so that its writers wait.
func choke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: choke FIFO")
	}
	fd, err := unix.Open(ts.MkAbs(args[0]), unix.O_RDWR|unix.O_NONBLOCK, 0)
	ts.Check(err)
	defer unix.Close(fd)
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = unix.Write(fd, bytes.Repeat([]byte("\n"), size))
		}
		if !errors.Is(err, unix.EAGAIN) {
			ts.Check(err)
		}
	}
}

// replace OLD NEW FILE edits a file.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace OLD NEW FILE")
	}
	file := ts.MkAbs(args[2])
	text, err := os.ReadFile(file)
	ts.Check(err)
	if !bytes.Contains(text, []byte(args[0])) {
		ts.Fatalf("%s does not contain %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(file, bytes.ReplaceAll(text, []byte(args[0]), []byte(args[1])), 0o666))
}

// send SIGNAL PROGRAM [any] sends a signal to the one process of a program that
// works in the directory of the script, or to any of them that has a run in
// work, waiting for one.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 || len(args) == 3 && args[2] != "any" {
		ts.Fatalf("usage: send SIGNAL PROGRAM [any]")
	}
	number := unix.SignalNum(args[0])
	if number == 0 {
		ts.Fatalf("there is no signal %s", args[0])
	}
	pids := processesHere(ts, args[1])
	if len(args) == 3 {
		until(ts, "a "+args[1]+" has a run in work", func() bool {
			pids = slices.DeleteFunc(processesHere(ts, args[1]), func(pid int) bool { return !hasRun(pid) })
			return len(pids) > 0
		})
	}
	if len(pids) == 0 || len(pids) > 1 && len(args) == 2 {
		ts.Fatalf("%d processes are %s", len(pids), args[1])
	}
	ts.Check(unix.Kill(pids[0], number))
}

// busy PROGRAM waits until a process of a program in the directory of the script
// has computed for half a second.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: busy PROGRAM")
	}
	const ticks = 50 // of 10 ms, whatever the kernel's own are
	until(ts, args[0]+" is busy", func() bool {
		return slices.ContainsFunc(processesHere(ts, args[0]), func(pid int) bool {
			stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
			_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name may have spaces
			fields := strings.Fields(string(rest))
			if err != nil || len(fields) < 12 {
				return false
			}
			used, err := strconv.Atoi(fields[11])
			return err == nil && used >= ticks
		})
	})
}

var runLock = regexp.MustCompile(`/runs/[^/]+/[^/]+/lock$`)

// hasRun reports whether a process holds the lock of a run's directory.
func hasRun(pid int) bool {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	return err == nil && slices.ContainsFunc(files, func(file string) bool {
		to, err := os.Readlink(file)
		return err == nil && runLock.MatchString(to)
	})
}

// confine PROGRAM BYTES bounds the files that the one process of a program in
// the directory of the script may write, as a full disk would.
func confine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: confine PROGRAM BYTES")
	}
	limit, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	pids := processesHere(ts, args[0])
	if len(pids) != 1 {
		ts.Fatalf("%d processes are %s", len(pids), args[0])
	}
	ts.Check(unix.Prlimit(pids[0], unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}, nil))
}

// processesHere are those of a program that work in the directory of the script,
// without those that one of them has started: runner tries schemas in a process of
// its own, and a child has the name of its parent until it has another program.
func processesHere(ts *testscript.TestScript, name string) (found []int) {
	work := ts.Getenv("WORK")
	all := processes(ts, name)
	for _, pid := range all {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		dir, err := os.Readlink(filepath.Join(proc, "cwd"))
		if err != nil || !strings.HasPrefix(dir, work) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		_, rest, _ := strings.Cut(string(status), "\nPPid:")
		parent, _, _ := strings.Cut(rest, "\n")
		if ppid, bad := strconv.Atoi(strings.TrimSpace(parent)); err == nil && bad == nil && !slices.Contains(all, ppid) {
			found = append(found, pid)
		}
	}
	return found
}

func processes(ts *testscript.TestScript, name string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	ts.Check(err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if program, _, _ := bytes.Cut(line, []byte{0}); err == nil && filepath.Base(string(program)) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

// fields FILES OUT NAME... writes fields of all JSON files that a pattern names
// to a file, to compare them.
func fields(ts *testscript.TestScript, neg bool, args []string) {
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("there is no %s", args[0])
	}
	var out strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		ts.Check(err)
		var values map[string]any
		ts.Check(json.Unmarshal(text, &values))
		rel, err := filepath.Rel(ts.MkAbs("."), file)
		ts.Check(err)
		// The experiment's name is in the path; what is below it counts.
		_, rel, _ = strings.Cut(rel, "runs/")
		fmt.Fprint(&out, rel)
		for _, name := range args[2:] {
			value, ok := values[name]
			if !ok {
				ts.Fatalf("%s has no %s", file, name)
			}
			fmt.Fprintf(&out, " %v", value)
		}
		out.WriteByte('\n')
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(out.String()), 0o666))
}

// draw FILE WIDTH HEIGHT writes a PNG in colors that run over it.
func draw(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: draw FILE WIDTH HEIGHT")
	}
	w, err := strconv.Atoi(args[1])
	ts.Check(err)
	h, err := strconv.Atoi(args[2])
	ts.Check(err)
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetRGBA(x, y, color.RGBA{uint8(255 * x / w), uint8(255 * y / h), uint8(8 * (x ^ y)), 0xff})
		}
	}
	var b bytes.Buffer
	ts.Check(png.Encode(&b, m))
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o777))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o666))
}

// borrow NAME FILE copies a picture that core/data is tested with.
func borrow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: borrow NAME FILE")
	}
	text, err := os.ReadFile(filepath.Join("../../core/data/testdata/pictures", args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o666))
}

// size FILE WIDTH HEIGHT says what size a PNG has to have.
func size(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: size FILE WIDTH HEIGHT")
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	m, err := png.Decode(f)
	ts.Check(err)
	if is := fmt.Sprint(m.Bounds().Dx(), " ", m.Bounds().Dy()); is != args[1]+" "+args[2] {
		ts.Fatalf("%s is %s", args[0], is)
	}
}

// tinyBackbone writes a ViT with random weights, always the same: two blocks of
// 16 channels, patches of 8 pixels.
func tinyBackbone(dir string) error {
	const dim, mlp, patch, grid, blocks = 16, 32, 8, 4, 2
	shapes := map[string][]int64{
		"embeddings.cls_token":                          {1, 1, dim},
		"embeddings.position_embeddings":                {1, 1 + grid*grid, dim},
		"embeddings.patch_embeddings.projection.weight": {dim, 3, patch, patch},
		"embeddings.patch_embeddings.projection.bias":   {dim},
		"layernorm.weight":                              {dim},
		"layernorm.bias":                                {dim},
	}
	for i := range blocks {
		at := fmt.Sprintf("encoder.layer.%d.", i)
		for name, size := range map[string][2]int64{
			"attention.attention.query": {dim, dim}, "attention.attention.key": {dim, dim},
			"attention.attention.value": {dim, dim}, "attention.output.dense": {dim, dim},
			"intermediate.dense": {mlp, dim}, "output.dense": {dim, mlp},
		} {
			shapes[at+name+".weight"], shapes[at+name+".bias"] = size[:], []int64{size[0]}
		}
		for _, name := range []string{"layernorm_before", "layernorm_after"} {
			shapes[at+name+".weight"], shapes[at+name+".bias"] = []int64{dim}, []int64{dim}
		}
	}
	var tensors []safetensors.Tensor
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range names {
		n := int64(1)
		for _, d := range shapes[name] {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64()) * 0.2
			if strings.Contains(name, "norm") && strings.HasSuffix(name, ".weight") {
				values[i] = 1
			}
		}
		tensors = append(tensors, safetensors.FromFloat32(name, values, shapes[name]...))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	config := fmt.Sprintf(`{"model_type": "vit", "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": 2,
		"intermediate_size": %d, "patch_size": %d, "image_size": %d}`, dim, blocks, mlp, patch, grid*patch)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		return err
	}
	return safetensors.Write(filepath.Join(dir, "model.safetensors"), tensors, nil)
}
