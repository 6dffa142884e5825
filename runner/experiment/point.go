package experiment

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/bounded"
	"github.com/loralab/loralab/runner/diagnostic"
)

// Runs of points that no matrix names, such as those that a search proposes.

// A Setting is one value that a point has in place of the base's. An AxisValue
// converts to one.
type Setting struct {
	Path  string // what cells may replace: "optim.lr.adapter", "preset"
	Value any    // a value that package json encodes: 0.001, "cosine", []string{"query"}
}

// pointFile is the file that mistakes in settings of a point are in: one line for
// each, as PATH=VALUE.
const pointFile = "point"

// pointLimits are for values that make a file compute without end.
var pointLimits = bounded.Limits{CPU: time.Minute, Memory: loadLimits.Memory}

// Resolve makes the run that a cell with these settings has: the same values, the
// same specification and identity. Repeat has the seed, and a fold where the experiment
// has folds. The run of a point that is no cell of the
// experiment is named by its settings: "optim.lr.head=0.01". Mistakes are at the
// setting, in the file "point", or at what contradicts it in the experiment's file.
// Warnings are those that Load has not given.
//
// Resolve may be called from several goroutines, also while runs of the experiment
// train; calls take turns, because values of CUE serve one goroutine at a time. What
// Env gave to Load has to live as long as Resolve is called: Variants must not be
// closed, and Hub and Index are asked again. Files of data that Load has read are
// not read again. A backbone that has to be downloaded is downloaded within the
// context of Load.
func (e *Experiment) Resolve(ctx context.Context, point []Setting, repeat name.Repeat) (run *Run, found diagnostic.List) {
	return e.resolve(ctx, nil, point, repeat)
}

// Resolve makes the run of a trial: the cell of the study with a point in place of
// its values. The run has the name of a cell of its own. Otherwise it is as
// Experiment.Resolve says.
func (s *Study) Resolve(ctx context.Context, cell string, point []Setting, seed uint64) (*Run, diagnostic.List) {
	run, found := s.of.resolve(ctx, s, point, name.Repeat{Seed: seed})
	if run != nil {
		run.Cell, run.Values, run.Point, run.Label.Cell = cell, nil, point, cell
	}
	return run, found
}

// resolve is Resolve with the values of a study's cell, if there is one, below
// those of the point.
func (e *Experiment) resolve(ctx context.Context, in *Study, point []Setting, repeat name.Repeat) (run *Run, found diagnostic.List) {
	x := e.expansion
	path := strings.TrimSuffix(e.Name, smokeSuffix)
	give := func(format string, args ...any) (*Run, diagnostic.List) {
		return nil, diagnostic.List{{Path: path, Message: fmt.Sprintf(format, args...), At: diagnostic.Position{File: x.display(x.file)}}}
	}
	release, err := x.turn.take(ctx)
	if err != nil {
		return give("the point is not resolved: %v", err)
	}
	defer release()
	if x.resolve.partial() {
		return give("the point is not resolved: plug-ins or backbones are not known here")
	}
	// The work itself ends soon after the context. Giving it up would leave the
	// experiment in its hands.
	err = bounded.Do(context.WithoutCancel(ctx), pointLimits, func() {
		defer func() {
			if value := recover(); value != nil {
				left, ok := value.(abandoned)
				if !ok {
					panic(value)
				}
				x.turn.lost = errors.New(left.message)
			}
		}()
		run, found = x.point(ctx, e, in, point, repeat)
	})
	if err != nil {
		x.turn.lost = fmt.Errorf("evaluating the experiment with these settings: %w", err)
	}
	if x.turn.lost != nil {
		return give("the point is not resolved: %v", x.turn.lost)
	}
	return run, found
}

// A turn is the right to use the values of one Load.
type turn struct {
	taken chan struct{}
	// lost says why an evaluation still uses them, which is until the process ends.
	lost error
}

func newTurn() *turn { return &turn{taken: make(chan struct{}, 1)} }

// take waits for the turn; it ends with release.
func (t *turn) take(ctx context.Context) (release func(), err error) {
	select {
	case t.taken <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() { <-t.taken }
	if err = cmp.Or(ctx.Err(), t.lost); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// point resolves a point with maps of its own, so that what is known of the
// experiment stays, and nothing of the point does.
func (x *expansion) point(ctx context.Context, e *Experiment, in *Study, settings []Setting, repeat name.Repeat) (*Run, diagnostic.List) {
	y, done := x.apart(ctx, []uint64{repeat.Seed})
	defer done()
	run := y.runOf(in, settings, repeat)
	found := slices.DeleteFunc(y.found, func(d diagnostic.Diagnostic) bool {
		_, known := x.seen[seenKey(d)]
		return d.Warning && known
	})
	for i := range found {
		found[i].Cells, found[i].Of = nil, 0
	}
	switch {
	case ctx.Err() != nil:
		return nil, diagnostic.List{{Path: x.name, Message: "the point is not resolved: " + ctx.Err().Error(), At: diagnostic.Position{File: x.display(x.file)}}}
	case run == nil || e.smoke == nil:
		return run, found
	}
	cut, err := e.smoke.run(ctx, run, e.Name)
	if err != nil {
		return nil, append(found, diagnostic.Diagnostic{Path: x.name, Message: fmt.Sprintf("cutting %s down: %v", run.Name(), err), At: diagnostic.Position{File: x.display(x.file)}})
	}
	return cut, found
}

// apart is the work on points: what it finds is its own, and ends with done.
func (x *expansion) apart(ctx context.Context, seeds []uint64) (y *expansion, done func()) {
	r := *x.resolve
	r.ctx, r.keepGoing = ctx, false
	l := *x.loader
	l.resolve, l.found, l.repeated, l.record, l.seen, l.only = &r, nil, 0, nil, map[string]int{}, map[string]string{}
	d := *x.document
	d.loader = &l
	own := *x
	own.document, own.outer = &d, x
	own.errorsBefore, own.total, own.seeds = 0, 1, seeds
	own.forget()
	return &own, func() { x.document.stubbed, x.document.stub = d.stubbed, d.stub }
}

// runOf is the run of a point; nil, reported, if there is none.
func (x *expansion) runOf(in *Study, settings []Setting, repeat name.Repeat) *Run {
	c, ok := x.pointCell(in, settings)
	if !ok {
		return nil
	}
	if len(c.overlay) == 0 {
		c.tree, c.config = x.baseCell.tree, x.baseCell.config
	}
	x.evaluate(x.baseCell, []*cell{c})
	if c.config != nil {
		x.prepare([]*cell{c})
		x.check(c)
	}
	if x.errorCount() > 0 || c.config == nil {
		return nil
	}
	if !slices.Contains(c.config.Data.repeats(x.seeds), repeat) {
		x.fail(&c.subject, "data.split", fmt.Sprintf("the experiment has no run with %s", repeat.Words()), "name a fold that data.split has, and none without folds")
		return nil
	}
	run, err := x.run(c, repeat)
	if err != nil {
		x.fail(&c.subject, "seeds", err.Error(), "")
		return nil
	}
	x.checkSame(c, run)
	x.checkTensors(c, run.Spec)
	if x.errorCount() > 0 {
		return nil
	}
	return run
}

// pointCell is the cell of a point. Values of a study's cell are below the point's.
func (x *expansion) pointCell(in *Study, settings []Setting) (*cell, bool) {
	c := &cell{subject: subject{name: "base"}}
	var lines, parts []string
	texts, problems := make([][]byte, len(settings)), make([]error, len(settings))
	for i, s := range settings {
		text, err := settingText(s.Value)
		if err != nil {
			text, problems[i] = fmt.Appendf(nil, "%v", s.Value), err
		}
		texts[i] = text
		lines = append(lines, strings.ReplaceAll(s.Path+"="+string(text), "\n", " "))
	}
	x.lines[pointFile] = lines
	for i, s := range settings {
		label, at := placeOfSetting(i, lines[i], 0), placeOfSetting(i, lines[i], len(s.Path)+1)
		path, ok := x.varying(s.Path, x.name+"."+s.Path, label)
		if !ok {
			continue
		}
		if slices.ContainsFunc(x.set, func(o *override) bool { return related(o.path, path) }) {
			x.failLabel(x.name+"."+s.Path, label,
				fmt.Sprintf("%s is set on the command line, so a point cannot set it", s.Path), "leave out --set "+s.Path+"=…")
			continue
		}
		if slices.ContainsFunc(c.overlay, func(o *override) bool { return slices.Equal(o.path, path) }) {
			x.failLabel(x.name+"."+s.Path, label, s.Path+" is set twice", "leave one out")
			continue
		}
		expr, err := parser.ParseExpr(pointFile, strings.Repeat("\n", i)+strings.Repeat(" ", len(s.Path)+1)+string(texts[i]))
		if err = cmp.Or(problems[i], err); err != nil {
			x.failLabel(x.name+"."+s.Path, at,
				fmt.Sprintf("the value of %s cannot be read: %v", s.Path, err), "a setting is a number, a text, true, false, a list or a struct")
			continue
		}
		// CompileBytes would keep it as long as the context lives.
		o := newOverride(path, x.cue.BuildExpr(expr), label)
		o.at = at
		c.overlay = append(c.overlay, o)
		c.values = append(c.values, AxisValue{Path: s.Path, Value: o.goValue()})
		parts = append(parts, pointPart(s.Path, o.text))
	}
	if len(parts) > 0 {
		c.name, c.label = strings.Join(parts, ","), c.overlay[0].label
	}
	if in == nil {
		if same := x.outer.cellWith(c.overlay); same != nil {
			c.name, c.values = same.name, same.values
		}
	} else {
		for _, o := range in.fixed {
			own := *o
			c.overlay = append(c.overlay, &own)
		}
	}
	return c, x.errorCount() == 0
}

// settingText is a value as JSON, which is CUE as well.
func settingText(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(b.Bytes()), err
}

// placeOfSetting is a place in the line of a setting.
func placeOfSetting(i int, line string, column int) token.Pos {
	above := strings.Repeat("\n", i)
	file := token.NewFile(pointFile, -1, len(above)+len(line))
	file.SetLinesForContent([]byte(above + line))
	return file.Pos(len(above)+column, token.NoRelPos)
}

// pointPart is a setting in the name of a point: paths are whole, so that points
// with different paths have different names.
func pointPart(path, text string) string {
	if len(text) > longest || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !name.Printable(r) }) {
		return fmt.Sprintf("%s#%x", path, sha256.Sum256([]byte(text)))[:len(path)+1+8]
	}
	return path + "=" + text
}

// cellWith is the cell of the experiment with these values; nil if it has none.
func (x *expansion) cellWith(overlay []*override) *cell {
	if x.known == nil {
		x.known = map[string]*cell{}
		for _, c := range slices.Backward(x.all) { // the first of those that are alike
			x.known[pointKey(c.overlay)] = c
		}
	}
	return x.known[pointKey(overlay)]
}

// pointKey is the values of a point, in whatever order they are given.
func pointKey(overlay []*override) string {
	texts := map[string]string{}
	for _, o := range overlay {
		text := o.text
		if text == "" { // of a case
			text = valueText(o.value)
		}
		texts[cue.MakePath(selectors(o.path).Selectors()...).String()] = text
	}
	key, _ := json.Marshal(texts) // of texts it cannot fail
	return string(key)
}
