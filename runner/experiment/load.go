package experiment

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	"cuelang.org/go/mod/modfile"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/bounded"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/schema"
)

// Env is what experiments are resolved against.
type Env struct {
	// Root is the project; empty: FindRoot of each file.
	Root string
	// Tags are values for @tag fields of the files, "scale=smoke".
	Tags []string
	// Set are values that take the place of what the files give at a path, in
	// each of their experiments: "optim.lr.adapter=1e-3". They are checked by
	// the same schema. A value is CUE, or a bare word, which is a text.
	Set []string
	// Variants and Hub answer for plug-ins and backbones. A nil one leaves
	// unchecked what it would answer, and experiments then have no runs: enough
	// for an editor, for Parts, or a machine without either.
	Variants *variant.Registry
	Hub      *backbone.Finder
	// Index knows the files of data sets; nil: one of its own.
	Index *data.Index
	// CheckData reads every image and mask in use, so that a damaged file or
	// a mask value without a class is found before anything runs. What was
	// read once costs a stat.
	CheckData bool
	// KeepGoing leaves out the cells whose plug-in fails, with a warning, instead
	// of refusing the file. A mistake of the user's is an error all the same.
	KeepGoing bool
	// Cluster has the experiments say how long workers on a cluster may take.
	Cluster bool
	// Trained, unless nil, is the version of a variant that runs of an experiment
	// were trained with; "" for none. It is asked about a variant without a plug-in.
	Trained func(experiment, variant string) string
	// Fetch, unless nil, has backbones downloaded that are not on this machine,
	// and is told what happens, a line at a time.
	Fetch func(string)

	slow bool // evaluate every cell in full, see evaluate.go
}

// loadLimits are several times what 100,000 runs take, the most that an experiment
// has. They are for values of the user's files that are too long: a list of n
// elements takes CUE time proportional to n², 10 s for 100,000.
var loadLimits = bounded.Limits{CPU: 5 * time.Minute, Memory: min(bounded.Most(), 8<<30)}

// Load reads files, checks them, expands their matrices and resolves every
// run. It returns all mistakes of all files at once; experiments without a
// mistake are returned even if others have some, in the order of the files.
func Load(ctx context.Context, files []string, env Env) ([]*Experiment, diagnostic.List) {
	var experiments []*Experiment
	var found diagnostic.List
	err := bounded.Do(ctx, loadLimits, func() { experiments, found = loadWith(files, env, newResolver(ctx, env)) })
	var exceeded *bounded.Exceeded
	switch {
	case errors.As(err, &exceeded):
		takes := loadLimits.CPU.String() + " of computing"
		if exceeded.Memory {
			takes = bounded.Bytes(loadLimits.Memory) + " of memory"
		}
		return nil, diagnostic.List{{
			Message: "reading the experiments takes more than " + takes,
			Hint:    "a list, a comprehension or a matrix in a file is too long",
			At:      diagnostic.Position{File: files[0]},
		}}
	case err != nil:
		return nil, diagnostic.List{{Message: "reading the experiments was stopped: " + err.Error()}}
	}
	return experiments, found
}

func loadWith(files []string, env Env, r *resolver) (experiments []*Experiment, found diagnostic.List) {
	l := &loader{
		env:     env,
		resolve: r,
		cue:     cuecontext.New(),
		lines:   map[string][]string{},
		shown:   map[string]string{},
		seen:    map[string]int{},
		only:    map[string]string{},

		defaults: map[string]site{},
		turn:     newTurn(),
	}
	l.empty = l.cue.CompileString("{}")
	for _, path := range append([]string{env.Root}, files...) {
		abs, err := filepath.Abs(path)
		if err == nil {
			err = filename.CheckUTF8(abs)
		}
		if err != nil {
			return nil, diagnostic.List{{Message: fmt.Sprintf("the files of this project cannot be named in records of runs: %v", err)}}
		}
	}
	given := map[string]bool{}
	for _, tag := range env.Tags {
		key, _, _ := strings.Cut(tag, "=")
		if given[key] {
			return nil, diagnostic.List{{Message: fmt.Sprintf("-t %s=… is given twice", key), Hint: "leave one of them out"}}
		}
		given[key] = true
	}
	var ok bool
	if l.set, ok = l.settings(env.Set); !ok {
		return nil, l.found
	}
	var reading string
	defer func() {
		if value := recover(); value != nil {
			left, ok := value.(abandoned)
			if !ok {
				panic(value)
			}
			experiments, found = nil, diagnostic.List{{Message: left.message, At: diagnostic.Position{File: reading}}}
		}
	}()
	for _, file := range files {
		reading = file
		experiments = append(experiments, l.file(file)...)
	}
	owners := map[string]*Experiment{}
	for _, e := range experiments {
		if other := owners[e.Name]; other != nil && other.File != e.File {
			l.report(diagnostic.Diagnostic{
				Path:    e.Name,
				Message: fmt.Sprintf("experiment %q is also defined in %s", e.Name, l.display(other.File)),
				Hint:    "runs are kept by the name of their experiment: give one another name",
				At:      diagnostic.Position{File: l.display(e.File)},
			})
			continue
		}
		owners[e.Name] = e
	}
	// In the order of the files, then of their lines.
	order := map[string]int{}
	for i, file := range files {
		order[file] = i - len(files)
	}
	order[commandLine] = -len(files) - 1
	slices.SortStableFunc(l.found, func(a, b diagnostic.Diagnostic) int {
		return cmp.Or(cmp.Compare(order[a.At.File], order[b.At.File]), cmp.Compare(a.At.Line, b.At.Line), cmp.Compare(a.At.Column, b.At.Column))
	})
	return experiments, l.found
}

// FindRoot is the project that a file belongs to: the nearest directory above
// it with a cue.mod, else the directory of the file.
func FindRoot(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		return filepath.Dir(file)
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(filepath.Join(dir, "cue.mod")); err == nil && info.IsDir() {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return filepath.Dir(abs)
		}
	}
}

// loader is one call of Load. All values live in its one CUE context.
type loader struct {
	env     Env
	resolve *resolver
	cue     *cue.Context
	empty   cue.Value   // a value without fields
	turn    *turn       // to use values once Load has returned
	set     []*override // of the command line, below an experiment
	found   diagnostic.List
	// repeated counts errors that were reported again, so that they are not in found.
	repeated int
	record   *diagnostic.List    // see recorded
	seen     map[string]int      // position and message -> index in found
	only     map[string]string   // position -> the one message there; others follow from it
	defaults map[string]site     // of the site, by project: see site
	lines    map[string][]string // absolute file -> source lines
	shown    map[string]string   // absolute file -> as the user names it
}

// A document is one file of the user.
type document struct {
	*loader
	file     string // absolute
	root     string
	dir      string                 // of the schema in the project
	overlay  map[string]load.Source // what is not as on disk
	text     map[string][]byte      // of the file, and of files that are not as on disk
	syntax   *ast.File
	imported []*ast.File // of other packages of the user
	value    cue.Value
	schemas  cue.Value   // the package of the schema
	schema   cue.Value   // its #Experiment
	presets  cue.Value   // its presets by name
	marker   cue.Path    // what tells experiments from other values
	gone     [][]string  // fields that repair has taken out
	fill     []*override // in place of what is missing, see repair

	stubbed bool
	stub    cue.Value // see withoutSchema
}

func (l *loader) file(path string) []*Experiment {
	d := l.open(path, l.env.Root)
	if d == nil {
		return nil
	}
	if d.file == filepath.Join(d.root, SiteFile) {
		d.report(diagnostic.Diagnostic{
			Message: "this file has what the experiments of the project get on a cluster, and no experiment",
			Hint:    "name files of experiments: it is checked with each", At: diagnostic.Position{File: path},
		})
		return nil
	}
	return d.experiments()
}

// open reads a file of a project, "" for the one that the file is in. It returns nil if it
// cannot be read, which is reported.
func (l *loader) open(path, root string) *document {
	abs, err := filepath.Abs(path)
	if err != nil {
		l.report(diagnostic.Diagnostic{Message: err.Error(), At: diagnostic.Position{File: path}})
		return nil
	}
	l.shown[abs] = path
	source, unread := readFile(abs)
	if unread != nil {
		unread.At.File = path
		if unread.Message == noFile && !strings.Contains(unread.Hint, "did you mean") {
			unread.Hint = cmp.Or(l.whereIs(path), unread.Hint)
		}
		l.report(*unread)
		return nil
	}
	d := &document{loader: l, file: abs, text: map[string][]byte{abs: source}, root: root}
	if d.root == "" {
		d.root = FindRoot(abs)
	} else if root, err := filepath.Abs(root); err == nil {
		d.root = root
	}
	if bad := d.unreadable(abs, map[string]bool{}); bad != nil {
		l.report(*bad)
		return nil
	}
	inst, err := d.load(d.text, false)
	var module *moduleError
	if errors.As(err, &module) {
		l.report(d.ofModule(module))
		return nil
	}
	if err != nil {
		l.report(diagnostic.Diagnostic{Message: err.Error(), At: diagnostic.Position{File: path}})
		return nil
	}
	if inst.Err != nil {
		d.reportLoad(inst.Err)
		return nil
	}
	if !d.checkVersion(inst) {
		return nil
	}
	d.build(inst)
	// Of a file that does not import the schema. A zero Value panics.
	d.schemas, d.schema, d.presets = d.nothing(), d.nothing(), d.nothing()
	d.checkLiterals()
	d.checkSelves()
	for _, dep := range inst.Dependencies() {
		if isSchema(dep.ImportPath) {
			d.marker = cue.MakePath(cue.Hid("_experiment", dep.ImportPath))
			d.schemas = l.cue.BuildInstance(dep)
			d.schema = d.schemas.LookupPath(cue.ParsePath("#Experiment"))
			d.presets = d.schemas.LookupPath(cue.MakePath(cue.Hid("_presets", dep.ImportPath)))
		}
	}
	return d
}

const noFile = "no such file"

// readFile reads an experiment file. Anything but a regular file may have no
// end, and of anything but CUE the loader makes data without a syntax.
func readFile(path string) ([]byte, *diagnostic.Diagnostic) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		switch {
		case filepath.Ext(path) != ".cue":
			return nil, &diagnostic.Diagnostic{Message: "an experiment is a .cue file", Hint: "runner help experiments shows one; runner init makes a project with one"}
		case !info.Mode().IsRegular():
			return nil, &diagnostic.Diagnostic{Message: "this is no regular file", Hint: "write it to a file first"}
		}
	}
	source, err := os.ReadFile(path)
	bad := misencoded(source, path)
	switch {
	case err == nil && bad != nil:
		return nil, bad
	case err == nil && bytes.Contains(source, []byte("\r")) && !bytes.Contains(source, []byte("\n")):
		return nil, &diagnostic.Diagnostic{Message: "the lines of the file end in carriage returns alone, so it is one line to CUE", Hint: "save it with the line ends of Unix or Windows"}
	case err == nil:
		return source, nil
	case errors.Is(err, fs.ErrNotExist):
		d := &diagnostic.Diagnostic{Message: noFile}
		siblings, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.cue"))
		for i := range siblings {
			siblings[i] = filepath.Base(siblings[i])
		}
		d.Hint = diagnostic.Suggest(filepath.Base(path), "files there", siblings)
		return nil, d
	}
	d := &diagnostic.Diagnostic{Message: "cannot read the file: " + reason(err)}
	if info != nil && info.IsDir() {
		d.Hint = fmt.Sprintf("name the files in it: %s", filepath.Join(filepath.Base(path), "*.cue"))
	}
	return nil, d
}

func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// experiments finds the experiments among the fields of the file's value,
// whatever in the file makes them: a field, a comprehension, a condition, an
// embedding, a reference or a name that is computed.
func (d *document) experiments() []*Experiment {
	before := d.errorCount()
	if d.isExperiment(d.value) {
		d.report(diagnostic.Diagnostic{
			Message: "the file itself is an experiment, which has no name then",
			Hint:    "make it a field of the file, my_ablation: schema.#Experiment & {…}",
			At:      diagnostic.Position{File: d.display(d.file)},
		})
		return nil
	}
	if !d.checkTagValues() {
		return nil
	}
	d.complainOfFile()
	it, err := d.value.Fields(cue.Optional(true))
	if err != nil {
		// References that lead nowhere keep the whole file from being built.
		if d.errorCount() == before {
			d.complain(err, scope{})
		}
		return nil
	}
	type named struct {
		name  string
		label token.Pos
	}
	var found, plain []named
	for it.Next() {
		f := named{name: it.Selector().Unquoted()}
		f.label = d.firstLabel(f.name)
		v := it.Value()
		is := d.isExperiment(v)
		switch constraint := it.FieldType().ConstraintType(); {
		case constraint != 0:
			if is {
				d.report(d.mark(diagnostic.Diagnostic{
					Path:    f.name,
					Message: fmt.Sprintf("%s is only a constraint, so nothing of it runs", it.Selector()),
					Hint:    fmt.Sprintf("write %s:", quoteLabel(f.name)),
				}, f.label))
			}
		case is:
			if d.named(name.Experiment(f.name), f.name, f.label) {
				found = append(found, f)
			}
		case v.IncompleteKind() == cue.BottomKind:
			d.complain(v.Validate(cue.Concrete(true)), scope{})
		case v.IncompleteKind() == cue.StructKind:
			plain = append(plain, f)
		}
	}
	// In the order of the file. CUE has the fields of comprehensions last.
	slices.SortStableFunc(found, func(a, b named) int { return cmp.Compare(a.label.Offset(), b.label.Offset()) })
	for _, f := range plain {
		label := quoteLabel(f.name)
		dg := diagnostic.Diagnostic{
			Path:    f.name,
			Warning: true,
			Message: fmt.Sprintf("%q is no experiment, so nothing of it runs", f.name),
			Hint:    fmt.Sprintf("write %s: schema.#Experiment & {…}, or call it _%s if others refer to it", label, f.name),
		}
		v := d.value.LookupPath(cue.MakePath(cue.Str(f.name)))
		if inner := d.within(v); inner != "" {
			dg.Message = fmt.Sprintf("%s.%s is not run: experiments are fields at the top of a file", label, inner)
			dg.Hint = "move it there"
			dg.Warning = len(found) > 0
		} else if d.isOneOf(v) {
			dg.Warning = false
			dg.Message = fmt.Sprintf("%q may be one of several experiments", f.name)
			dg.Hint = "make one experiment of each, or choose with if and a tag: runner help experiments"
		}
		d.report(d.mark(dg, f.label))
	}
	if len(found) == 0 && d.errorCount() == before {
		d.report(d.noExperiment())
	}
	broken := d.errorCount() > before
	var experiments []*Experiment
	var names []string
	for _, f := range found {
		names = append(names, f.name)
		if e := d.experiment(f.name); e != nil && !broken {
			experiments = append(experiments, e)
		}
	}
	if d.errorCount() == before {
		d.checkTags(names)
	}
	return experiments
}

// named reports a name that breaks the rule of core/name; ok says that it keeps
// it.
func (d *document) named(err error, path string, at token.Pos) (ok bool) {
	var bad *name.Error
	if !errors.As(err, &bad) {
		return true
	}
	d.report(d.mark(diagnostic.Diagnostic{Path: path, Message: bad.Message(), Hint: bad.Rule}, at))
	return false
}

// isExperiment tells experiments from other values. A file that does not import
// the schema has none.
func (d *document) isExperiment(v cue.Value) bool {
	return len(d.marker.Selectors()) > 0 && v.LookupPath(d.marker).Exists()
}

// isOneOf reports whether a value is a disjunction with experiments in it.
func (d *document) isOneOf(v cue.Value) bool {
	op, parts := v.Expr()
	return (op == cue.OrOp || op == cue.AndOp) && slices.ContainsFunc(parts, func(part cue.Value) bool {
		return op == cue.OrOp && d.isExperiment(part) || d.isOneOf(part)
	}) || op == cue.AndOp && slices.ContainsFunc(parts, d.isExperiment)
}

// within is the name of an experiment among the fields of a value; "" if there
// is none.
func (d *document) within(v cue.Value) string {
	it, err := v.Fields(cue.All())
	for err == nil && it.Next() {
		if d.isExperiment(it.Value()) {
			return it.Selector().String()
		}
	}
	return ""
}

// complainOfFile reports what is wrong with the file as a whole, so that it is
// not known which fields it has.
func (d *document) complainOfFile() {
	for _, e := range cueerrors.Errors(d.value.Err()) {
		if len(e.Path()) > 0 {
			continue // of a field, which is looked at by itself
		}
		format, args := e.Msg()
		text := fmt.Sprintf(format, args...)
		if !incomplete.MatchString(text) {
			d.complain(e, scope{})
			continue
		}
		d.report(d.mark(diagnostic.Diagnostic{
			Message: "this has no definite value, so it is not known which fields the file has",
			Hint:    "conditions, comprehensions and names of fields need values: give it one, or a default",
		}, e.Position()))
	}
}

// noExperiment is the error of a file that has none.
func (d *document) noExperiment() diagnostic.Diagnostic {
	dg := diagnostic.Diagnostic{
		Message: "there is no experiment in this file",
		Hint:    fmt.Sprintf("import %q and write my_ablation: schema.#Experiment & {…}", schema.ImportPath),
		At:      diagnostic.Position{File: d.display(d.file)},
	}
	if inner := d.within(d.value); strings.HasPrefix(inner, "_") || strings.HasPrefix(inner, "#") {
		dg.Hint = fmt.Sprintf("%s is for other fields to refer to: write %s: %s", inner, strings.TrimLeft(inner, "_#"), inner)
	}
	return dg
}

// load reads the document and what it imports, with texts in place of what is
// on disk. With stub, the definitions of the schema say nothing: what remains in
// the values is what the user wrote.
func (d *document) load(text map[string][]byte, stub bool) (*build.Instance, error) {
	if d.overlay == nil {
		var err error
		if d.dir, d.overlay, err = overlay(d.root); err != nil {
			return nil, err
		}
	}
	files := maps.Clone(d.overlay)
	if stub {
		if err := embedded(d.dir, files, stubOf); err != nil {
			return nil, err
		}
	}
	for file, source := range text {
		files[file] = load.FromBytes(source)
	}
	return load.Instances([]string{d.file}, &load.Config{
		Dir:        filepath.Dir(d.file),
		ModuleRoot: d.root,
		Overlay:    files,
		Tags:       d.env.Tags,
	})[0], nil
}

// moduleError is a project whose module file cannot be used.
type moduleError struct {
	file          string
	message, hint string
}

func (e *moduleError) Error() string { return e.message }

// ofModule is a mistake of the module file, at the line of the language version
// if it has one.
func (d *document) ofModule(e *moduleError) diagnostic.Diagnostic {
	dg := diagnostic.Diagnostic{Message: e.message, Hint: e.hint, At: diagnostic.Position{File: d.display(e.file)}}
	source, err := regular.Read(e.file, maxModule)
	if err != nil {
		return dg
	}
	for i, line := range strings.Split(string(source), "\n") {
		if at := strings.Index(line, "version:"); at >= 0 && dg.Source == "" {
			at += len("version: ")
			dg.Source = strings.TrimRight(line, "\r")
			dg.At.Line, dg.At.Column = i+1, min(at, len(line))+1
			dg.At.Width = max(1, len([]rune(tokenAt(line[min(at, len(line)):]))))
		}
	}
	return dg
}

// oldest is the first version of CUE that has all that the schema uses.
const (
	oldestMinor = 14 // v0.14
	usual       = "v0.17.0"
)

// readModule reads a module file and checks the version of CUE that it asks for.
func readModule(data []byte, file string) (*modfile.File, error) {
	fail := func(format string, args ...any) (*modfile.File, error) {
		return nil, &moduleError{file, fmt.Sprintf(format, args...), fmt.Sprintf("write language: version: %q", usual)}
	}
	f, err := modfile.ParseNonStrict(data, file)
	if err != nil {
		return fail("the module file of the project cannot be used: %v", err)
	}
	var major, minor int
	version := f.Language.Version // of the form v1.2.3, as ParseNonStrict has checked
	if n, err := fmt.Sscanf(version, "v%d.%d", &major, &minor); n == 2 && err == nil && major == 0 && minor < oldestMinor {
		return fail("the project asks for CUE %s, and the schema of experiments needs v0.%d.0", version, oldestMinor)
	}
	return f, nil
}

// maxModule bounds the bytes of a project's module file.
const maxModule = 1 << 20

// overlay lays the embedded schema over the project at root: below
// cue.mod/pkg, where CUE looks for packages that come from no registry, or in
// place of the schema's own directory if the project is this one. Nothing is
// written. A project needs no cue.mod of its own.
func overlay(root string) (dir string, files map[string]load.Source, err error) {
	files = map[string]load.Source{}
	dir = filepath.Join(root, "cue.mod", "pkg", filepath.FromSlash(schema.ImportPath))
	file := filepath.Join(root, "cue.mod", "module.cue")
	data, err := regular.Read(file, maxModule)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		files[file] = load.FromString(fmt.Sprintf("module: \"experiments.local\"\nlanguage: version: %q\n", usual))
	case err != nil:
		return "", nil, &moduleError{file, "the module file of the project cannot be read: " + reason(err), ""}
	default:
		f, err := readModule(data, file)
		if err != nil {
			return "", nil, err
		}
		if rest, ok := strings.CutPrefix(schema.ImportPath, f.ModuleRootPath()+"/"); ok {
			dir = filepath.Join(root, filepath.FromSlash(rest))
		}
	}
	// A file of an older schema on disk must not be mixed with this one.
	old, _ := filepath.Glob(filepath.Join(dir, "*.cue"))
	for _, file := range old {
		files[file] = load.FromString("package schema\n")
	}
	return dir, files, embedded(dir, files, func(data []byte) ([]byte, error) { return data, nil })
}

// embedded puts the files of the schema at dir, each after a change.
func embedded(dir string, files map[string]load.Source, change func([]byte) ([]byte, error)) error {
	entries, err := schema.Files.ReadDir(".")
	if err != nil {
		return fmt.Errorf("reading the embedded schema: %w", err)
	}
	for _, e := range entries {
		data, err := schema.Files.ReadFile(e.Name())
		if err == nil {
			data, err = change(data)
		}
		if err != nil {
			return fmt.Errorf("reading the embedded schema: %w", err)
		}
		files[filepath.Join(dir, e.Name())] = load.FromBytes(data)
	}
	return nil
}

// stubOf leaves the names of the definitions of a schema file.
func stubOf(source []byte) ([]byte, error) {
	f, err := parser.ParseFile("", source)
	if err != nil {
		return nil, err
	}
	stub := "package schema\n"
	for _, decl := range f.Decls {
		if f, ok := decl.(*ast.Field); ok {
			if name, _, err := ast.LabelName(f.Label); err == nil {
				stub += name + ": _\n"
			}
		}
	}
	return []byte(stub), nil
}

// withoutSchema is the document without the schema: what the user wrote, with the
// positions of the user's files. It is built when something is wrong.
func (d *document) withoutSchema() cue.Value {
	if !d.stubbed {
		d.stubbed = true
		d.stub = d.nothing()
		if inst, err := d.load(d.text, true); err == nil && inst.Err == nil {
			d.stub = d.cue.BuildInstance(inst)
		}
	}
	return d.stub
}

// nothing is a value without fields.
func (d *document) nothing() cue.Value { return d.empty }

// edited is the document with other texts, or nil if they cannot be read. What
// only the values that were taken out referred to is taken out too: CUE refuses
// imports and let clauses that nothing uses.
func (d *document) edited(text map[string][]byte) *document {
	e := *d
	e.stubbed, e.stub = false, cue.Value{}
	for {
		e.text = text
		inst, err := e.load(text, false)
		if err != nil || inst.Err != nil {
			return nil
		}
		e.build(inst)
		rest := e.withoutUnused(cueerrors.Errors(e.value.Err()))
		if rest == nil {
			return &e
		}
		text = rest
	}
}

// build evaluates an instance of the document.
func (d *document) build(inst *build.Instance) {
	for _, f := range inst.Files {
		if f.Filename == d.file {
			d.syntax = f
		}
	}
	d.imported = nil
	for _, dep := range inst.Dependencies() {
		if !isSchema(dep.ImportPath) {
			d.imported = append(d.imported, dep.Files...)
		}
	}
	d.value = d.cue.BuildInstance(inst)
	for _, o := range d.fill {
		d.value = d.value.FillPath(selectors(o.path), o.value)
	}
}

// withFill is the document with further values put in.
func (d *document) withFill(fill []*override) *document {
	r := *d
	r.fill = slices.Concat(d.fill, fill)
	for _, o := range fill {
		r.value = r.value.FillPath(selectors(o.path), o.value)
	}
	return &r
}

// isSchema tells the schema, of any version, from other packages.
func isSchema(path string) bool {
	path, _, _ = strings.Cut(path, "@")
	return path == schema.ImportPath
}

// checkVersion refuses files that are written for another version of the
// schema.
func (d *document) checkVersion(inst *build.Instance) bool {
	for _, f := range inst.Files {
		for spec := range f.ImportSpecs() {
			path := label(spec.Path.Value)
			_, version, ok := strings.Cut(path, "@")
			version, _, _ = strings.Cut(version, ":")
			if !ok || !isSchema(path) || version == schema.Version {
				continue
			}
			d.report(d.mark(diagnostic.Diagnostic{
				Message: fmt.Sprintf("the file is written for schema %s, this runner knows %s", version, schema.Version),
				Hint:    "take a runner of that version, or bring the file over: runner help experiments",
			}, spec.Path.Pos()))
			return false
		}
	}
	return true
}
