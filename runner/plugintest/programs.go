package plugintest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

// What a variant builds.

// backbone is a small model and the layers of it that are tried. Layers of one
// block go together, as they do in a real one: what they share has to fit.
type backbone struct {
	model *protocol.Model
	sites []*protocol.Site
}

// backbones have widths that many numbers divide, that few do, and that none
// does.
var backbones = []backbone{
	small(24, 60, 3, "query 0", "key 0", "fc1 0", "output 1", "fc2 1", "value 1", "attn_in 1", "patch 0"),
	small(15, 35, 3, "query 0", "value 0", "fc1 0", "fc2 0"),
	small(13, 29, 1, "query 0", "fc1 0", "mlp_in 0"),
}

func small(dim, mlp, heads uint32, layers ...string) backbone {
	b := backbone{model: &protocol.Model{Family: "vit", Dim: dim, Depth: 2, Heads: heads, Mlp: mlp}}
	for _, layer := range layers {
		s := &protocol.Site{Kind: protocol.Site_LINEAR, In: dim, Out: dim, Bias: true}
		if _, err := fmt.Sscan(layer, &s.Name, &s.Block); err != nil {
			panic(err) // the list above is wrong
		}
		switch s.Name {
		case "key":
			s.Bias = false
		case "fc1":
			s.Out = mlp
		case "fc2":
			s.In = mlp
		case "attn_in", "mlp_in":
			s.Kind, s.Bias = protocol.Site_STREAM, false
		case "patch":
			s.Kind, s.In = protocol.Site_PATCH, 48
		}
		b.sites = append(b.sites, s)
	}
	return b
}

// built is what one example gives on one backbone.
type built struct {
	example  string
	params   string // complete, JSON
	backbone backbone
	sites    []*protocol.Site // that were not refused
	reply    *protocol.BuildReply
	placed   *program.Placed
}

func (b *built) String() string {
	return fmt.Sprintf("{%s} on a backbone of width %d", b.example, b.backbone.model.GetDim())
}

// show is the command that shows a program.
func (t *trial) show(example string, s *protocol.Site) string {
	return fmt.Sprintf("show %s --params '%s' --site %s --size %dx%d", t.Path, example, s.GetName(), s.GetOut(), s.GetIn())
}

// tried are the examples, or the defaults if there are none.
func (t *trial) tried() []string {
	if list := t.about.GetExamples(); len(list) > 0 {
		return list
	}
	return []string{""}
}

func (t *trial) examples() {
	for _, example := range t.tried() {
		params, err := t.schema.Complete(example)
		if err != nil {
			expected := "an example that the schema accepts"
			if example == "" {
				expected = "defaults for all parameters, or Examples that give those without"
			}
			t.fault(t.show(example, backbones[0].sites[0]), expected, "%s", said(err))
			continue
		}
		linear := 0
		for _, b := range backbones {
			made := &built{example: example, params: params, backbone: b}
			for _, s := range b.sites {
				reply, err := t.first.Build(t.ctx, t.Name, params, b.model, []*protocol.Site{s})
				if crashed(err) {
					// It would go on to crash: of a layer that differs from
					// one it can adapt the next check speaks.
					t.broken = &breakdown{t.show(example, s), "a program for " + program.SiteName(s) + ", or a problem", err}
					if linear == 0 {
						t.fault(t.broken.reproduce, t.broken.expected, "%s", said(err))
						t.end("the plug-in does not build its examples")
					}
					return
				}
				if err == nil && len(reply.GetProblems()) == 0 {
					made.sites = append(made.sites, s)
					if s.GetKind() == protocol.Site_LINEAR {
						linear++
					}
				}
			}
			t.built = append(t.built, made)
		}
		if linear == 0 {
			s := backbones[0].sites[0]
			reply, err := t.first.Build(t.ctx, t.Name, params, backbones[0].model, []*protocol.Site{s})
			found := "a problem: " + problems(reply)
			if err != nil {
				found = said(err)
			}
			t.fault(t.show(example, s), "a linear layer of width 24, 15 or 13 that the example can adapt", "%s", found)
		}
	}
	if len(t.built) == 0 {
		t.end("there are no parameters to build with")
	}
}

func problems(reply *protocol.BuildReply) string {
	var all []string
	for _, p := range reply.GetProblems() {
		all = append(all, strings.TrimPrefix(p.GetParam()+": "+p.GetMessage(), ": "))
	}
	return strings.Join(all, "; ")
}

// breakdown is where the plug-in crashed or hung.
type breakdown struct {
	reproduce, expected string
	err                 error
}

func (t *trial) sites() {
	if b := t.broken; b != nil {
		t.fault(b.reproduce, b.expected, "%s", said(b.err))
		t.end("the plug-in does not build its examples")
		return
	}
	refused := map[string]bool{}
	for _, b := range t.built {
		for _, s := range b.backbone.sites {
			if slices.Contains(b.sites, s) {
				continue
			}
			_, err := t.first.Build(t.ctx, t.Name, b.params, b.backbone.model, []*protocol.Site{s})
			if err != nil {
				t.fault(t.show(b.example, s), "a program for "+program.SiteName(s)+", or a problem with the parameters", "%s", said(err))
				continue
			}
			switch s.GetKind() {
			case protocol.Site_STREAM:
				refused["streams"] = true
			case protocol.Site_PATCH:
				refused["the patch embedding"] = true
			default:
				refused[fmt.Sprintf("%s of width %d", s.GetName(), s.GetIn())] = true
			}
		}
		if !t.together(b) {
			continue
		}
		var err error
		if b.placed, err = program.CheckAll(b.reply.GetPrograms(), b.sites, b.reply.GetProgramOfSite(), b.backbone.model); err != nil {
			t.fault("", "programs that fit together, "+b.String(), "%s", said(err))
		}
	}
	t.built = slices.DeleteFunc(t.built, func(b *built) bool { return b.placed == nil })
	if len(refused) > 0 {
		var list []string
		for what := range refused {
			list = append(list, what)
		}
		slices.Sort(list)
		t.now.Note = "refused: " + strings.Join(list, ", ")
	}
	if len(t.built) == 0 {
		t.end("there are no programs")
	}
}

// together builds all sites that were not refused at once, and reports whether
// there are programs.
func (t *trial) together(b *built) bool {
	for len(b.sites) > 0 {
		reply, err := t.first.Build(t.ctx, t.Name, b.params, b.backbone.model, b.sites)
		if err != nil {
			t.fault("", "programs for all layers at once, as for each of them, "+b.String(), "%s", said(err))
			return false
		}
		b.reply = reply
		if len(reply.GetProblems()) == 0 {
			return true
		}
		at := int(reply.GetProblems()[0].GetSite())
		if at < 0 {
			return false
		}
		b.sites = slices.Delete(slices.Clone(b.sites), at, at+1)
	}
	return false
}

// badParameters asks for programs with parameters that runner would have
// refused: a saved file, another version of the schema or another tool may let
// them through.
func (t *trial) badParameters() {
	b := t.built[0]
	var good map[string]any
	if err := json.Unmarshal([]byte(b.params), &good); err != nil {
		t.fault("", "parameters that are a JSON object", "%s", b.params)
		return
	}
	try := func(what string, bad map[string]any, refuse bool) {
		raw, err := json.Marshal(bad)
		if err != nil {
			panic(err) // of plain values
		}
		reply, err := t.first.Build(t.ctx, t.Name, string(raw), b.backbone.model, b.sites)
		switch {
		case crashed(err):
			t.fault("", "an error or a problem for "+what, "%s", said(err))
		case err == nil && refuse && len(reply.GetProblems()) == 0:
			t.fault("", "an error for "+what, "programs are built as if nothing was wrong")
		}
	}
	with := func(name string, value any) map[string]any {
		bad := map[string]any{name: value}
		for k, v := range good {
			if k != name {
				bad[k] = v
			}
		}
		return bad
	}
	try("a parameter that does not exist", with("surely_not_a_parameter", 1), true)
	try("no parameters", map[string]any{}, false)
	for _, name := range slices.Sorted(maps.Keys(good)) {
		if good[name] == nil {
			continue
		}
		try(name+": a list", with(name, []any{[]any{}}), !isList(good[name]))
		switch good[name].(type) {
		case float64:
			try(name+": a text", with(name, "surely not a number"), true)
			for _, n := range []float64{0, -1, 0.5, 1e6} {
				try(fmt.Sprintf("%s: %v", name, n), with(name, n), false)
			}
		case string:
			try(name+": a number", with(name, 12345), true)
			try(name+": an unknown word", with(name, "surely not a word of it"), false)
		case bool:
			try(name+": a number", with(name, 12345), true)
		}
	}
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

func (t *trial) deterministic() {
	// The second process hears the requests in another order.
	for _, b := range slices.Backward(t.built) {
		reversed := slices.Clone(b.sites)
		slices.Reverse(reversed)
		other, err := t.second.Build(t.ctx, t.Name, b.params, b.backbone.model, reversed)
		if err != nil || len(other.GetProblems()) > 0 {
			t.fault("", "the programs of "+b.String()+" with its layers in reverse", "%s", joined(problems(other), err))
			continue
		}
		for i, s := range b.sites {
			j := len(b.sites) - 1 - i
			want := b.reply.GetPrograms()[b.reply.GetProgramOfSite()[i]]
			got := other.GetPrograms()[other.GetProgramOfSite()[j]]
			if !proto.Equal(want, got) {
				t.fault(t.show(b.example, s), "the same program for "+program.SiteName(s)+" whatever was asked before", "%s", firstDifference(want, got))
			}
		}
		again, err := t.second.Build(t.ctx, t.Name, b.params, b.backbone.model, b.sites)
		if err != nil || !proto.Equal(again, b.reply) {
			t.fault("", "the same reply from another process for "+b.String(), "%s", joined("another", err))
		}
	}
}

func joined(text string, err error) string {
	if err != nil {
		return said(err)
	}
	return text
}

// firstDifference is the first line in which two programs differ.
func firstDifference(a, b *protocol.Program) string {
	x, y := strings.Split(program.Text(a), "\n"), strings.Split(program.Text(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%q, then %q", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, then %d", len(x), len(y))
}

// architecture is a published kind of backbone with the sizes of a model.
func architecture(m *protocol.Model) *spec.Architecture {
	return &spec.Architecture{
		Family: m.GetFamily(), Dim: m.GetDim(), Depth: m.GetDepth(), Heads: m.GetHeads(), Mlp: m.GetMlp(),
		Patch: 8, GridH: 4, GridW: 4, Eps: 1e-12, QkvBias: true,
	}
}

// layers are the layers with these names in all blocks.
func layers(m *protocol.Model, names []string) (sites []*protocol.Site) {
	for block := range m.GetDepth() {
		for _, name := range names {
			if s, ok := design.Site(architecture(m), block, name); ok {
				sites = append(sites, s)
			}
		}
	}
	return sites
}

func (t *trial) quick() {
	m := &protocol.Model{Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072}
	for _, example := range t.tried() {
		params, err := t.schema.Complete(example)
		if err != nil {
			continue // reported
		}
		began := time.Now()
		reply, err := t.first.Build(t.ctx, t.Name, params, m, layers(m, design.Sites))
		if err == nil && len(reply.GetProblems()) > 0 {
			began = time.Now()
			_, err = t.first.Build(t.ctx, t.Name, params, m, layers(m, []string{design.SiteQuery, design.SiteValue}))
		}
		took := time.Since(began)
		at := fmt.Sprintf("show %s --params '%s' --size 768x768", t.Path, example)
		switch {
		case err != nil:
			t.fault(at, "programs for a ViT-B/16", "%s", said(err))
		case took > t.Quick:
			// One layer is quick: all of them are not.
			t.fault("", fmt.Sprintf("an answer within %v for all layers of a ViT-B/16, {%s}", t.Quick, example), "it took %v", took.Round(100*time.Millisecond))
		}
	}
}

func (t *trial) unused() {
	for _, b := range t.built {
		for _, w := range b.placed.Warnings {
			t.fault(t.show(b.example, b.sites[0]), "no part that computes nothing", "%s", w)
		}
	}
}

func (t *trial) count() {
	declared := t.about.GetParameters()
	if declared == "" {
		t.now.Note = "none is declared"
		return
	}
	for _, b := range t.built {
		var vars map[string]any
		if err := json.Unmarshal([]byte(b.params), &vars); err != nil {
			continue // reported
		}
		for i, s := range b.sites {
			vars["in"], vars["out"] = float64(s.GetIn()), float64(s.GetOut())
			want, err := evaluate(declared, vars)
			if err != nil {
				t.fault("info "+t.Path, "an expression over the parameters, in and out", "%s", said(err))
				return
			}
			if got := b.placed.Sites[i].TrainableCount; math.Abs(want-float64(got)) > 0.5 {
				t.fault(t.show(b.example, s), fmt.Sprintf("%s = %v trainable parameters", declared, want), "%d", got)
			}
		}
	}
}

// peft reads back what is written: the settings have to give parameters whose
// adapter has the same tensors.
func (t *trial) peft() {
	stored, readable := 0, true
	for _, b := range t.built {
		// PEFT adapts modules; a stream is none.
		sites := slices.DeleteFunc(slices.Clone(b.sites), func(s *protocol.Site) bool { return s.GetKind() == protocol.Site_STREAM })
		if len(sites) == 0 {
			continue
		}
		shapes, reply := t.tensors(b, b.params, sites)
		if shapes == nil {
			continue
		}
		stored++
		adopted, err := t.first.Adopt(t.ctx, t.Name, reply.GetPeft().GetConfigJson(), b.backbone.model, sites)
		var e *variant.Error
		switch {
		case errors.As(err, &e) && e.Unknown:
			readable = false
			continue
		case err != nil:
			t.fault("", "parameters for the settings of PEFT of "+b.String(), "%s", said(err))
			continue
		case len(adopted.GetProblems()) > 0:
			p := adopted.GetProblems()[0]
			t.fault("", "parameters for the settings that it wrote for "+b.String(), "%s: %s", p.GetParam(), p.GetMessage())
			continue
		}
		params, err := t.schema.Complete(adopted.GetParamsJson())
		if err != nil {
			t.fault("", "parameters that the schema accepts for the settings of PEFT of "+b.String(), "%s", said(err))
			continue
		}
		again, _ := t.tensors(b, params, sites)
		if missing := differ(shapes, again); missing != "" {
			t.fault("", "the same tensors when the settings of PEFT of "+b.String()+" are read back", "%s, with %s", missing, params)
		}
	}
	switch {
	case stored == 0 && t.about.GetPeftType() != "" && len(t.now.Faults) == 0:
		t.fault("info "+t.Path, "tensors for PEFT, whose "+t.about.GetPeftType()+" it says to be", "none are marked")
	case stored == 0:
		t.now.Note = "PEFT cannot store it"
	case !readable:
		t.now.Note = "it does not read PEFT files"
	default:
		t.now.Note = "its settings are read back"
	}
}

// tensors are the shapes of what PEFT stores, by site and key; nil if nothing.
func (t *trial) tensors(b *built, params string, sites []*protocol.Site) (map[string]string, *protocol.BuildReply) {
	reply, err := t.first.Build(t.ctx, t.Name, params, b.backbone.model, sites)
	if err != nil || len(reply.GetProblems()) > 0 {
		t.fault("", "programs for the layers of "+b.String()+" without streams", "%s", joined(problems(reply), err))
		return nil, nil
	}
	if reply.GetPeft() == nil {
		return nil, nil
	}
	placed, err := program.CheckAll(reply.GetPrograms(), sites, reply.GetProgramOfSite(), b.backbone.model)
	if err != nil {
		return nil, nil // the registry has checked it
	}
	all, err := program.CheckPeftAll(reply.GetPeft(), placed, reply.GetProgramOfSite())
	if err != nil {
		return nil, nil // likewise
	}
	shapes := map[string]string{}
	for i, s := range all {
		for _, tensor := range s.Tensors.GetTensors() {
			at := program.SiteName(sites[i]) + ", "
			if tensor.GetModel() {
				at = ""
			}
			shapes[at+tensor.GetKey()] = program.ShapeText(s.Shapes[tensor.GetNode()])
		}
	}
	return shapes, reply
}

// differ says in what one set of tensors is not another.
func differ(want, got map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			return fmt.Sprintf("%s had shape %s and has %s", key, want[key], orNone(got[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			return key + " is new"
		}
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
