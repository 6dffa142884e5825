package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// PEFTConfig is what a variant's type has to do besides Graph.PEFT if PEFT can
// store it: return adapter_config.json for the adapted sites as far as the
// variant decides it, peft_type with all its settings. What belongs to the
// host (base_model_name_or_path, target_modules and the like) is not for it to
// set. In a string "{fc2}" stands for the names of the modules at that site:
// {"feedforward_modules": []string{"{fc2}"}}. nil says that PEFT cannot store
// the adapter with these parameters; what Graph.PEFT has marked is dropped
// then. It is also dropped, without a call, if a stream is among the sites:
// PEFT adapts modules.
type PEFTConfig interface {
	PEFTConfig(sites []Site) map[string]any
}

// PEFT marks n, computed from parameters, W, b and constants, as a tensor that
// PEFT stores below the adapted module: PEFT("lora_A.weight", a). What only
// such tensors need is no part of the program: it neither runs nor changes
// what identifies a run. Draw y first and PEFT's tensors last.
func (g *Graph) PEFT(key string, n Node) { g.store(key, n, false) }

// PEFTModel marks a tensor that the model has once, by its key below
// "base_model": PEFTModel("vera_A", a). It may use parameters of PerModel only.
func (g *Graph) PEFTModel(key string, n Node) { g.store(key, n, true) }

func (g *Graph) store(key string, n Node, model bool) {
	at := program.SiteName(g.site)
	if n.g != g {
		stop(fmt.Sprintf("%s: PEFT tensor %s is a node of another graph", at, key))
	}
	if err := program.Storable(n.value); err != nil {
		stop(fmt.Sprintf("%s: PEFT tensor %s %v", at, key, err))
	}
	for _, t := range g.peft {
		if t.GetKey() == key && t.GetModel() == model {
			stop(fmt.Sprintf("%s: two tensors have the PEFT key %s", at, key))
		}
	}
	g.peft = append(g.peft, &protocol.PeftTensor{Key: key, Node: n.index, Model: model})
}

// finish returns the program with output y and, apart from it, the graph of
// what PEFT stores. What neither needs stays in the program, where it is
// warned of.
func (g *Graph) finish(y Node) (*protocol.Program, *protocol.PeftTensors) {
	p := g.w.Finish(y.index)
	if len(g.peft) == 0 {
		return p, nil
	}
	roots := []uint32{p.GetOutput()}
	for _, a := range p.GetAux() {
		roots = append(roots, a.GetNode())
	}
	runs := program.Needed(p.GetNodes(), roots...)
	roots = nil
	for _, t := range g.peft {
		roots = append(roots, t.GetNode())
	}
	stored := program.Needed(p.GetNodes(), roots...)

	tensors := &protocol.PeftTensors{}
	var at []uint32
	tensors.Nodes, at = take(p.GetNodes(), stored)
	for _, t := range g.peft {
		t.Node = at[t.GetNode()]
		tensors.Tensors = append(tensors.Tensors, t)
	}
	for i := range runs {
		runs[i] = runs[i] || !stored[i]
	}
	p.Nodes, at = take(p.GetNodes(), runs)
	p.Output = at[p.GetOutput()]
	for _, a := range p.GetAux() {
		a.Node = at[a.GetNode()]
	}
	p.Version = program.VersionOf(p)
	return p, tensors
}

// take copies the wanted nodes and says where each is now.
func take(nodes []*protocol.Node, want []bool) (taken []*protocol.Node, at []uint32) {
	at = make([]uint32, len(nodes))
	for i, n := range nodes {
		if !want[i] {
			continue
		}
		at[i] = uint32(len(taken))
		n = proto.CloneOf(n)
		for j, in := range n.GetInputs() {
			n.Inputs[j] = at[in]
		}
		taken = append(taken, n)
	}
	return taken, at
}

// peftOf is the PEFT part of a reply; nil if there is none. tensors are those
// of the programs. It panics with a mistake.
func peftOf(b Builder, sites []Site, at []*protocol.Site, reply *protocol.BuildReply, tensors []*protocol.PeftTensors) *protocol.Peft {
	marked := -1 // a program that has tensors
	for i, t := range tensors {
		if t != nil {
			marked = i
		}
	}
	c, can := b.(PEFTConfig)
	switch {
	case !can && marked < 0:
		return nil
	case !can:
		panic(mistake{message: fmt.Sprintf("PEFT tensors are marked, but %T has no method PEFTConfig", b)})
	}
	config := c.PEFTConfig(sites)
	if config == nil {
		return nil
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(mistake{message: fmt.Sprintf("PEFTConfig of %T: %v", b, err)})
	}
	p := &protocol.Peft{ConfigJson: string(text)}
	for i, t := range tensors {
		if t == nil {
			for j, of := range reply.GetProgramOfSite() {
				if int(of) == i {
					panic(mistake{message: fmt.Sprintf("%s: PEFTConfig has settings, but Build has marked no tensor with PEFT", program.SiteName(at[j]))})
				}
			}
		}
		p.OfProgram = append(p.OfProgram, t)
	}
	return p
}

// Adopt answers the call of that name.
func (s *server[T]) Adopt(_ context.Context, r *protocol.AdoptRequest) (reply *protocol.AdoptReply, err error) {
	if s.variant.Adopt == nil {
		return nil, status.Errorf(codes.Unimplemented, "variant %s does not read PEFT files", s.variant.Name)
	}
	defer func() {
		if e := recover(); e != nil {
			reply, err = nil, panicked(e, "")
		}
	}()
	var config map[string]any
	if err := json.Unmarshal([]byte(r.GetConfigJson()), &config); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "reading the settings of PEFT: %v", err)
	}
	params, problems := s.variant.Adopt(config, sitesOf(r.GetModel(), r.GetSites()))
	reply = &protocol.AdoptReply{}
	for _, p := range problems {
		reply.Problems = append(reply.Problems, &protocol.Problem{Param: p.Param, Message: p.Message, Hint: p.Hint, Site: -1})
	}
	if len(problems) > 0 {
		return reply, nil
	}
	reply.ParamsJson, err = encode(params)
	return reply, err
}

// encode is the reverse of decode. A field without a json tag is written in
// camel case, as parameters are in schemas: LRRatio as lrRatio.
func encode[T any](v T) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("writing the parameters %T: %w", v, err)
	}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return string(raw), nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", fmt.Errorf("writing the parameters %T: %w", v, err)
	}
	for _, f := range reflect.VisibleFields(t) {
		value, ok := fields[f.Name]
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !ok || name != "" || f.Anonymous {
			continue
		}
		delete(fields, f.Name)
		fields[camel(f.Name)] = value
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("writing the parameters %T: %w", v, err)
	}
	return string(text), nil
}

// camel lowers the initial of a name, or its initialism but for the letter
// that begins the next word.
func camel(name string) string {
	letters := []rune(name)
	for i, l := range letters {
		if !unicode.IsUpper(l) || i > 0 && i+1 < len(letters) && unicode.IsLower(letters[i+1]) {
			break
		}
		letters[i] = unicode.ToLower(l)
	}
	return string(letters)
}
