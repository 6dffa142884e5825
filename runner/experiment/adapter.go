package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"cuelang.org/go/cue"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/bounded"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/peft"
	"github.com/loralab/loralab/runner/variant"
)

// What variants say of adapters: do they know the parameters, accept them, and
// what do they build. Parameters are checked once for all cells that have the
// same; programs are built for all cells at once, as that is most of the work.

const none = "none" // the variant that adds nothing

// An adapterOn names an adapter on a backbone, as cells share them; of one that
// is read from a file, also what its head has to fit.
type adapterOn struct {
	adapter  *adapterConfig
	backbone *backboneConfig
	head     *headConfig
	data     *dataConfig
}

func (c *config) adapterOn() adapterOn {
	key := adapterOn{adapter: c.Adapter, backbone: c.Backbone}
	if c.Adapter.From != "" {
		key.head, key.data = c.Head, c.Data
	}
	return key
}

// An adaptation is what a variant makes of it.
type adaptation struct {
	params json.RawMessage // all of them, with the variant's defaults
	model  *protocol.Model
	sites  []*protocol.Site
	reply  *protocol.BuildReply
	from   *peft.Adapter // nil: not read from a file
	err    error
}

// prepare checks the parameters of all cells and has their programs built.
func (x *expansion) prepare(cells []*cell) {
	var todo []adapterOn
	for _, c := range cells {
		if c.config == nil {
			continue
		}
		memoize(x, c, variantInput{c.config.Adapter}, x.checkVariant)
		key := c.config.adapterOn()
		if x.adaptation(c) != nil || x.paramsOf(key.adapter) == nil && key.adapter.From == "" || x.resolve.backbone == nil || key.backbone.Model == "" {
			continue
		}
		bb, err := x.resolve.backbone(key.backbone.Model)
		if err != nil {
			continue // reported at the backbone
		}
		if key.adapter.From != "" {
			x.adapted[key] = x.adopt(key, bb.Arch)
			continue
		}
		sites, ok := c.config.sites(bb.Arch)
		if !ok {
			continue // reported at the blocks
		}
		x.adapted[key] = &adaptation{params: x.paramsOf(key.adapter), model: c.config.Backbone.model(bb.Arch), sites: sites}
		todo = append(todo, key)
	}
	work := make(chan adapterOn)
	var workers sync.WaitGroup
	for range min(len(todo), 2*runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for key := range work {
				a := x.adapted[key]
				a.reply, a.err = x.resolve.build(x.resolve.ctx, key.adapter.Variant, string(a.params), a.model, a.sites)
			}
		})
	}
	for _, key := range todo {
		work <- key
	}
	close(work)
	workers.Wait()
}

// of is the adaptation of a cell; nil if it has none, or none that is sound.
func (x *expansion) adaptation(c *cell) *adaptation {
	return x.adaptationOn(c.config.adapterOn())
}

func (x *expansion) adaptationOn(on adapterOn) *adaptation {
	if a := x.adapted[on]; a != nil || x.outer == nil {
		return a
	}
	return x.outer.adapted[on]
}

// paramsOf are the sound parameters of an adapter; nil if it has none.
func (x *expansion) paramsOf(a *adapterConfig) json.RawMessage {
	if p := x.params[a]; p != nil || x.outer == nil {
		return p
	}
	return x.outer.params[a]
}

// failPlugin reports a plug-in that fails, which is no mistake of the file:
// where Env.KeepGoing is set, the cells that need it are left out.
func (x *expansion) failPlugin(c *subject, a *adapterConfig, message, hint string) {
	if !x.resolve.keepGoing {
		x.fail(c, "adapter.variant", message, hint)
		return
	}
	x.warn(c, "adapter.variant", message+"; the cells that need it are left out", hint)
	x.broken[a] = true
}

func (x *expansion) baseVariant() string {
	name, _ := x.base().LookupPath(cue.ParsePath("adapter.variant")).String()
	return name
}

// paramSchema is the schema of a variant's parameters; it does not exist for
// an unknown variant.
func (x *expansion) paramSchema(name string) cue.Value {
	v, _ := x.resolve.params(x.cue, name)
	return v
}

// checkVariant looks at the adapter: is there such a variant, and do the
// parameters suit its schema.
func (x *expansion) checkVariant(c *subject, in variantInput) {
	a := in.adapter
	if dup := duplicate(a.Targets); dup >= 0 {
		x.fail(c, fmt.Sprintf("adapter.targets.%d", dup), fmt.Sprintf("target %q is listed twice", a.Targets[dup]), "")
	}
	if a.Variant == "" && a.From == "" {
		at := []string{x.name, "adapter"}
		if x.errorCount() > x.errorsBefore && slices.ContainsFunc(x.gone, func(g []string) bool { return related(g, append(slices.Clone(at), "variant")) }) {
			return // what is given there is reported
		}
		x.report(x.mark(diagnostic.Diagnostic{
			Path: strings.Join(append(at, "variant"), "."), Message: "adapter.variant is missing",
			Hint: "variant: " + doc(lookup(x.schema, []string{"adapter", "variant"})), Cells: x.cellOf(c), Of: x.total,
		}, x.labelAt(at)))
		return
	}
	if a.Variant == none || a.Variant == "" || a.From != "" || x.resolve.describe == nil {
		return
	}
	schema, err := x.resolve.params(x.cue, a.Variant)
	if err != nil {
		if !x.failVariant(c, a, err) {
			x.fail(c, "adapter.variant", err.Error(), "")
		}
		return
	}
	at := []string{x.name, "adapter", "params"}
	var gone [][]string // below the parameters
	for _, path := range x.gone {
		if len(path) > len(at) && slices.Equal(path[:len(at)], at) {
			gone = append(gone, path[len(at):])
		}
	}
	s := scope{
		prefix: []string{x.name}, schema: schema, skip: 2, overlay: c.overlay,
		unknown: fmt.Sprintf("variant %q has no parameter", a.Variant),
		rebase:  func(path []string) []string { return append(slices.Clone(at), belowParams(path)...) },
		cells:   x.cellOf(c), of: x.total,
	}
	given := a.Params
	if given == nil {
		given = &tree{members: map[string]*tree{}}
	}
	// CUE may see a mistake only when others are out of the way.
	for range 5 {
		var merged cue.Value
		var err, marshalErr error
		var params []byte
		x.foreign(a.Variant, func() {
			merged = schema.Unify(x.inCUE(given))
			if err = merged.Validate(cue.Concrete(true), cue.Final()); err == nil {
				params, marshalErr = merged.MarshalJSON()
			}
		})
		if err == nil {
			if marshalErr != nil {
				x.fail(c, "adapter.params", "the parameters have no definite value: "+marshalErr.Error(), "")
				return
			}
			complete, parseErr := parseTree(params)
			if parseErr != nil {
				x.fail(c, "adapter.params", "the parameters cannot be read: "+parseErr.Error(), "")
				return
			}
			if bad := numberErrors(complete, schema, nil); bad != nil {
				err = bad
			} else {
				if len(gone) == 0 {
					x.params[a] = params
				}
				return
			}
		}
		n := len(gone)
		var further cueerrors.Error
		for _, e := range cueerrors.Errors(err) {
			path := belowParams(e.Path())
			if slices.ContainsFunc(gone[:n], func(g []string) bool { return related(g, path) }) {
				continue
			}
			if n > 0 && given.at(path) == nil && !missing(e, path, gone) {
				continue // it follows from what was taken out
			}
			further = cueerrors.Append(further, e)
			if given.at(path) != nil && len(path) > 0 {
				gone = append(gone, path)
			}
		}
		if further != nil {
			x.complain(further, s)
		}
		if len(gone) == n {
			return
		}
		for _, path := range gone[n:] {
			given = given.without(path)
		}
	}
}

// inCUE is a tree as a value. CompileBytes would keep it as long as the context
// lives.
func (x *expansion) inCUE(t *tree) cue.Value {
	text := t.append(nil)
	expr, err := parser.ParseExpr("", text)
	if err != nil {
		return x.cue.CompileBytes(text) // with the error
	}
	return x.cue.BuildExpr(expr)
}

// failVariant reports a variant that there is not, or whose plug-in fails; false if
// err is about neither.
func (x *expansion) failVariant(c *subject, a *adapterConfig, err error) bool {
	name := a.Variant
	var unknown *variant.UnknownError
	var broken *variant.Error
	switch {
	case errors.As(err, &unknown):
		known := append(slices.Clone(unknown.Known), none)
		hint := diagnostic.Suggest(name, "variants", known)
		switch {
		case len(unknown.Known) == 0:
			hint = "no plug-in was found in " + strings.Join(unknown.Dirs, ", ")
		case diagnostic.DidYouMean(name, known) == "" && variant.IsName(name):
			hint += fmt.Sprintf("\na plug-in of your own is used after: runner plugins install --project PATH, or with: --dev-plugin %s=PATH", name)
		}
		if x.resolve.trained != nil {
			if version := x.resolve.trained(x.name, name); version != "" {
				hint = fmt.Sprintf("runs of %s were trained with version %s of it: install that file again with: runner plugins install --project PATH\n"+
					"what is done can be used without it: runner status, compare, inspect, evaluate, predict, export", x.name, version)
			}
		}
		x.fail(c, "adapter.variant", fmt.Sprintf("unknown variant %q", name), hint)
	case errors.As(err, &broken):
		message, hint := fmt.Sprintf("variant %q: %s", name, broken.Message), broken.Hint
		if broken.Err != nil {
			message += ": " + broken.Err.Error()
		}
		if broken.Stack != "" {
			hint += "\nwhat the plug-in printed:\n" + broken.Stack
		}
		if broken.Untrusted { // which is for the user to decide, before anything trains
			x.fail(c, "adapter.variant", message, hint)
		} else {
			x.failPlugin(c, a, message, hint)
		}
	default:
		return false
	}
	return true
}

// foreignLimits are what the schema of a variant may take for the parameters of a
// cell. CUE has no way to end an evaluation.
var foreignLimits = bounded.Limits{CPU: 10 * time.Second, Memory: bounded.Most() / 8 * 7}

// foreign evaluates what the schema of a variant says. A schema that takes too
// long ends the whole of Load, as the evaluation continues in the only context.
func (x *expansion) foreign(name string, evaluate func()) {
	if err := bounded.Do(x.resolve.ctx, foreignLimits, evaluate); err != nil {
		panic(abandoned{fmt.Sprintf("the schema of variant %q cannot be evaluated with these parameters: %v", name, err)})
	}
}

// abandoned is an evaluation that continues in the background; nothing that it
// uses is used again.
type abandoned struct{ message string }

// missing reports whether e is about a required field that none of those taken
// out may have meant.
func missing(e cueerrors.Error, path []string, gone [][]string) bool {
	format, _ := e.Msg()
	return format == missingField && !slices.ContainsFunc(gone, func(g []string) bool {
		return related(path, g) || diagnostic.DidYouMean(label(g[len(g)-1]), []string{path[len(path)-1]}) != ""
	})
}

// belowParams is the path of an error below the parameters: CUE gives that of
// the value or that of the schema.
func belowParams(path []string) []string {
	for len(path) > 0 && path[0] == "#Params" {
		path = path[1:]
	}
	return path
}

// checkAdapter reports what the variant does not like about the parameters on
// this backbone.
func (x *expansion) checkAdapter(c *subject, in adapterInput) {
	a := x.adaptationOn(in.adapterOn)
	if a == nil {
		return
	}
	if in.adapter.From != "" {
		x.checkAdopted(c, in.adapter, a)
		return
	}
	if a.err != nil {
		message := fmt.Sprintf("variant %q cannot build its adapters: %v", in.adapter.Variant, a.err)
		var broken *variant.Error
		if errors.As(a.err, &broken) {
			x.failPlugin(c, in.adapter, message, "")
		} else {
			x.fail(c, "adapter.variant", message, "")
		}
		return
	}
	for _, p := range a.reply.GetProblems() {
		path, message := []string{"adapter", "targets"}, p.GetMessage()
		if p.GetParam() != "" {
			path = append([]string{"adapter", "params"}, strings.Split(p.GetParam(), ".")...)
			message = p.GetParam() + ": " + message
		}
		switch at := int(p.GetSite()); {
		case at >= 0 && at < len(a.sites):
			message += " (" + program.SiteName(a.sites[at]) + ")"
		case len(a.sites) == 1:
			message += " (" + program.SiteName(a.sites[0]) + ")"
		case len(a.sites) > 1:
			message += fmt.Sprintf(" (at all %d adapted layers)", len(a.sites))
		}
		x.failAt(c, path, message, p.GetHint())
	}
}
