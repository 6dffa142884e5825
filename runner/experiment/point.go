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
	"github.com/loralab/loralab/runner/search/space"
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
	return onlyRun(e.resolve(ctx, nil, point, repeat))
}

// Resolve makes the run of a trial: the cell of the study with a point in place of
// its values. The run has the name of a cell of its own. Otherwise it is as
// Experiment.Resolve says.
func (s *Study) Resolve(ctx context.Context, cell string, point []Setting, seed uint64) (*Run, diagnostic.List) {
	run, found := onlyRun(s.of.resolve(ctx, s, point, name.Repeat{Seed: seed}))
	if run != nil {
		run.Cell, run.Values, run.Point, run.Label.Cell = cell, nil, point, cell
	}
	return run, found
}

// onlyRun is the run of a point that was resolved with one repeat.
func onlyRun(runs []*Run, found diagnostic.List) (*Run, diagnostic.List) {
	if len(runs) == 0 {
		return nil, found
	}
	return runs[0], found
}

// resolve is Resolve with the values of a study's cell, if there is one, below those of
// the point. It makes a run for each repeat, or none.
func (e *Experiment) resolve(ctx context.Context, in *Study, point []Setting, repeats ...name.Repeat) (runs []*Run, found diagnostic.List) {
	x := e.expansion
	err := x.inTurn(ctx, func() { runs, found = x.point(ctx, e, in, point, repeats) })
	if err != nil {
		return nil, diagnostic.List{{
			Path: strings.TrimSuffix(e.Name, smokeSuffix), Message: fmt.Sprintf("the point is not resolved: %v", err), At: diagnostic.Position{File: x.display(x.file)},
		}}
	}
	return runs, found
}

// together is how many points are resolved at once.
const together = 100

// IDs are the identities of the runs that points make with some seeds; nil where a point
// makes none. The points are resolved together, which takes a fraction of the time of one
// after the other.
func (s *Study) IDs(ctx context.Context, points []space.Point, seeds []uint64) (ids [][]string, err error) {
	x := s.of.expansion
	for part := range slices.Chunk(points, together) {
		err := x.inTurn(ctx, func() {
			y, done := x.apart(ctx, seeds)
			defer done()
			for _, c := range y.cellsAt(s, part) {
				ids = append(ids, y.idsOf(s, c, seeds))
			}
		})
		if err != nil {
			return nil, fmt.Errorf("resolving points of %s/%s: %w", s.Experiment, s.Cell, err)
		}
	}
	return ids, nil
}

// idsOf are the identities of the runs of a cell; nil if it makes none.
func (x *expansion) idsOf(s *Study, c *cell, seeds []uint64) (ids []string) {
	if c.config == nil {
		return nil
	}
	before := x.errorCount()
	x.prepare([]*cell{c})
	if x.check(c); x.errorCount() > before {
		return nil
	}
	for _, seed := range seeds {
		run, err := x.run(c, name.Repeat{Seed: seed})
		if err == nil && s.of.smoke != nil {
			run, err = s.of.smoke.run(x.resolve.ctx, run, s.of.Name)
		}
		if err != nil {
			return nil
		}
		ids = append(ids, run.ID)
	}
	return ids
}

// inTurn does work that uses the values of the experiment. The error says why it was not
// done.
func (x *expansion) inTurn(ctx context.Context, work func()) error {
	release, err := x.turn.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if x.resolve.partial() {
		return errors.New("plug-ins or backbones are not known here")
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
		work()
	})
	if err != nil {
		x.turn.lost = fmt.Errorf("evaluating the experiment with these settings: %w", err)
	}
	return x.turn.lost
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
func (x *expansion) point(ctx context.Context, e *Experiment, in *Study, settings []Setting, repeats []name.Repeat) ([]*Run, diagnostic.List) {
	var seeds []uint64
	for _, r := range repeats {
		seeds = append(seeds, r.Seed)
	}
	y, done := x.apart(ctx, seeds)
	defer done()
	runs := y.runsOf(in, settings, repeats)
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
	case e.smoke == nil:
		return runs, found
	}
	for i, run := range runs {
		cut, err := e.smoke.run(ctx, run, e.Name)
		if err != nil {
			return nil, append(found, diagnostic.Diagnostic{Path: x.name, Message: fmt.Sprintf("cutting %s down: %v", run.Name(), err), At: diagnostic.Position{File: x.display(x.file)}})
		}
		runs[i] = cut
	}
	return runs, found
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

// runsOf are the runs of a point; none, reported, if it makes not all of them.
func (x *expansion) runsOf(in *Study, settings []Setting, repeats []name.Repeat) (runs []*Run) {
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
	for _, repeat := range repeats {
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
		runs = append(runs, run)
	}
	return runs
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
