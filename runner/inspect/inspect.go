// Package inspect gathers all that is known of a run: what the store says, what
// the engine was told, what made it (see provenance), what it was scored, and
// the files it left. Two runs are held against each other by it, too.
package inspect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

// Report is what is known of a run.
type Report struct {
	Run     *store.Run
	Names   []string // of all cells that it serves, oldest first
	Dir     string   // absolute
	Spec    *spec.RunSpec
	Request *spec.RunRequest // nil: never begun
	Record  *provenance.Record
	Files   []File
	Log     []string // the last lines of what engines wrote
	Faults  []string // what of it cannot be read
}

// File is one file of a run.
type File struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

const logLines = 8

// Look gathers what is known of a run of the project at root.
func Look(root string, known *store.Snapshot, run *store.Run) (*Report, error) {
	r := &Report{Run: run, Dir: filepath.Join(root, filepath.FromSlash(run.Dir))}
	for _, l := range known.Labels {
		if l.Run == run.ID {
			r.Names = append(r.Names, l.Name())
		}
	}
	if run.Damage != nil {
		r.Faults = append(r.Faults, run.Damage.String()+"; "+run.Cure())
	}
	var err error
	if r.Spec, err = run.Spec(); err != nil {
		r.Spec = &spec.RunSpec{}
		r.Faults = append(r.Faults, err.Error())
	}
	if r.Record, err = provenance.Read(r.Dir); err != nil {
		r.Record = &provenance.Record{}
		r.Faults = append(r.Faults, err.Error())
	}
	if r.Request, err = run.Request(root); err != nil {
		r.Request = nil
		if !errors.Is(err, fs.ErrNotExist) {
			r.Faults = append(r.Faults, err.Error())
		}
	}
	err = filepath.WalkDir(r.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == rundir.Lock || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(r.Dir, path)
		r.Files = append(r.Files, File{filepath.ToSlash(rel), info.Size()})
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the files of %s: %w", run.Name(), err)
	}
	text, err := os.ReadFile(rundir.Dir(r.Dir).Path(rundir.Log))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the log of %s: %w", run.Name(), err)
	}
	if lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n"); lines[0] != "" {
		r.Log = lines[max(0, len(lines)-logLines):]
	}
	return r, nil
}

// Setting is one value of a configuration.
type Setting struct {
	Path  string `json:"path"`
	Value string `json:"value"` // as JSON
	// From says where it was given, "experiments/a.cue:12", "" where that is
	// not known.
	From string `json:"from,omitempty"`
}

// Settings is the configuration of a run as it was written, or where that was
// not recorded, the specification that came of it, without the graph of the
// adapter.
func (r *Report) Settings() []Setting {
	if a := r.Record.Last(); a != nil && a.Source != nil {
		var all []Setting
		for _, v := range a.Source.Values {
			all = append(all, Setting{v.Path, compact(v.Value), from(v)})
		}
		return all
	}
	var tree map[string]any
	if err := json.Unmarshal(spec.Canonical(r.Spec), &tree); err != nil {
		return nil // it was just written as JSON
	}
	if adapter, ok := tree["adapter"].(map[string]any); ok {
		delete(adapter, "programs")
		delete(adapter, "placements")
		label := r.Request.GetLabel()
		adapter["variant"] = label.GetVariant()
		var params any
		if json.Unmarshal([]byte(label.GetVariantParams()), &params) == nil {
			adapter["params"] = params
		}
	}
	var all []Setting
	flatten("", tree, &all)
	return all
}

func from(v experiment.Value) string {
	place := ""
	if v.At.File != "" {
		place = strings.TrimSuffix(fmt.Sprintf("%s:%d", v.At.File, v.At.Line), ":0")
	}
	switch v.From {
	case experiment.FromCell:
		return strings.TrimSpace(place + " (the cell)")
	case experiment.FromSearch:
		return strings.TrimSpace(place + " (the search)")
	case experiment.FromCommandLine:
		return "--set"
	}
	return cmp.Or(place, v.From)
}

// compact is JSON on one line.
func compact(text []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text)
	}
	return b.String()
}

func flatten(path string, v any, all *[]Setting) {
	tree, ok := v.(map[string]any)
	if !ok {
		text, _ := json.Marshal(v) // was JSON
		*all = append(*all, Setting{Path: path, Value: string(text)})
		return
	}
	var keys []string
	for key := range tree {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		flatten(strings.TrimPrefix(path+"."+key, "."), tree[key], all)
	}
}

// Change is one difference between two runs.
type Change struct {
	Path string `json:"path"`
	A    string `json:"a"` // "" where there is nothing
	B    string `json:"b"`
}

// Score is a metric of both runs on one domain.
type Score struct {
	Domain string   `json:"domain"`
	Metric string   `json:"metric"`
	A      *float64 `json:"a"` // nil: not scored
	B      *float64 `json:"b"`
}

// Difference is what tells two runs apart.
type Difference struct {
	// Settings that were written differently. Empty with Written false: not
	// known of both.
	Settings []Change
	Written  bool
	// Spec is what differs in the specifications: of runs whose settings are
	// known only what settings do not show, such as the content of the data.
	Spec []Change
	// Made is what else went into them: versions, device.
	Made   []Change
	Scores []Score
}

// Diff holds two runs against each other.
func Diff(a, b *Report) *Difference {
	d := &Difference{Written: written(a) && written(b)}
	if d.Written {
		d.Settings = changes(a.Settings(), b.Settings())
	}
	programs := 0
	for _, c := range spec.Diff(a.Spec, b.Spec) {
		switch {
		case strings.HasPrefix(c.Path, "adapter.programs") || strings.HasPrefix(c.Path, "adapter.placements"):
			programs++
		case !d.Written || strings.HasSuffix(c.Path, "digest") || c.Path == "revision":
			d.Spec = append(d.Spec, Change{c.Path, c.From, c.To})
		}
	}
	if programs > 0 {
		d.Spec = append(d.Spec, Change{"adapter programs", digest(a.Spec), digest(b.Spec)})
	}
	d.Made = changes(made(a), made(b))
	d.Scores = scores(a, b)
	return d
}

func written(r *Report) bool {
	a := r.Record.Last()
	return a != nil && a.Source != nil
}

// digest tells adapters apart.
func digest(s *spec.RunSpec) string {
	if s.GetAdapter() == nil {
		return ""
	}
	return rundir.Short(spec.Identity(&spec.RunSpec{Adapter: s.GetAdapter()}))
}

func changes(a, b []Setting) []Change {
	before := map[string]string{}
	for _, s := range a {
		before[s.Path] = s.Value
	}
	var all []Change
	seen := map[string]bool{}
	for _, s := range b {
		seen[s.Path] = true
		if was, there := before[s.Path]; !there || was != s.Value {
			all = append(all, Change{s.Path, was, s.Value})
		}
	}
	for _, s := range a {
		if !seen[s.Path] {
			all = append(all, Change{Path: s.Path, A: s.Value})
		}
	}
	return all
}

// made is what may explain that equal specifications gave unequal numbers.
func made(r *Report) []Setting {
	a := r.Record.Last()
	if a == nil {
		return nil
	}
	all := []Setting{
		{Path: "loralab", Value: a.Engine.Version},
		{Path: "libtorch", Value: a.Engine.Libtorch},
		{Path: "device", Value: strings.TrimSpace(a.Engine.Device + " " + a.Engine.DeviceName)},
		{Path: "threads", Value: fmt.Sprint(a.Engine.Threads)},
		{Path: "host", Value: a.Machine.Host},
		{Path: "variant version", Value: strings.TrimSpace(a.Variant.Name + " " + a.Variant.Version)},
	}
	if a.Git != nil {
		commit := a.Git.Commit[:min(12, len(a.Git.Commit))]
		if a.Git.Dirty {
			commit += " with changes"
		}
		all = append(all, Setting{Path: "git commit", Value: commit})
	}
	return all
}

// Domains lists what a run was scored on by name, "validation" first.
func Domains(r *store.Run) map[string]*spec.Metrics {
	all := map[string]*spec.Metrics{}
	if m := r.Summary.GetValidation(); m != nil {
		all["validation"] = r.Named(m)
	}
	for domain, e := range r.Scored() {
		all[domain] = r.Named(e.GetMetrics())
	}
	return all
}

// Order sorts names of domains: validation, test, then the others.
func Order(domains map[string]*spec.Metrics) []string {
	var names []string
	for name := range domains {
		names = append(names, name)
	}
	rank := func(name string) string {
		switch plain, seen, _ := strings.Cut(name, "@"); plain {
		case "validation":
			return "\x00" + seen
		case "test":
			return "\x01" + seen
		}
		return name
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	return names
}

func scores(a, b *Report) []Score {
	da, db := Domains(a.Run), Domains(b.Run)
	all := map[string]*spec.Metrics{}
	for name, m := range da {
		all[name] = m
	}
	for name, m := range db {
		all[name] = m
	}
	var rows []Score
	for _, domain := range Order(all) {
		var classes []string
		for _, m := range []*spec.Metrics{da[domain], db[domain]} {
			for _, c := range m.GetClasses() {
				if !slices.Contains(classes, c.GetName()) {
					classes = append(classes, c.GetName())
				}
			}
		}
		for _, name := range metric.Names(classes) {
			rows = append(rows, Score{domain, name, value(da[domain], name), value(db[domain], name)})
		}
	}
	return rows
}

func value(m *spec.Metrics, name string) *float64 {
	if v, ok := metric.Value(m, name); ok {
		return &v
	}
	return nil
}
