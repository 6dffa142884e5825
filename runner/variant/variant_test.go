package variant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/trust"
)

// The plug-ins of these tests are links to the test binary: started as a
// plug-in, it behaves as the name of the link says.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if behave, ok := behaviours[name]; ok && protocol.Started() {
		// The file is in the folder above that of the plug-in, as a plug-in does not see the
		// environment of the test.
		f, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[0]), "..", "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(f, os.Getpid())
		f.Close()
		behave(name)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const schema = "#Params: size: int & >=1"

var behaviours = map[string]func(name string){
	"good": serve,
	// Prints wherever it can; the sdk keeps it from doing harm.
	"chatty": func(name string) {
		fmt.Println("good morning")
		serve(name)
	},
	"panics": func(string) { panic("no config file") },
	"ends":   func(string) {},
	"hangs":  func(string) { time.Sleep(time.Hour) },
	"explains": func(string) {
		fmt.Fprintln(os.Stderr, "looking for gRPC\nerror: the Python package grpcio is missing: pip install grpcio")
		os.Exit(1)
	},
	"floods": serve, "crashes_build": serve, "panics_build": serve, "hangs_build": serve, "refuses": serve, "mistaken": serve,
	"babbles": func(string) {
		fmt.Fprintln(os.NewFile(1, "stdout"), "Loading weights...\x1b[31m")
		time.Sleep(time.Hour)
	},
	"core": func(string) {
		fmt.Fprintln(os.NewFile(1, "stdout"), "0|1|unix|/no/such/socket|grpc|")
		time.Sleep(time.Hour)
	},
	"unreachable": func(string) {
		fmt.Fprintln(os.NewFile(1, "stdout"), "1|1|unix|/no/such/socket|grpc|")
		time.Sleep(time.Hour)
	},
	"newer": func(string) {
		os.Stdout = os.NewFile(1, "stdout")
		old := protocol.Handshake
		old.ProtocolVersion = 7
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: old, GRPCServer: plugin.DefaultGRPCServer,
			Plugins: plugin.PluginSet{protocol.Service: &protocol.GRPCPlugin{Variant: raw{}}},
		})
	},
	"dies": func(name string) { // once
		mark := filepath.Join(filepath.Dir(os.Args[0]), "..", "died")
		if f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			f.Close()
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		serve(name)
	},
	"wrong": rawly, "huge": rawly, "short": rawly, "impostor": rawly, "schemaless": rawly, "versionless": rawly, "mute": rawly,
}

// size is a well-made variant but for what its name says.
type size struct{ Size int }

func (v size) Check(sdk.Site) []sdk.Problem {
	if filepath.Base(os.Args[0]) == "refuses" {
		return []sdk.Problem{{Param: "size", Message: "too large", Hint: "use 1"}}
	}
	return nil
}

func (v size) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	switch filepath.Base(os.Args[0]) {
	case "chatty":
		fmt.Println("building")
	case "panics_build":
		return []sdk.Node{}[v.Size]
	case "crashes_build":
		go func() { panic("out of range in a goroutine") }()
		time.Sleep(time.Hour)
	case "hangs_build":
		time.Sleep(time.Hour)
	case "floods":
		line := strings.Repeat("rubbish ", 1<<10) + "\n"
		for range 8 << 10 { // 64 MiB
			os.Stderr.WriteString(line)
		}
		panic("drowned")
	case "mistaken":
		return g.X()
	}
	return g.Add(g.Base(g.X()), g.Param("beta", sdk.Dims(s.Out), sdk.Constant(float64(v.Size))))
}

func serve(name string) {
	v := sdk.Variant[size]{Name: name, Version: "1.2.3", Schema: schema}
	if name == "good" {
		v.Adopt = func(config map[string]any, _ []sdk.Site) (size, []sdk.Problem) {
			r, ok := config["r"].(float64)
			if !ok {
				return size{}, []sdk.Problem{{Param: "r", Message: "is missing"}}
			}
			return size{Size: int(r)}, nil
		}
	}
	sdk.Serve(v)
}

// raw answers without the sdk, as it likes.
type raw struct {
	protocol.UnimplementedVariantServer
}

func (raw) Describe(context.Context, *protocol.DescribeRequest) (*protocol.DescribeReply, error) {
	d := &protocol.DescribeReply{Name: filepath.Base(os.Args[0]), Version: "1.0.0", Schema: schema}
	switch d.Name {
	case "impostor":
		d.Name = "good"
	case "schemaless":
		d.Schema = ""
	case "versionless":
		d.Version = ""
	}
	return d, nil
}

func (r raw) Build(_ context.Context, q *protocol.BuildRequest) (*protocol.BuildReply, error) {
	p := &protocol.Program{Version: 1, Nodes: []*protocol.Node{{Op: protocol.Op_X}}}
	switch filepath.Base(os.Args[0]) {
	case "huge":
		p.Nodes = append(p.Nodes, &protocol.Node{Op: protocol.Op_CONST, Floats: make([]float64, 1<<20)})
	case "short":
		return &protocol.BuildReply{Programs: []*protocol.Program{p}}, nil
	case "mute":
		return r.UnimplementedVariantServer.Build(context.Background(), q)
	}
	return &protocol.BuildReply{Programs: []*protocol.Program{p}, ProgramOfSite: make([]uint32, len(q.GetSites()))}, nil
}

func rawly(string) {
	os.Stdout = os.NewFile(1, "stdout")
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: protocol.Handshake, GRPCServer: plugin.DefaultGRPCServer, // no limit of its own
		Plugins: plugin.PluginSet{protocol.Service: &protocol.GRPCPlugin{Variant: raw{}}},
	})
}

var (
	model = &protocol.Model{Family: "vit", Dim: 6, Depth: 12, Heads: 2, Mlp: 12}
	sites = []*protocol.Site{
		{Name: "query", Block: 3, Kind: protocol.Site_LINEAR, In: 6, Out: 10, Bias: true},
		{Name: "value", Block: 3, Kind: protocol.Site_LINEAR, In: 6, Out: 10, Bias: true},
	}
)

const params = `{"size": 2}`

// place is a root with plug-ins of these behaviours, in a directory of the user's.
type place struct {
	root, cache, starts string
	t                   *testing.T
}

func newPlace(t *testing.T, names ...string) *place {
	t.Helper()
	p := &place{root: t.TempDir(), cache: t.TempDir(), t: t}
	p.starts = filepath.Join(p.root, "starts")
	if err := os.Mkdir(p.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Symlink(self, p.file(name)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) dir() string { return filepath.Join(p.root, "plugins") }

func (p *place) file(name string) string { return filepath.Join(p.dir(), name) }

// open opens a registry with a cache that closes with the test.
func (p *place) open(change ...func(*Options)) *Registry {
	o := Options{
		Root: p.root, Dirs: []string{p.dir()}, CacheDir: p.cache,
		StartTimeout: time.Minute, CallTimeout: time.Minute, // a busy machine is no failure
	}
	for _, c := range change {
		c(&o)
	}
	r := Open(o)
	p.t.Cleanup(r.Close)
	return r
}

// pids are the processes started so far.
func (p *place) pids() []int {
	raw, err := os.ReadFile(p.starts)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	var pids []int
	for _, f := range strings.Fields(string(raw)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

func (p *place) gone() {
	p.t.Helper()
	for _, pid := range p.pids() {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			p.t.Errorf("plug-in process %d is still there: %v", pid, err)
		}
	}
}

// use describes and builds.
func use(r *Registry, name string) error {
	if _, err := r.Describe(context.Background(), name); err != nil {
		return err
	}
	_, err := r.Build(context.Background(), name, params, model, sites)
	return err
}

func TestDescribeAndBuild(t *testing.T) {
	for _, name := range []string{"good", "chatty"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name)
			r := p.open()
			d, err := r.Describe(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if d.GetName() != name || d.GetVersion() != "1.2.3" || d.GetSchema() != schema {
				t.Errorf("described as %v", d)
			}
			reply, err := r.Build(t.Context(), name, params, model, sites)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply.GetPrograms()) != 1 || len(reply.GetProgramOfSite()) != 2 || reply.GetPrograms()[0].GetParams()[0].GetInit().GetA() != 2 {
				t.Errorf("built %v", reply)
			}
			r.Close()
			if len(p.pids()) != 1 {
				t.Errorf("%d processes for two calls", len(p.pids()))
			}
			// What it prints helps its author, and was lost (trial-plugins F9).
			if got, want := r.Printed(), map[string]string{"chatty": "good morning\nbuilding\nbuilding"}[name]; got != want {
				t.Errorf("it printed %q, want %q", got, want)
			}
			p.gone()
			if err := use(r, name); err != nil {
				t.Errorf("a closed registry still knows what was answered: %v", err)
			}
			if _, err := r.Build(t.Context(), name, `{"size": 3}`, model, sites); err == nil || !strings.Contains(err.Error(), "closed") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// What a file has answered once it is not asked again, in this command or the
// next; only other parameters, sites or a cache gone bad start it.
func TestAnswersAreKept(t *testing.T) {
	p := newPlace(t, "good")
	starts := func(what string, want int) {
		t.Helper()
		if n := len(p.pids()); n != want {
			t.Errorf("%s: %d processes started, want %d", what, n, want)
		}
	}
	if err := use(p.open(), "good"); err != nil {
		t.Fatal(err)
	}
	starts("first use", 1)
	r := p.open()
	if err := use(r, "good"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Build(t.Context(), "good", ` {  "size":2} `, model, sites); err != nil {
		t.Fatal(err)
	}
	starts("next command", 1)
	if _, err := r.Build(t.Context(), "good", params, model, sites[:1]); err != nil {
		t.Fatal(err)
	}
	starts("other sites", 2)

	replies, err := filepath.Glob(filepath.Join(p.cache, "variants", "*", "*.pb"))
	if err != nil || len(replies) != 3 {
		t.Fatalf("kept %q, error %v", replies, err)
	}
	for _, f := range replies {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := use(p.open(), "good"); err != nil {
		t.Fatal(err)
	}
	starts("damaged cache", 3)
	if err := os.WriteFile(filepath.Join(p.cache, "variants", "sums.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := use(p.open(), "good"); err != nil {
		t.Fatal(err)
	}
	starts("damaged sums", 3)
	if err := use(p.open(func(o *Options) { o.CacheDir = "" }), "good"); err != nil {
		t.Fatal(err)
	}
	starts("no cache", 4)
}

// A file that is written in place is asked again, also where its size is the same
// and its time of modification is put back (trial-reliability 28).
func TestAnswersOfAChangedFile(t *testing.T) {
	p := newPlace(t)
	p.copyOf("good", "1")
	r := p.open()
	if err := use(r, "good"); err != nil {
		t.Fatal(err)
	}
	r.Close() // a program that runs cannot be written to
	p.overwrite("good", "2")
	if err := use(p.open(), "good"); err != nil {
		t.Fatal(err)
	}
	if n := len(p.pids()); n != 2 {
		t.Errorf("%d processes started, want one for each content", n)
	}
}

// The sum of a settled file is kept; one in a cache that is no sum is not used
// (trial-reliability 27).
func TestSums(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("abc"), 0o755); err != nil {
		t.Fatal(err)
	}
	want, err := filehash.Of(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	now, err := stamp(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"", "abc", strings.Repeat("x", 64), strings.Repeat("ab", 32)} {
		now.SHA256 = kept
		c := cache{sums: map[string]summed{path: now}}
		expect := want
		if isSum(kept) {
			expect = kept // it was not read again
		}
		if got, err := c.sum(path, false); err != nil || got != expect {
			t.Errorf("kept %q: %s, %v", kept, got, err)
		}
		if got, err := c.sum(path, true); err != nil || got != want {
			t.Errorf("kept %q, read again: %s, %v", kept, got, err)
		}
	}
	now.Changed--
	now.SHA256 = strings.Repeat("ab", 32)
	c := cache{sums: map[string]summed{path: now}}
	if got, err := c.sum(path, false); err != nil || got != want {
		t.Errorf("changed since: %s, %v", got, err)
	}
}

// The settings of PEFT give parameters, are asked once, and a variant that does
// not read them says so.
func TestAdopt(t *testing.T) {
	p := newPlace(t, "good")
	for range 2 {
		reply, err := p.open().Adopt(t.Context(), "good", `{"r": 3}`, model, sites)
		if err != nil || reply.GetParamsJson() != `{"size":3}` {
			t.Errorf("%v, %v", reply, err)
		}
	}
	if n := len(p.pids()); n != 1 {
		t.Errorf("%d processes for one question", n)
	}
	r := p.open()
	reply, err := r.Adopt(t.Context(), "good", `{}`, model, sites)
	if err != nil || len(reply.GetProblems()) != 1 || reply.GetProblems()[0].GetParam() != "r" {
		t.Errorf("%v, %v", reply, err)
	}
	var e *Error
	other := newPlace(t, "chatty").open()
	if _, err := other.Adopt(t.Context(), "chatty", `{"r": 3}`, model, sites); !errors.As(err, &e) || !e.Unknown || !strings.Contains(err.Error(), "does not read PEFT files") {
		t.Errorf("error %v", err)
	}
	if _, err := r.Adopt(t.Context(), "good", `{`, model, sites); err == nil || !strings.Contains(err.Error(), "are not JSON") {
		t.Errorf("error %v", err)
	}
}

// A plug-in is installed with its bits, in place of another.
func TestInstall(t *testing.T) {
	from, dir := filepath.Join(t.TempDir(), "tiny"), filepath.Join(t.TempDir(), "new", "place")
	for _, text := range []string{"#!/bin/sh\n", "#!/bin/sh\nexit 1\n"} {
		if err := os.WriteFile(from, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		sum, err := filehash.Of(from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := Install(from, dir, sum)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(to)
		if err != nil || string(got) != text || to != filepath.Join(dir, "tiny") || !executable(to) {
			t.Errorf("%s has %q, error %v", to, got, err)
		}
		if _, err := Install(from, dir, strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), "the file changed meanwhile") {
			t.Errorf("another file than was looked at is installed: %v", err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, error %v", entries, err)
	}
	if _, err := Install(from+"x", dir, ""); err == nil {
		t.Error("no error for a file that is not there")
	}
}

// What came with a project is started only if the user trusts its content, also
// where it has the name of a variant of the user's own (trial-reliability 10).
func TestTrust(t *testing.T) {
	p := newPlace(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	theirs, mine := ProjectDir(p.root), p.dir()
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(theirs, "good"), filepath.Join(theirs, "chatty"), filepath.Join(mine, "chatty"), filepath.Join(mine, "refuses")} {
		if err := os.Symlink(self, file); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := filehash.Of(self)
	if err != nil {
		t.Fatal(err)
	}
	// The project pins its own plug-ins, which gives no trust.
	pins := map[string]Pin{}
	for _, name := range []string{"good", "chatty", "refuses"} {
		pins[name] = Pin{Version: "1.2.3", Protocol: 1, SHA256: []string{sum}}
	}
	if err := WriteLock(filepath.Join(p.root, LockFile), &Lock{Variants: pins}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trusted.json")
	open := func(trust string) *Registry {
		return p.open(func(o *Options) { o.Dirs, o.Trust = []string{theirs, mine}, trust })
	}
	starts := func(what string, want int) {
		t.Helper()
		if n := len(p.pids()); n != want {
			t.Errorf("%s: %d processes started, want %d", what, n, want)
		}
	}

	for _, trust := range []string{"", file} {
		r := open(trust)
		for _, name := range []string{"good", "chatty"} {
			var e *Error
			if err := use(r, name); !errors.As(err, &e) || !e.Untrusted || !strings.Contains(e.Hint, "runner plugins trust "+name) {
				t.Errorf("%s: %v", name, err)
			} else if shadows := strings.Contains(e.Message, filepath.Join(mine, name)); shadows != (name == "chatty") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := r.Untrusted(); len(got) != 2 || got[0] != filepath.Join(theirs, "chatty") {
			t.Errorf("not trusted are %q", got)
		}
	}
	starts("without trust", 0)
	if err := use(open(file), "refuses"); err != nil {
		t.Errorf("the user's own: %v", err)
	}
	starts("the user's own", 1)

	list, err := trust.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Add(trust.Entry{SHA256: sum, Name: "good"}); err != nil {
		t.Fatal(err)
	}
	r := open(file)
	if err := use(r, "good"); err != nil {
		t.Errorf("trusted: %v", err)
	}
	if got := r.Untrusted(); len(got) != 0 {
		t.Errorf("not trusted are %q", got)
	}
	r.Close()
	starts("trusted", 2)

	// Answers that are known from the time before do not count either.
	if _, err := list.Revoke("good"); err != nil {
		t.Fatal(err)
	}
	if err := use(open(file), "good"); err == nil {
		t.Error("it answers after the trust was revoked")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := use(open(file), "good"); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a damaged list: %v", err)
	}
	starts("in the end", 2)
	if err := use(open(file), "refuses"); err != nil {
		t.Errorf("a damaged list, the user's own: %v", err)
	}
}

// Where nothing may be started, what was answered before is known.
func TestKnownOnly(t *testing.T) {
	p := newPlace(t, "good")
	known := func() *Registry { return p.open(func(o *Options) { o.KnownOnly = true }) }
	if _, err := known().Describe(t.Context(), "good"); err == nil || !strings.Contains(err.Error(), "has not been asked this before") {
		t.Errorf("error %v", err)
	}
	if err := use(p.open(), "good"); err != nil {
		t.Fatal(err)
	}
	if err := use(known(), "good"); err != nil {
		t.Error(err)
	}
	if n := len(p.pids()); n != 1 {
		t.Errorf("%d processes", n)
	}
}

func TestSchemaCompletes(t *testing.T) {
	s, err := ReadSchema(&protocol.DescribeReply{Name: "lora", Schema: `#Params: {
		rank!: int & >=1 | error("must be at least 1")
		alpha: *(rank * 2) | number & >0
		mode: *"a" | "b"
	}`})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"rank: 4":                   `{"rank":4,"alpha":8,"mode":"a"}`,
		`{"rank": 1, "alpha": 0.5}`: `{"rank":1,"alpha":0.5,"mode":"a"}`,
	} {
		if got, err := s.Complete(user); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", user, got, err, want)
		}
	}
	for user, want := range map[string]string{
		"":                 "variant lora refuses the parameters {}:\nrank: it is missing",
		"rank: 0":          "variant lora refuses the parameters {rank: 0}:\nrank: must be at least 1",
		"rank: 1, rnak: 2": "variant lora refuses the parameters {rank: 1, rnak: 2}:\nrnak: there is no such parameter",
		"rank:":            "cannot be read",
	} {
		if _, err := s.Complete(user); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", user, err, want)
		}
	}
	// A mistake has its line (trial-plugins F9).
	for schema, want := range map[string]string{
		"#Params: {\n\t// Rank.\n\trank!: int & }\n": `variant x: line 3, column 15 of its schema: expected operand, found '}', in "rank!: int & }"`,
		"#Params: {\n\trank: itn\n}\n":               `line 2, column 8 of its schema: reference "itn" not found, in "rank: itn"`,
		"#Params: {":                                 "line 1, column 11 of its schema: ",
		"Params: {}":                                 "its schema has no definition #Params",
	} {
		if _, err := ReadSchema(&protocol.DescribeReply{Name: "x", Schema: schema}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", schema, err, want)
		}
	}
}

func TestManyCallersShareAProcess(t *testing.T) {
	p := newPlace(t, "good")
	r := p.open()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := r.Build(t.Context(), "good", fmt.Sprintf(`{"size": %d}`, i), model, sites); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(p.pids()); n != 1 {
		t.Errorf("%d processes", n)
	}
}

func TestProblemsWithTheParametersAreNoError(t *testing.T) {
	r := newPlace(t, "refuses").open()
	reply, err := r.Build(t.Context(), "refuses", params, model, sites)
	if err != nil {
		t.Fatal(err)
	}
	if q := reply.GetProblems(); len(q) != 1 || q[0].GetHint() != "use 1" || q[0].GetSite() != -1 {
		t.Errorf("problems %v", q)
	}
	if _, err := r.Build(t.Context(), "refuses", `{"size": `, model, sites); err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("error %v", err)
	}
}

// What a variant says of itself is shown on one line and without orders for a
// terminal, or it is refused (trial-plugins F8).
func TestDescriptionsAreText(t *testing.T) {
	p := &Plugin{Name: "good", Path: "/p/good"}
	sound := func() *protocol.DescribeReply {
		return &protocol.DescribeReply{Name: "good", Version: "1.0.0", Schema: schema, About: "An update", Formula: "y = base(x) + s·x Aᵀ Bᵀ", PeftType: "LORA"}
	}
	if err := checkDescription(p, sound()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*protocol.DescribeReply){
		"about":   func(d *protocol.DescribeReply) { d.About = "x\x1b[2J" },
		"version": func(d *protocol.DescribeReply) { d.Version = "1\nerror: fake" },
		"author":  func(d *protocol.DescribeReply) { d.Authors = []string{"a", "\u009b1m"} },
		"example": func(d *protocol.DescribeReply) { d.Examples = []string{"\r"} },
		"formula": func(d *protocol.DescribeReply) { d.Formula = "a\u202eb" },
		"peft":    func(d *protocol.DescribeReply) { d.PeftType = "../../../x" },
	} {
		d := sound()
		change(d)
		if err := checkDescription(p, d); err == nil || foreign.Line(strings.ReplaceAll(err.Error(), "\n", " ")) != strings.ReplaceAll(err.Error(), "\n", " ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	problem := fewer([]*protocol.Problem{{Param: "a\n", Message: "b\x1b[2J\nerror: fake", Hint: "c\r"}})[0]
	if problem.GetParam() != `a\n` || problem.GetMessage() != `b\x1b[2J\nerror: fake` || problem.GetHint() != `c\r` {
		t.Errorf("the problem is %v", problem)
	}
}

// Of the problems of a site the first ten are shown, and how many there are more
// (trial-plugins F8).
func TestFewerProblems(t *testing.T) {
	var problems []*protocol.Problem
	for i := range 100_000 {
		problems = append(problems, &protocol.Problem{Site: int32(i%2) - 1, Message: fmt.Sprint(i)})
	}
	got := fewer(append(problems, &protocol.Problem{Site: 7, Message: "one"}))
	if len(got) != 2*problemsMost+1+2 {
		t.Fatalf("%d problems are left", len(got))
	}
	if last := got[len(got)-1]; last.GetSite() != 0 || last.GetMessage() != "the variant finds 49990 more problems here" {
		t.Errorf("the last is %v", last)
	}
	if got[0].GetMessage() != "0" || got[20].GetMessage() != "one" {
		t.Errorf("left are %v", got)
	}
}

// A plug-in that misbehaves is one error with its name, what it did and what
// to do; its process is gone and the others work.
func TestMisbehaviour(t *testing.T) {
	for name, c := range map[string]struct {
		doing, message, hint, stack string
	}{
		"panics":   {"start", "ended instead of saying hello (exit status 2): panic: no config file", "tell its author", "panic: no config file"},
		"ends":     {"start", "ended instead of saying hello (exit status 0)", "no variant plug-in", ""},
		"explains": {"start", "it cannot start: the Python package grpcio is missing: pip install grpcio", "", ""},
		"floods":   {"Build", "panic: drowned", "tell its author", "size.Build"},
		"hangs":    {"start", "did not say hello within 1s and was killed", "tell its author", ""},
		"babbles":  {"start", `printed "Loading weights...`, "must not print to stdout", ""},
		// What it speaks, and that it was not reached rather than ended: trial-plugins F9.
		"newer":         {"start", "it speaks version 7 of loralab's protocol, and this runner speaks version 1", "use the release of loralab that it was built for, or build it with the sdk of this release", ""},
		"core":          {"start", "it speaks version 0 of go-plugin's protocol, and this runner speaks version 1", "build it with the sdk of this release", ""},
		"unreachable":   {"Describe", "it could not be reached at the socket that it names: dial unix /no/such/socket: connect: no such file or directory", "tell its author", ""},
		"panics_build":  {"Build", "panic: runtime error: index out of range [2] with length 0", "tell its author", "size.Build"},
		"crashes_build": {"Build", "it crashed: panic: out of range in a goroutine", "tell its author", "variant_test.go"},
		"hangs_build":   {"Build", "did not answer within 1s and was killed", "tell its author", ""},
		"mistaken":      {"Build", "query of block 3: node %0 x: the output has shape [T, 6], want [T, 10]", "tell its author", ""},
		"wrong":         {"Build", "a wrong program: query of block 3: node %0 x: the output has shape [T, 6], want [T, 10]", "tell its author", ""},
		"short":         {"Build", "0 sites were given a program, want 2", "tell its author", ""},
		"huge":          {"Build", "reply is larger than 4194304 bytes", "tell its author", ""},
		"mute":          {"Build", "does not know the call", "build it with the sdk of this release", ""},
		"impostor":      {"Describe", "the file impostor holds variant good", "name the file good", ""},
		"schemaless":    {"Describe", "no definition #Params", "tell its author", ""},
		"versionless":   {"Describe", "want a semantic version", "tell its author", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name, "good")
			if name == "hangs_build" { // a busy machine may take its time to describe
				patient := p.open()
				if _, err := patient.Describe(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				patient.Close()
			}
			r := p.open(func(o *Options) {
				switch name {
				case "hangs":
					o.StartTimeout = time.Second
				case "hangs_build":
					o.CallTimeout = time.Second
				}
			})
			err := use(r, name)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if e.Variant != name || e.Path != p.file(name) || e.Doing != c.doing || !strings.Contains(err.Error(), c.message) ||
				!strings.Contains(e.Hint, c.hint) || !strings.Contains(e.Stack, c.stack) {
				t.Errorf("error %#v\nwant %+v", e, c)
			}
			if strings.Contains(err.Error(), "\x1b") {
				t.Errorf("escape sequences in %q", err)
			}
			if name == "crashes_build" {
				if err := use(r, "good"); err != nil {
					t.Errorf("another variant fails too: %v", err)
				}
			}
			r.Close()
			p.gone()
		})
	}
}

// A plug-in ends with its runner, also when that dies before the plug-in runs.
func TestOrphanEnds(t *testing.T) {
	p := newPlace(t, "good")
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ours.Close() // as the system does for a process that was killed
	cmd := exec.CommandContext(t.Context(), p.file("good"))
	cmd.Env = append(os.Environ(), protocol.Handshake.MagicCookieKey+"="+protocol.Handshake.MagicCookieValue, protocol.Lifeline+"=3")
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Run()
	theirs.Close()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
}

// A plug-in that is killed while it starts is started again, once
// (trial-reliability 14).
func TestKilledAtTheStart(t *testing.T) {
	p := newPlace(t, "dies")
	if err := use(p.open(), "dies"); err != nil {
		t.Error(err)
	}
	if n := len(p.pids()); n != 2 {
		t.Errorf("%d processes", n)
	}
}

// A crashed plug-in is started again for the next call.
func TestACrashIsNotForever(t *testing.T) {
	p := newPlace(t, "crashes_build")
	r := p.open()
	for range 2 {
		if err := use(r, "crashes_build"); err == nil || !strings.Contains(err.Error(), "it crashed") {
			t.Fatalf("error %v", err)
		}
	}
	if n := len(p.pids()); n != 2 {
		t.Errorf("%d processes", n)
	}
}

func TestCancel(t *testing.T) {
	p := newPlace(t, "hangs_build")
	r := p.open()
	if _, err := r.Describe(t.Context(), "hangs_build"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := r.Build(ctx, "hangs_build", params, model, sites); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	p.gone()
	if _, err := p.open(func(o *Options) { o.CacheDir = "" }).Describe(ctx, "hangs_build"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFilesThatCannotRun(t *testing.T) {
	p := newPlace(t, "good")
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(p.file(name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("plain", "#!/bin/sh\n", 0o644)
	write("noise", "\x01\x02\x03", 0o755)
	write("orphan", "#!/no/such/python\n", 0o755)
	write("README.md", "", 0o755)
	write("Upper", "", 0o755)
	if err := os.Mkdir(p.file("folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := p.open(func(o *Options) { o.Dev = map[string]string{"lost": p.file("nowhere")} })
	if got := strings.Join(r.Names(), " "); got != "good noise orphan" {
		t.Errorf("names are %q", got)
	}
	for name, want := range map[string]string{
		"plain":  "not executable\nchmod +x ",
		"noise":  "not a program for this machine",
		"orphan": "the interpreter its first line names is missing: fork/exec",
		"lost":   "no such file or directory\ncheck the path",
	} {
		if err := use(r, name); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "variant "+name) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	var unknown *UnknownError
	if err := use(r, "goof"); !errors.As(err, &unknown) || strings.Join(unknown.Known, " ") != "good noise orphan" || len(unknown.Dirs) != 1 {
		t.Errorf("error %v", err)
	}
}

func TestTheFirstDirectoryCounts(t *testing.T) {
	one, two := newPlace(t, "good"), newPlace(t, "good", "chatty")
	r := Open(Options{Dirs: []string{one.dir(), two.dir(), "/no/such/directory"}})
	defer r.Close()
	if got := strings.Join(r.Names(), " "); got != "chatty good" {
		t.Errorf("names are %q", got)
	}
	for name, want := range map[string]string{"good": one.file("good"), "chatty": two.file("chatty")} {
		if p, err := r.Find(name); err != nil || p.Path != want || p.Locked || p.Dev {
			t.Errorf("%s is %+v, error %v", name, p, err)
		}
	}
}

func TestDefaultDirs(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got := DefaultDirs("/root/of/it")
	want := []string{"/root/of/it/plugins.d", "/data/loralab/plugins", filepath.Join(filepath.Dir(exe), "plugins")}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// copyOf puts a plug-in there that is a file of its own, with a mark at its
// end that makes its sum another one.
func (p *place) copyOf(name, mark string) {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		p.t.Fatal(err)
	}
	// A new file: the old one may still be running.
	if err := replacefile.Write(p.file(name), append(bytes.Clone(b), mark...)); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(p.file(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// overwrite writes the last byte of a plug-in in place and puts its time back.
func (p *place) overwrite(name, mark string) {
	p.t.Helper()
	info, err := os.Stat(p.file(name))
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := os.OpenFile(p.file(name), os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(mark), info.Size()-int64(len(mark))); err != nil {
		p.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chtimes(p.file(name), info.ModTime(), info.ModTime()); err != nil {
		p.t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	p := newPlace(t)
	p.copyOf("good", "1")
	lock := filepath.Join(p.root, LockFile)
	found, err := p.open().Find("good")
	if err != nil {
		t.Fatal(err)
	}
	pin := func(version, sum string) {
		t.Helper()
		err := WriteLock(lock, &Lock{Variants: map[string]Pin{"good": {Version: version, Protocol: 1, SHA256: []string{sum}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	pin("1.2.3", found.SHA256)
	r := p.open()
	if err := use(r, "good"); err != nil {
		t.Fatal(err)
	}
	if found, err = r.Find("good"); err != nil || !found.Locked {
		t.Errorf("found %+v, error %v", found, err)
	}

	t.Run("a changed file is refused with both sums", func(t *testing.T) {
		old := found.SHA256
		p.copyOf("good", "2")
		r := p.open()
		err := use(r, "good")
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, old) || strings.Count(e.Message, "SHA-256 is") != 1 || !strings.Contains(e.Hint, "runner plugins lock good") {
			t.Fatalf("error %v", err)
		}
		free := Open(Options{Dirs: r.Dirs()})
		defer free.Close()
		now, err := free.Find("good")
		if err != nil || now.SHA256 == old || !strings.Contains(e.Message, now.SHA256) {
			t.Errorf("now %+v, error %v, said %s", now, err, e.Message)
		}
		if n := len(p.pids()); n != 1 {
			t.Errorf("%d processes were started, want only the one before the change", n)
		}
	})
	t.Run("a change under the same size and time is refused too", func(t *testing.T) {
		p.copyOf("good", "3")
		r := p.open(func(o *Options) { o.Root = "" })
		was, err := r.Find("good")
		if err != nil {
			t.Fatal(err)
		}
		pin("1.2.3", was.SHA256)
		p.overwrite("good", "4")
		if err := use(p.open(), "good"); err == nil || !strings.Contains(err.Error(), "the file has changed") {
			t.Errorf("error %v", err)
		}
		if n := len(p.pids()); n != 1 {
			t.Errorf("the changed file was started: %d processes", n)
		}
		// Without a lock it is a new plug-in like any other.
		if err := use(r, "good"); err != nil {
			t.Errorf("without a lock: %v", err)
		}
	})
	t.Run("what the lock does not list is refused", func(t *testing.T) {
		p.copyOf("chatty", "1")
		if err := use(p.open(), "chatty"); err == nil || !strings.Contains(err.Error(), "runner.lock does not list it\nif you trust the file") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("another version is refused", func(t *testing.T) {
		p.copyOf("good", "1")
		pin("2.0.0", found.SHA256)
		if _, err := p.open().Describe(t.Context(), "good"); err == nil || !strings.Contains(err.Error(), "it is version 1.2.3, runner.lock has 2.0.0") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a dev plug-in is used in spite of it, with a warning", func(t *testing.T) {
		var warnings []string
		r := p.open(func(o *Options) {
			o.Dev = map[string]string{"chatty": p.file("chatty")}
			o.Warn = func(s string) { warnings = append(warnings, s) }
		})
		if err := use(r, "chatty"); err != nil {
			t.Fatal(err)
		}
		if found, err := r.Find("chatty"); err != nil || !found.Dev {
			t.Errorf("found %+v, error %v", found, err)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], p.file("chatty")) {
			t.Errorf("warnings %q", warnings)
		}
	})
	t.Run("a damaged lock stops everything", func(t *testing.T) {
		if err := os.WriteFile(lock, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := use(p.open(), "good"); err == nil || !strings.Contains(err.Error(), "restore it from version control") {
			t.Errorf("error %v", err)
		}
	})
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), LockFile)
	if l, err := ReadLock(path); l != nil || err != nil {
		t.Fatalf("no lock reads as %v, error %v", l, err)
	}
	a, b := strings.Repeat("ab", 32), strings.Repeat("01", 32)
	l := &Lock{Variants: map[string]Pin{
		"lora": {Version: "1.0.0", Protocol: 1, SHA256: []string{a, b, a}},
		"dora": {Version: "0.1.0", Protocol: 1, SHA256: []string{a}},
	}}
	if err := WriteLock(path, l); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
	"lock": 1,
	"variants": {
		"dora": {
			"version": "0.1.0",
			"protocol": 1,
			"sha256": [
				"` + a + `"
			]
		},
		"lora": {
			"version": "1.0.0",
			"protocol": 1,
			"sha256": [
				"` + b + `",
				"` + a + `"
			]
		}
	}
}
`
	if string(raw) != want {
		t.Errorf("got\n%s", raw)
	}
	back, err := ReadLock(path)
	if err != nil || len(back.Variants) != 2 || back.Variants["lora"].Version != "1.0.0" {
		t.Errorf("read %+v, error %v", back, err)
	}
	for content, want := range map[string]string{
		`{"lock": 2}`:         "format 2",
		`{"lock": 1, "x": 1}`: "unknown field",
		`{"lock": 1, "variants": {"A": {"version": "1", "protocol": 1, "sha256": ["` + a + `"]}}}`: "cannot be the name",
		`{"lock": 1, "variants": {"a": {"version": "1", "protocol": 1, "sha256": ["xy"]}}}`:        "no SHA-256",
		`{"lock": 1, "variants": {"a": {"version": "1", "protocol": 9, "sha256": ["` + a + `"]}}}`: "protocol 9",
		`{"lock": 1, "variants": {"a": {"protocol": 1}}}`:                                          "needs a version",
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", content, err, want)
		}
	}
	if err := WriteLock(path, &Lock{Variants: map[string]Pin{"a": {}}}); err == nil {
		t.Error("wrote a lock that cannot be read")
	}
}

// However much a plug-in prints, the beginning and the end are kept.
func TestTail(t *testing.T) {
	var b tail
	fmt.Fprint(&b, "panic: first\x00\x1b[0m\n")
	for range 100 {
		fmt.Fprintln(&b, strings.Repeat("x", 1000))
	}
	fmt.Fprint(&b, "last")
	got := b.String()
	if !strings.HasPrefix(got, "panic: first[0m\n") || !strings.HasSuffix(got, "\nlast") || !strings.Contains(got, "bytes left out") || len(got) > 3*tailSize {
		t.Errorf("%d bytes: %.40q … %q", len(got), got, got[len(got)-20:])
	}
}

func TestCrashReports(t *testing.T) {
	for printed, want := range map[string]string{
		"noise\npanic: boom\n\ngoroutine 1":                                              "panic: boom",
		"fatal error: all goroutines are asleep - deadlock!\n":                           "fatal error: all goroutines are asleep - deadlock!",
		"Traceback (most recent call last):\n  File \"v.py\", line 3\nValueError: bad r": "ValueError: bad r",
		"just talk": "",
	} {
		if got := crash(printed); got != want {
			t.Errorf("%q: got %q, want %q", printed, got, want)
		}
	}
}

// A lock file that is a pipe is refused and not waited for (trial-reliability 24).
func TestLockThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), LockFile)
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLock(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe as %s: %v", LockFile, err)
	}
}

// The package documentation of the sdk says what a plug-in may not exceed
// (trial-plugins, section 4).
func TestLimitsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("../../plugins/sdk/sdk.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(source), "// # Limits\n")
	text, _, _ = strings.Cut(text, "\npackage sdk")
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "//", "")), " ")
	power := func(n int) string { return fmt.Sprintf("2^%d", bits.Len(uint(n))-1) }
	kib := func(n int) string {
		if n >= 1<<20 {
			return fmt.Sprintf("%d MiB", n>>20)
		}
		return fmt.Sprintf("%d KiB", n>>10)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
	for _, want := range []string{
		fmt.Sprintf("at most %d nodes, %d parameters and %s when encoded", program.MaxNodes, program.MaxParams, kib(program.MaxBytes)),
		fmt.Sprintf("at most %d dimensions", program.MaxRank),
		"A parameter has at most " + power(program.MaxElements) + " elements",
		"at most " + power(program.MaxMemory) + " elements together and take at most " + power(program.MaxWork) + " multiplications",
		"at most " + power(program.MaxTokenMemory) + " elements and take at most " + power(program.MaxTokenWork) + " multiplications for each token",
		"A request and a reply have at most " + kib(protocol.MessageLimit),
		"A schema has at most " + kib(maxSchema) + ", and it is evaluated within " + seconds(trialLimits.CPU) + " of computing and " + kib(int(trialLimits.Memory)) + " of memory",
		"at most " + kib(maxText) + "; of the problems of one site " + strconv.Itoa(problemsMost) + " are shown",
		seconds(StartTimeout) + " to start and " + seconds(CallTimeout) + " for each call",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the documentation does not say %q", want)
		}
	}
}
