package wandb

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// replay is what the records of a log add up to.
type replay struct {
	run         *wandblog.Run // the first, with names of later ones
	config      tree          // as users write it; _wandb has what the client adds
	summary     tree
	metrics     []*wandblog.Metric
	telemetry   *wandblog.Telemetry
	environment *wandblog.Environment
	exit        *wandblog.Exit
	step        int64   // of the last row; -1 without rows
	runtime     float64 // of the last row, in seconds
}

func newReplay() *replay { return &replay{config: tree{}, summary: tree{}, step: -1} }

func (p *replay) apply(r *wandblog.Record) {
	switch {
	case r.Run != nil:
		p.config.apply(r.Run.Config)
		if p.run == nil {
			p.run = r.Run
			p.summary.update(r.Run.Summary)
		} else {
			p.run.DisplayName, p.run.Notes, p.run.Tags = r.Run.DisplayName, r.Run.Notes, r.Run.Tags
		}
	case r.Config != nil:
		p.config.apply(r.Config)
	case r.Summary != nil:
		p.summary.update(r.Summary)
	case r.Metric != nil:
		same := func(m *wandblog.Metric) bool { return m.Name == r.Metric.Name && m.Glob == r.Metric.Glob }
		if i := slices.IndexFunc(p.metrics, same); i >= 0 {
			p.metrics[i] = r.Metric
		} else {
			p.metrics = append(p.metrics, r.Metric)
		}
	case r.Telemetry != nil:
		p.telemetry = r.Telemetry
	case r.Environment != nil:
		p.environment = r.Environment
	case r.Exit != nil:
		p.exit = r.Exit
	case r.History != nil:
		row := rowOf(r.History)
		p.step, p.runtime = row.step(p.step), max(p.runtime, row.number("_runtime"))
	}
}

func (t tree) apply(c *wandblog.Config) {
	if c == nil {
		return
	}
	for _, i := range c.Update {
		t.set(i.Path(), i.ValueJSON)
	}
	for _, i := range c.Remove {
		t.remove(i.Path())
	}
}

func (t tree) update(s *wandblog.Summary) {
	if s != nil {
		t.apply(&wandblog.Config{Update: s.Update, Remove: s.Remove})
	}
}

// rowOf is a row as an object. Items whose value is no JSON are left out.
func rowOf(h *wandblog.History) tree {
	row := tree{}
	for _, i := range h.Item {
		if validJSON(i.ValueJSON) {
			row.set(i.Path(), i.ValueJSON)
		}
	}
	return row
}

// validJSON accepts what Python writes. NaN and Infinity within lists and objects are
// rare, so a text with them is checked a second time without.
func validJSON(text string) bool {
	if json.Valid([]byte(text)) {
		return true
	}
	return json.Valid([]byte(bare.Replace(text)))
}

var bare = strings.NewReplacer("-Infinity", "0", "Infinity", "0", "NaN", "0")

// number is a value of a row; 0 if it is none.
func (t tree) number(key string) float64 {
	text, _ := t[key].(raw)
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0
	}
	return f
}

// step is that of a row. A row without one follows the one before.
func (t tree) step(before int64) int64 {
	text, _ := t["_step"].(raw)
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n
	}
	return before + 1
}

// copyOf is the object at a key, apart from the tree.
func (t tree) copyOf(key string) tree {
	switch v := t[key].(type) {
	case tree:
		c := tree{}
		c.under(v)
		return c
	case raw:
		return parseTree(string(v))
	}
	return tree{}
}
