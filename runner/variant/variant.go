// Package variant finds, starts and asks variant plug-ins, and believes none
// of them.
//
// A plug-in is an executable file named like its variant, in plugins.d beside
// the experiments, in the user's data directory or next to the binary. It is
// started only when there is something to ask that its file has not answered
// before: replies are kept under the SHA-256 of the file. Whatever it says is
// checked before anyone else sees it, and whatever it does instead (crash,
// hang, babble) becomes one Error that names it and says what to do.
//
// A plug-in runs with the user's rights. One in plugins.d came with the project,
// and is started only if the user trusts its content; the other places are the
// user's own. If runner.lock lies in the root, only files with the sums it lists
// are started; it narrows the choice and gives no trust.
package variant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/trust"
)

// How long a plug-in may take, unless Options say otherwise. A plug-in takes
// milliseconds, but the first start of one that imports PyTorch from a network
// disk takes many seconds, and so does any on a busy machine.
const (
	StartTimeout = 30 * time.Second
	CallTimeout  = 30 * time.Second
)

// Options of a Registry.
type Options struct {
	// Root is the directory of the experiments; <Root>/runner.lock, if there,
	// is obeyed, and files in <Root>/plugins.d need the user's trust.
	Root string
	// Trust is the file with the contents that the user trusts, see TrustFile;
	// "" trusts none.
	Trust string
	// NoLock disregards runner.lock.
	NoLock bool
	// KnownOnly starts no plug-in, trusted or not: only what was answered before
	// is there.
	KnownOnly bool
	// Dirs are searched in order, the first file of a name counts; nil is
	// DefaultDirs(Root).
	Dirs []string
	// CacheDir keeps what plug-ins answered, below variants/; "" keeps it in
	// memory only.
	CacheDir string
	// Dev names files to use instead of what Dirs and runner.lock say. The user
	// has named them, so they are trusted.
	Dev map[string]string
	// Warn hears of what is legal but should not go unnoticed; may be nil.
	Warn func(string)

	StartTimeout, CallTimeout time.Duration // 0: the constants
}

// Registry knows the plug-ins of one command. It may be used by several
// goroutines. Close ends the processes it has started.
type Registry struct {
	o     Options
	cache cache

	mu       sync.Mutex
	found    map[string]file // by name
	lock     *Lock           // nil: none
	lockErr  error
	trust    *trust.List // nil: trusts nothing
	trustErr error
	plugins  map[string]*Plugin
	warned   map[string]bool
	asked    map[string]bool                    // names that were looked up
	describe map[string]*protocol.DescribeReply // by sum
	process  map[string]*process                // by sum
	printed  []*tail                            // of all processes
	closed   bool
}

// Plugin is a file that is allowed to be started.
type Plugin struct {
	Name   string
	Path   string
	SHA256 string // hex
	Dev    bool   // named by Options.Dev
	Locked bool   // its sum is in runner.lock
	// Bundled says that it is in the directory of a release, next to runner.
	Bundled bool
}

type file struct {
	path       string
	executable bool
	project    bool   // it came with the project
	shadows    string // the file of that name that is found without it
}

// nameRule is what a variant may be called.
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// IsName reports whether a variant may be called so.
func IsName(name string) bool { return nameRule.MatchString(name) }

// DefaultDirs are the places where plug-ins live: <root>/plugins.d, the user's
// data directory and plugins next to the binary.
func DefaultDirs(root string) []string {
	dirs := []string{ProjectDir(root)}
	if user, err := UserDir(); err == nil {
		dirs = append(dirs, user)
	}
	if dir := bundledDir(); dir != "" {
		dirs = append(dirs, dir)
	}
	return dirs
}

// bundledDir holds the plug-ins of a release; "" if that is not known.
func bundledDir() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Join(filepath.Dir(exe), "plugins")
}

// ProjectDir holds the plug-ins of a project.
func ProjectDir(root string) string { return filepath.Join(root, "plugins.d") }

// UserDir holds the plug-ins of a user, in $XDG_DATA_HOME or ~/.local/share.
func UserDir() (string, error) { return inUserData("plugins") }

// TrustFile lists the contents that a user trusts in any project.
func TrustFile() (string, error) { return inUserData("trusted.json") }

func inUserData(name string) (string, error) {
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the user's data directory: %w", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "loralab", name), nil
}

// Open looks which plug-ins there are. It starts none and cannot fail: a
// directory that is not there has no plug-ins.
func Open(o Options) *Registry {
	if o.Dirs == nil {
		o.Dirs = DefaultDirs(o.Root)
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = StartTimeout
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = CallTimeout
	}
	r := &Registry{
		o:        o,
		cache:    cache{dir: o.CacheDir},
		found:    discover(o.Dirs, o.Root),
		plugins:  map[string]*Plugin{},
		warned:   map[string]bool{},
		asked:    map[string]bool{},
		describe: map[string]*protocol.DescribeReply{},
		process:  map[string]*process{},
	}
	for name, path := range o.Dev {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		r.found[name] = file{path: path, executable: executable(path)}
	}
	if o.Root != "" && !o.NoLock {
		r.lock, r.lockErr = ReadLock(filepath.Join(o.Root, LockFile))
	}
	for _, f := range r.found {
		if f.project && o.Trust != "" {
			r.trust, r.trustErr = trust.Open(o.Trust)
			break
		}
	}
	return r
}

// discover lists the files that are named like a variant.
func discover(dirs []string, root string) map[string]file {
	found := map[string]file{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		project := root != "" && sameDir(dir, ProjectDir(root))
		for _, e := range entries {
			name := e.Name()
			if !nameRule.MatchString(name) {
				continue
			}
			path := filepath.Join(dir, name)
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			// Stat, not the entry: a plug-in may be a link.
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			first, ok := found[name]
			switch {
			case !ok:
				found[name] = file{path: path, executable: info.Mode()&0o111 != 0, project: project}
			case first.shadows == "":
				first.shadows = path
				found[name] = first
			}
		}
	}
	return found
}

// sameDir reports whether two names lead to one directory.
func sameDir(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	two, err := os.Stat(b)
	return err == nil && os.SameFile(one, two)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Names are the variants there are, sorted.
func (r *Registry) Names() []string {
	var names []string
	for name, f := range r.found {
		if f.executable {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// UnusedDev are the names in Options.Dev that nobody has asked for, sorted.
func (r *Registry) UnusedDev() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.o.Dev {
		if !r.asked[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Dirs are the directories that were searched.
func (r *Registry) Dirs() []string { return slices.Clone(r.o.Dirs) }

// Untrusted are the files of the project that have the names of variants and that
// the user does not trust, sorted. None of them is started.
func (r *Registry) Untrusted() []string {
	var paths []string
	for _, name := range r.Names() {
		var e *Error
		if _, err := r.Find(name); errors.As(err, &e) && e.Untrusted {
			paths = append(paths, e.Path)
		}
	}
	slices.Sort(paths)
	return paths
}

// Find returns the plug-in of a name if it may be started: an *UnknownError
// if there is none, an *Error if its file cannot run, is not trusted, or
// runner.lock forbids it.
func (r *Registry) Find(name string) (*Plugin, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(name)
}

func (r *Registry) find(name string) (*Plugin, error) {
	r.asked[name] = true
	if p, ok := r.plugins[name]; ok {
		return p, nil
	}
	f, ok := r.found[name]
	if !ok {
		return nil, &UnknownError{Name: name, Known: r.Names(), Dirs: r.Dirs()}
	}
	p := &Plugin{Name: name, Path: f.path, Bundled: filepath.Dir(f.path) == bundledDir()}
	_, p.Dev = r.o.Dev[name]
	fail := func(message, hint string, err error) (*Plugin, error) {
		return nil, &Error{Variant: name, Path: f.path, Message: message, Hint: hint, Err: err}
	}
	if !f.executable {
		switch info, err := os.Stat(f.path); {
		case err != nil:
			return fail("the file is missing", "check the path", err)
		case info.IsDir():
			return fail("it is a directory", "name the file of the plug-in, which go build makes there", nil)
		}
		return fail("the file is not executable", "chmod +x "+f.path, nil)
	}
	sum, err := r.cache.sum(f.path, false)
	if err != nil {
		return fail("the file cannot be read", "check its permissions", err)
	}
	p.SHA256 = sum
	if p.Dev {
		if !r.warned[name] {
			r.warn(fmt.Sprintf("variant %s comes from %s, as --dev-plugin says; runner.lock is not obeyed", name, f.path))
			r.warned[name] = true
		}
	} else if err := r.trusted(f, p); err != nil {
		return nil, err
	} else if err := r.permit(p); err != nil {
		return nil, err
	}
	r.plugins[name] = p
	return p, nil
}

// trusted asks whether the user lets a plug-in of the project be started. One that
// has the name of a variant of the user's own is refused too: neither of the two
// may be used silently in place of the other.
func (r *Registry) trusted(f file, p *Plugin) error {
	switch {
	case !f.project:
		return nil
	case r.trustErr != nil:
		return r.trustErr
	case r.trust.Has(p.SHA256):
		return nil
	}
	e := &Error{
		Variant: p.Name, Path: p.Path, Untrusted: true,
		Message: "it came with the project and you have not trusted it: a plug-in runs with your rights",
		Hint:    "if you know what " + p.Path + " does: runner plugins trust " + p.Name,
	}
	if f.shadows != "" {
		e.Message += "; it has the name of " + f.shadows + ", which is not used in its place"
		e.Hint += "; otherwise remove the file"
	}
	return e
}

// permit holds a plug-in against runner.lock.
func (r *Registry) permit(p *Plugin) error {
	if r.lockErr != nil {
		return r.lockErr
	}
	if r.lock == nil {
		return nil
	}
	pin, ok := r.lock.Variants[p.Name]
	if !ok {
		return &Error{
			Variant: p.Name, Path: p.Path, Message: LockFile + " does not list it",
			Hint: "if you trust the file, pin it with: runner plugins lock " + p.Name,
		}
	}
	if !slices.Contains(pin.SHA256, p.SHA256) {
		return &Error{
			Variant: p.Name, Path: p.Path,
			Message: fmt.Sprintf("the file has changed: its SHA-256 is %s, %s has %s", p.SHA256, LockFile, strings.Join(pin.SHA256, " or ")),
			Hint:    "restore the file, or if you trust it pin it anew with: runner plugins lock " + p.Name,
		}
	}
	p.Locked = true
	return nil
}

func (r *Registry) warn(message string) {
	if r.o.Warn != nil {
		r.o.Warn(message)
	}
}

// Describe returns what a variant says of itself.
func (r *Registry) Describe(ctx context.Context, name string) (*protocol.DescribeReply, error) {
	reply := &protocol.DescribeReply{}
	var p *Plugin
	asked := false
	err := r.ask(ctx, name, "Describe", describedKey, reply,
		func(ctx context.Context, c protocol.VariantClient) (proto.Message, error) {
			asked = true
			return c.Describe(ctx, &protocol.DescribeRequest{})
		},
		func(q *Plugin) error {
			p = q
			if err := checkDescription(q, reply); err != nil || !asked {
				return err // what was kept has been evaluated before
			}
			return evaluable(ctx, q, reply)
		})
	if err != nil {
		return nil, err
	}
	if p.Locked {
		if pin := r.lock.Variants[name].Version; pin != reply.GetVersion() {
			return nil, &Error{
				Variant: name, Path: p.Path,
				Message: fmt.Sprintf("it is version %s, %s has %s", reply.GetVersion(), LockFile, pin),
				Hint:    "pin it anew with: runner plugins lock " + name,
			}
		}
	}
	return reply, nil
}

// Build returns the checked programs of the sites for concrete parameters. If
// the variant has found a mistake in the parameters that its schema cannot
// express, the reply has Problems and nothing else, and the error is nil.
func (r *Registry) Build(ctx context.Context, name, paramsJSON string, m *protocol.Model, sites []*protocol.Site) (*protocol.BuildReply, error) {
	params, err := canonical(paramsJSON)
	if err != nil {
		return nil, fmt.Errorf("the parameters of variant %s are not JSON: %w", name, err)
	}
	request := &protocol.BuildRequest{ParamsJson: params, Model: m, Sites: sites}
	key, err := replyKey("build", request)
	if err != nil {
		return nil, fmt.Errorf("encoding the request to variant %s: %w", name, err)
	}
	reply := &protocol.BuildReply{}
	err = r.ask(ctx, name, "Build", key, reply,
		func(ctx context.Context, c protocol.VariantClient) (proto.Message, error) {
			return c.Build(ctx, request)
		},
		func(p *Plugin) error { return checkPrograms(p, reply, request) })
	if err != nil {
		return nil, err
	}
	reply.Problems = fewer(reply.GetProblems())
	return reply, nil
}

// Adopt returns parameters that build the adapter which PEFT wrote with the
// settings in configJSON, its adapter_config.json, at the sites. If the variant
// has no such adapter, the reply has Problems and nothing else, and the error
// is nil. A variant that does not read PEFT's files is an error.
func (r *Registry) Adopt(ctx context.Context, name, configJSON string, m *protocol.Model, sites []*protocol.Site) (*protocol.AdoptReply, error) {
	config, err := canonical(configJSON)
	if err != nil {
		return nil, fmt.Errorf("the settings of the PEFT adapter are not JSON: %w", err)
	}
	request := &protocol.AdoptRequest{ConfigJson: config, Model: m, Sites: sites}
	key, err := replyKey("adopt", request)
	if err != nil {
		return nil, fmt.Errorf("encoding the request to variant %s: %w", name, err)
	}
	reply := &protocol.AdoptReply{}
	err = r.ask(ctx, name, "Adopt", key, reply,
		func(ctx context.Context, c protocol.VariantClient) (proto.Message, error) {
			return c.Adopt(ctx, request)
		},
		func(p *Plugin) error { return checkAdopted(p, reply, request) })
	if err != nil {
		return nil, err
	}
	reply.Problems = fewer(reply.GetProblems())
	return reply, nil
}

// replyKey is the name under which the reply to a request is kept.
func replyKey(call string, request proto.Message) (string, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(raw)
	return call + "-" + hex.EncodeToString(hash[:]), nil
}

// ask fills reply from the cache or else from the plug-in, and has it checked
// either way.
func (r *Registry) ask(
	ctx context.Context, name, doing, key string, reply proto.Message,
	call func(context.Context, protocol.VariantClient) (proto.Message, error), check func(*Plugin) error,
) error {
	p, err := r.Find(name)
	if err != nil {
		return err
	}
	if r.cache.get(p.SHA256, key, reply) && check(p) == nil {
		return nil
	}
	answer, p, err := r.call(ctx, p, doing, call)
	if err != nil {
		return err
	}
	proto.Reset(reply)
	proto.Merge(reply, answer)
	if err := check(p); err != nil {
		return err
	}
	if err := r.cache.put(p.SHA256, key, reply); err != nil {
		r.warn(fmt.Sprintf("cannot keep what variant %s answered: %v", name, err))
	}
	return nil
}

// call starts the plug-in if it does not run and makes one call. It returns
// the plug-in anew because its file may have changed under its old sum.
func (r *Registry) call(
	ctx context.Context, p *Plugin, doing string, call func(context.Context, protocol.VariantClient) (proto.Message, error),
) (proto.Message, *Plugin, error) {
	proc, p, err := r.running(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	limited, cancel := context.WithTimeout(ctx, r.o.CallTimeout)
	defer cancel()
	answer, err := call(limited, proc.client)
	if err == nil {
		return answer, p, nil
	}
	if ctx.Err() != nil {
		r.drop(p, proc)
		return nil, nil, fmt.Errorf("asking variant %s to %s: %w", p.Name, doing, ctx.Err())
	}
	if fatal(err) {
		r.drop(p, proc) // also completes what it has printed
	}
	return nil, nil, proc.explain(p, doing, err, r.o.CallTimeout)
}

// running returns the process of a plug-in, started if need be.
func (r *Registry) running(ctx context.Context, p *Plugin) (*process, *Plugin, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, fmt.Errorf("asking variant %s: the registry is closed", p.Name)
	}
	for again := false; ; again = true {
		if proc, ok := r.process[p.SHA256]; ok {
			return proc, p, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("starting variant %s: %w", p.Name, err)
		}
		if r.o.KnownOnly {
			return nil, nil, &Error{Variant: p.Name, Path: p.Path, Message: "it has not been asked this before, and is not started now"}
		}
		proc, err := start(ctx, p, r.o.StartTimeout)
		if err == nil {
			r.process[p.SHA256] = proc
			r.printed = append(r.printed, proc.printed)
			return proc, p, nil
		}
		var e *Error
		if again || !isChanged(err) && !(errors.As(err, &e) && e.killed) {
			return nil, nil, err
		}
		if !isChanged(err) {
			continue // memory that was short may be there now
		}
		// Changed within the same size and time: read it in full and ask
		// runner.lock once more.
		if _, err := r.cache.sum(p.Path, true); err != nil {
			return nil, nil, &Error{Variant: p.Name, Path: p.Path, Message: "the file cannot be read", Err: err}
		}
		delete(r.plugins, p.Name)
		if p, err = r.find(p.Name); err != nil {
			return nil, nil, err
		}
	}
}

// drop ends a process that cannot be asked again.
func (r *Registry) drop(p *Plugin, proc *process) {
	r.mu.Lock()
	if r.process[p.SHA256] == proc {
		delete(r.process, p.SHA256)
	}
	r.mu.Unlock()
	proc.end(true)
}

// Close ends all processes. The registry cannot start any more.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	procs := r.process
	r.process = map[string]*process{}
	r.mu.Unlock()
	var all sync.WaitGroup
	for _, p := range procs {
		all.Go(func() { p.end(false) })
	}
	all.Wait()
}

// Printed is what the plug-ins that were started have printed; all of it after Close.
func (r *Registry) Printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, t := range r.printed {
		if text := t.String(); text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "\n")
}

// Limits of what a description may say.
const (
	maxSchema = 256 << 10
	maxText   = 4 << 10
)

var peftType = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

// checkDescription checks what a variant says of itself.
func checkDescription(p *Plugin, d *protocol.DescribeReply) error {
	fail := func(format string, args ...any) error {
		return &Error{
			Variant: p.Name, Path: p.Path, Doing: "Describe", Message: fmt.Sprintf(format, args...),
			Hint: hintAuthor,
		}
	}
	switch {
	case !nameRule.MatchString(d.GetName()):
		return fail("it calls itself %.100q, want lower-case letters, digits and _", d.GetName())
	case d.GetName() != p.Name:
		return &Error{
			Variant: p.Name, Path: p.Path, Doing: "Describe",
			Message: fmt.Sprintf("the file %s holds variant %s", filepath.Base(p.Path), d.GetName()),
			Hint:    "name the file " + d.GetName(),
		}
	case d.GetVersion() == "" || len(d.GetVersion()) > 100:
		return fail("version %.100q, want a semantic version such as 1.0.0", d.GetVersion())
	case !peftType.MatchString(d.GetPeftType()):
		return fail("PEFT type %.100q, want letters, digits and _, LORA for example", d.GetPeftType())
	case len(d.GetSchema()) > maxSchema:
		return fail("a schema of %d bytes, at most %d are allowed", len(d.GetSchema()), maxSchema)
	case !strings.Contains(d.GetSchema(), "#Params"):
		return fail("its schema has no definition #Params")
	}
	texts := slices.Concat([]string{d.GetVersion(), d.GetPaper(), d.GetAbout(), d.GetFormula(), d.GetParameters(), d.GetPeftType()}, d.GetAuthors(), d.GetExamples())
	for _, text := range texts {
		if len(text) > maxText {
			return fail("a text of %d bytes, at most %d are allowed", len(text), maxText)
		}
		if foreign.Line(text) != text {
			return fail("a text with control characters or more than one line: %.100q", text)
		}
	}
	return nil
}

// checkPrograms checks the reply to a Build.
func checkPrograms(p *Plugin, reply *protocol.BuildReply, request *protocol.BuildRequest) error {
	fail := func(message string, err error) error {
		return &Error{
			Variant: p.Name, Path: p.Path, Doing: "Build", Message: message, Err: err, Hint: hintAuthor,
		}
	}
	if err := checkProblems(p, "Build", reply.GetProblems(), request.GetSites()); err != nil || len(reply.GetProblems()) > 0 {
		return err
	}
	placed, err := program.CheckAll(reply.GetPrograms(), request.GetSites(), reply.GetProgramOfSite(), request.GetModel())
	if err != nil {
		return fail("a wrong program", err)
	}
	if reply.GetPeft() != nil {
		if _, err := program.CheckPeftAll(reply.GetPeft(), placed, reply.GetProgramOfSite()); err != nil {
			return fail("a wrong PEFT part", err)
		}
	}
	return nil
}

// checkAdopted checks the reply to an Adopt.
func checkAdopted(p *Plugin, reply *protocol.AdoptReply, request *protocol.AdoptRequest) error {
	if err := checkProblems(p, "Adopt", reply.GetProblems(), request.GetSites()); err != nil || len(reply.GetProblems()) > 0 {
		return err
	}
	if _, err := canonical(reply.GetParamsJson()); err != nil {
		return &Error{Variant: p.Name, Path: p.Path, Doing: "Adopt", Message: "parameters that are not JSON", Err: err, Hint: hintAuthor}
	}
	return nil
}

// checkProblems checks what a plug-in finds wrong with what it was given.
func checkProblems(p *Plugin, doing string, problems []*protocol.Problem, sites []*protocol.Site) error {
	fail := func(message string) error {
		return &Error{Variant: p.Name, Path: p.Path, Doing: doing, Message: message, Hint: hintAuthor}
	}
	for i, problem := range problems {
		if problem.GetMessage() == "" || len(problem.GetMessage()) > maxText || len(problem.GetHint()) > maxText {
			return fail(fmt.Sprintf("problem %d has no message, or one of more than %d bytes", i, maxText))
		}
		if s := int(problem.GetSite()); s < -1 || s >= len(sites) {
			return fail(fmt.Sprintf("problem %d is about site %d of %d", i, s, len(sites)))
		}
	}
	return nil
}

// problemsMost is how many problems of one site are shown; more say the same.
const problemsMost = 10

// fewer leaves out problems beyond problemsMost of a site and says how many.
func fewer(problems []*protocol.Problem) []*protocol.Problem {
	var kept []*protocol.Problem
	var sites []int32 // that have some left out, in order
	seen := map[int32]int{}
	for _, p := range problems {
		// They become messages and hints, a line each.
		p.Param, p.Message, p.Hint = foreign.Line(p.GetParam()), foreign.Line(p.GetMessage()), foreign.Line(p.GetHint())
		site := p.GetSite()
		if seen[site]++; seen[site] <= problemsMost {
			kept = append(kept, p)
		} else if seen[site] == problemsMost+1 {
			sites = append(sites, site)
		}
	}
	for _, site := range sites {
		more := seen[site] - problemsMost
		kept = append(kept, &protocol.Problem{Site: site, Message: fmt.Sprintf("the variant finds %d more problems here", more)})
	}
	return kept
}

// canonical is JSON with sorted keys and no spaces.
func canonical(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}
