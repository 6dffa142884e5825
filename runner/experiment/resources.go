package experiment

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Resources are what workers on a cluster get, as schema/resources.cue has it. Empty texts
// and zeros leave the choice to the site.
type Resources struct {
	Time        string   `json:"time"`
	Workers     int      `json:"workers"`
	Parallel    int      `json:"parallel"`
	Partition   string   `json:"partition"`
	Account     string   `json:"account"`
	QOS         string   `json:"qos"`
	Reservation string   `json:"reservation"`
	GPUs        int      `json:"gpus"`
	GPUType     string   `json:"gpuType"`
	CPUs        int      `json:"cpus"`
	Memory      string   `json:"memory"`
	Constraint  string   `json:"constraint"`
	Exclude     string   `json:"exclude"`
	Modules     []string `json:"modules"`
	Setup       []string `json:"setup"`
	Image       string   `json:"image"`
	Scratch     string   `json:"scratch"`
	Mail        string   `json:"mail"`
	Dependency  string   `json:"dependency"`
	Options     []string `json:"options"`
}

// Limit is the time of a worker; 0 where none is given.
func (r *Resources) Limit() (time.Duration, error) {
	limit, err := ParseLimit(r.Time)
	if err != nil {
		err = fmt.Errorf("resources.time %w", err)
	}
	return limit, err
}

// longestTime is the longest time of a worker.
const longestTime = 366 * 24 * time.Hour

// shortTime is the time of a worker below which much of it is spent without training.
const shortTime = 10 * time.Minute

// ParseLimit reads a time as experiments have it: "90m", "4h", "2d", or Slurm's
// "1-12:00:00" and "12:00:00". Slurm reads "30:00" as half an hour, and so does this.
func ParseLimit(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	fail := func() (time.Duration, error) {
		return 0, fmt.Errorf("is %q: it must be a time from a minute to a year, such as %q, %q or %q", text, "90m", "4h", "1-12:00:00")
	}
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if unit := units[text[len(text)-1]]; unit > 0 {
		n, err := strconv.Atoi(text[:len(text)-1])
		if err != nil || n < 1 || n > int(longestTime/unit) {
			return fail()
		}
		return time.Duration(n) * unit, nil
	}
	days, clock, withDays := strings.Cut(text, "-")
	if !withDays {
		days, clock = "0", text
	}
	parts := strings.Split(clock, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return fail()
	}
	// Two parts are minutes and seconds, and after days hours and minutes.
	each := []time.Duration{time.Hour, time.Minute, time.Second}
	if len(parts) == 2 && !withDays {
		each = each[1:]
	}
	var limit time.Duration
	for i, part := range append([]string{days}, parts...) {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > int(longestTime/time.Hour) {
			return fail()
		}
		if i == 0 {
			limit += time.Duration(n) * 24 * time.Hour
		} else {
			limit += time.Duration(n) * each[i-1]
		}
	}
	if limit < time.Minute || limit > longestTime {
		return fail()
	}
	return limit, nil
}

// An ownedOption is an option of sbatch that the launcher gives, or that has a field.
type ownedOption struct {
	name  string
	short byte // 0: it has no short form
	hint  string
}

// ownedOptions are those that resources.options cannot have.
var ownedOptions = []ownedOption{
	{"array", 'a', "workers are its elements: write resources: workers, and parallel for how many run at once"},
	{"chdir", 'D', "workers run in the project: leave it out"},
	{"error", 'e', "workers write to logs in the project: leave it out"},
	{"export", 0, `values are in the script: write setup: ["export NAME=value"]`},
	{"export-file", 0, `values are in the script: write setup: ["export NAME=value"]`},
	{"hold", 'H', "no worker would start: leave it out"},
	{"input", 'i', "workers read no input: leave it out"},
	{"job-name", 'J', "the workers are found by it: leave it out"},
	{"kill-on-invalid-dep", 0, "a worker that can never start is removed: leave it out"},
	{"no-requeue", 0, "a worker continues after a restart: leave it out"},
	{"nodes", 'N', "a worker runs on one node; more workers are resources: workers"},
	{"ntasks", 'n', "a worker is one task; more workers are resources: workers"},
	{"open-mode", 0, "a restarted worker adds to its log: leave it out"},
	{"output", 'o', "workers write to logs in the project: leave it out"},
	{"parsable", 0, "sbatch is called by apply: leave it out"},
	{"propagate", 0, "limits of this machine mean nothing on a node: leave it out"},
	{"requeue", 0, "workers are requeued already: leave it out"},
	{"signal", 0, "a worker receives SIGUSR1 two minutes before the end: leave it out"},
	{"test-only", 0, "for a look at the script, write: runner apply --on slurm --dry-run"},
	{"time", 't', "workers plan by it: write resources: time"},
	{"time-min", 0, "workers plan by their whole time, which Slurm would shorten: write resources: time"},
	{"wait", 'W', "apply waits, unless it is started with --detach: leave it out"},
	{"wrap", 0, "the script is that of the workers: write lines of resources: setup"},
}

// shortFlags are the letters of options without a value, behind which others may follow:
// -QH. Behind any other letter follows its value.
const shortFlags = "HIOQksvhVuW"

// owned finds the option of ownedOptions that a word of resources.options gives. sbatch
// takes the beginning of a name for the name.
func owned(word string) (ownedOption, bool) {
	for _, o := range ownedOptions {
		if long, ok := strings.CutPrefix(word, "--"); ok {
			long, _, _ = strings.Cut(long, "=")
			if long == o.name || len(long) >= 3 && strings.HasPrefix(o.name, long) {
				return o, true
			}
			continue
		}
		if !strings.HasPrefix(word, "-") {
			continue
		}
		for i := 1; i < len(word); i++ {
			if word[i] == o.short {
				return o, true
			}
			if !strings.Contains(shortFlags, word[i:i+1]) {
				break // what follows is its value
			}
		}
	}
	return ownedOption{}, false
}

// checkOptions reports options that the launcher gives itself, and what is no option.
func checkOptions(options []string, report func(i int, message, hint string)) {
	for i, text := range options {
		words := strings.Fields(text)
		if len(words) == 0 || !strings.HasPrefix(words[0], "-") {
			report(i, fmt.Sprintf("%q is no option of sbatch", text), fmt.Sprintf("options begin with a dash: write %q", "--"+strings.TrimSpace(text)))
			continue
		}
		for _, word := range words {
			if o, ok := owned(word); ok {
				report(i, fmt.Sprintf("the option --%s of sbatch belongs to the launcher", o.name), o.hint)
				break
			}
		}
	}
}

// usualWorkers is how many workers there are at most where nobody says.
const usualWorkers = 8

// fields are those of resources that somebody gives.
type fields map[string]json.RawMessage

// over are the fields of g, and those of others that g has not.
func (g fields) over(others fields) fields {
	all := maps.Clone(others)
	if all == nil {
		all = fields{}
	}
	maps.Copy(all, g)
	return all
}

// read are the resources with what nobody gives; nil if nobody gives anything.
func (g fields) read() (*Resources, error) {
	if len(g) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(g)
	r := &Resources{Workers: usualWorkers}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	return r, err
}

// readResources are the resources of the experiment, over those of the site.
func (x *expansion) readResources(base *subject) *Resources {
	own, err := x.gives.read()
	if err == nil && own != nil {
		checkOptions(own.Options, func(i int, message, hint string) {
			x.fail(base, fmt.Sprintf("resources.options.%d", i), message, hint)
		})
		if _, err := own.Limit(); err != nil {
			x.fail(base, "resources.time", err.Error(), "")
		}
	}
	var r *Resources
	if err == nil {
		r, err = x.gives.over(x.site().fields).read()
	}
	if err != nil {
		x.fail(base, "resources", "cannot be read: "+err.Error(), "")
	}
	if err == nil && own != nil && own.GPUType != "" && r.GPUs == 0 {
		x.warn(base, "resources.gpuType", "resources.gpuType has no effect: resources.gpus asks for no GPU", "write gpus: 1, or leave it out")
	}
	if own != nil && own.Time != "" {
		if limit, err := own.Limit(); err == nil && limit < shortTime {
			x.warn(base, "resources.time", fmt.Sprintf("a worker of %s has little time to train: it stops before that is over, and an engine takes time to start", own.Time), "give it ten minutes or more")
		}
	}
	// A mistake there is reported already.
	wrong := x.site().wrong || slices.ContainsFunc(x.gone, func(g []string) bool { return g[0] == x.name && related(g[1:], []string{"resources", "time"}) })
	if err == nil && x.env.Cluster && !wrong && (r == nil || r.Time == "") {
		x.fail(base, "resources.time", "nothing says how long a worker on the cluster may take", `write resources: time: "4h", here or for all experiments in `+SiteFile)
	}
	return r
}

const (
	// SiteFile is the file in the root of a project with what its experiments get on a
	// cluster. It has no experiments.
	SiteFile = "runner.cue"
	// siteVariable names a file with the same for all projects.
	siteVariable = "LORALAB_RESOURCES"
)

// site is what others than the experiment give of resources, and where. The place of ""
// is that of resources itself.
type site struct {
	fields
	places map[string]token.Pos
	wrong  bool // some of it cannot be read
}

// site are the defaults of resources: those of the project, over those of the variable.
func (d *document) site() site {
	if s, known := d.defaults[d.root]; known {
		return s
	}
	all := site{places: map[string]token.Pos{}}
	if file := os.Getenv(siteVariable); file != "" {
		problem := ""
		switch info, err := os.Stat(file); {
		case err != nil && !exists(file):
			problem = "a file that does not exist"
		case err == nil && info.IsDir():
			problem = "a directory"
		case filepath.Ext(file) != ".cue":
			problem = "a file that is no .cue file"
		}
		if problem == "" {
			all.wrong = !d.loader.siteOf(file, d, &all)
		} else {
			all.wrong = true
			d.report(diagnostic.Diagnostic{
				Message: fmt.Sprintf("$%s names %s", siteVariable, problem), Hint: `name a .cue file with resources: {partition: "…"}, or unset it`, At: diagnostic.Position{File: file},
			})
		}
	}
	if file := filepath.Join(d.root, SiteFile); exists(file) {
		all.wrong = !d.loader.siteOf(file, d, &all) || all.wrong
	}
	d.defaults[d.root] = all
	return all
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

// siteOf adds what a file with defaults of resources gives, and reports whether it can be
// read. The schema is that of a document.
func (l *loader) siteOf(file string, of *document, all *site) bool {
	d := l.open(l.display(file), "") // its errors name it so
	if d == nil {
		return false
	}
	it, err := d.value.Fields()
	if err != nil {
		d.complain(err, scope{})
		return false
	}
	for it.Next() {
		if name := it.Selector().Unquoted(); name != "resources" {
			d.report(d.mark(diagnostic.Diagnostic{
				Path: name, Message: fmt.Sprintf("%q is nothing that a site gives", name), Hint: "write resources: {…}; experiments are in files of their own",
			}, d.firstLabel(name)))
			return false
		}
	}
	v := d.value.LookupPath(cue.ParsePath("resources"))
	if !v.Exists() {
		d.report(diagnostic.Diagnostic{Message: "there are no resources in this file", Hint: `write resources: partition: "…"`, At: diagnostic.Position{File: d.display(d.file)}})
		return false
	}
	v = v.Unify(of.schemas.LookupPath(cue.ParsePath("#Resources")))
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		d.complain(err, scope{schema: of.schema, rebase: func(path []string) []string {
			if len(path) == 0 || path[0] != "resources" {
				path = append([]string{"resources"}, path...)
			}
			return path
		}})
		return false
	}
	var g fields
	text, err := v.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	var r *Resources
	if err == nil {
		r, err = g.read()
	}
	if err != nil {
		d.report(diagnostic.Diagnostic{Message: "cannot be read: " + err.Error(), At: diagnostic.Position{File: d.display(d.file)}})
		return false
	}
	if r == nil {
		return true
	}
	right := true
	checkOptions(r.Options, func(i int, message, hint string) {
		path := []string{"resources", "options", strconv.Itoa(i)}
		d.report(d.mark(diagnostic.Diagnostic{Path: strings.Join(path, "."), Message: message, Hint: hint}, d.valueAt(path)))
		right = false
	})
	if _, err := r.Limit(); err != nil {
		path := []string{"resources", "time"}
		d.report(d.mark(diagnostic.Diagnostic{Path: strings.Join(path, "."), Message: err.Error()}, d.valueAt(path)))
		right = false
	}
	all.fields = g.over(all.fields)
	all.places[""] = d.firstLabel("resources")
	for name := range g {
		all.places[name] = d.valueAt([]string{"resources", name})
	}
	return right
}

// ResourceAt is where the first of some fields of resources is given, by the experiment or
// by the site, and its name. Where none is given it is where resources are, and the name
// is "". An element of a list is a field, options.0.
func (e *Experiment) ResourceAt(fields ...string) (string, diagnostic.Diagnostic, error) {
	x := e.expansion
	release, err := x.turn.take(context.Background())
	if err != nil {
		return "", diagnostic.Diagnostic{}, err
	}
	defer release()
	given := x.site()
	for _, name := range fields {
		path := append([]string{"resources"}, strings.Split(name, ".")...)
		if x.gives[path[1]] != nil {
			path = append([]string{x.name}, path...)
			return name, x.mark(diagnostic.Diagnostic{Path: strings.Join(path, ".")}, x.valueAt(path)), nil
		}
		if given.fields[path[1]] != nil {
			return name, x.mark(diagnostic.Diagnostic{Path: strings.Join(path, ".")}, given.places[path[1]]), nil
		}
	}
	if len(x.gives) > 0 || len(given.fields) == 0 {
		path := []string{x.name, "resources"}
		return "", x.mark(diagnostic.Diagnostic{Path: strings.Join(path, ".")}, x.labelAt(path)), nil
	}
	return "", x.mark(diagnostic.Diagnostic{Path: "resources"}, given.places[""]), nil
}
