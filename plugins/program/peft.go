package program

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/protocol"
)

// Stored is the checked graph of what PEFT stores of one program at a site.
type Stored struct {
	Tensors *protocol.PeftTensors
	Shapes  [][]int64 // of each node; none has T
}

// Text is the readable form: the nodes, then a line for each tensor,
//
//	%0 = param lora_A : [8, 384]
//	lora_A.weight = %0
func (s *Stored) Text() string {
	var b strings.Builder
	writeNodes(&b, s.Tensors.GetNodes(), func(i int) string { return " : " + ShapeText(s.Shapes[i]) })
	for _, t := range s.Tensors.GetTensors() {
		of := ""
		if t.GetModel() {
			of = ", one for the model"
		}
		fmt.Fprintf(&b, "%s = %%%d%s\n", clean(t.GetKey()), t.GetNode(), of)
	}
	return b.String()
}

// Shape is that of the tensor with the key; nil if there is none.
func (s *Stored) Shape(key string) []int64 {
	for _, t := range s.Tensors.GetTensors() {
		if t.GetKey() == key {
			return s.Shapes[t.GetNode()]
		}
	}
	return nil
}

var peftKey = regexp.MustCompile(`^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$`)

// CheckPeft types what PEFT stores of a program at its site and returns every
// mistake at once as Errors. Its nodes may use the program's parameters, W and
// b, but neither x nor anything random.
func CheckPeft(t *Typed, q *protocol.PeftTensors) (*Stored, error) {
	k := newChecker(t.Site)
	k.of = "PEFT"
	for _, p := range t.Program.GetParams() {
		k.declare(p)
	}
	if n := len(q.GetNodes()); n > MaxNodes {
		k.program("%d nodes, at most %d are allowed", n, MaxNodes)
		return nil, k.errs
	}
	if n := proto.Size(q); n > MaxBytes {
		k.program("the graph takes %d bytes, at most %d are allowed", n, MaxBytes)
		return nil, k.errs
	}
	for _, n := range q.GetNodes() {
		k.node(n)
	}
	if len(q.GetTensors()) == 0 {
		k.program("no tensors")
	}
	scopes := scopesOf(q.GetNodes(), k.params)
	seen := map[string]bool{}
	for _, s := range q.GetTensors() {
		key := s.GetKey()
		switch {
		case !peftKey.MatchString(key) || len(key) > maxName:
			k.program("a tensor has the key %s, want names of letters, digits and _ with dots between, at most %d", clip(key), maxName)
			continue
		case seen[place(s)]:
			k.program("two tensors have the key %s", key)
			continue
		case int(s.GetNode()) >= len(k.nodes):
			k.program("tensor %s is %%%d, but the last node is %%%d", key, s.GetNode(), len(k.nodes)-1)
			continue
		}
		seen[place(s)] = true
		v := k.nodes[s.GetNode()]
		if v == nil {
			continue
		}
		if err := Storable(*v); err != nil {
			k.program("tensor %s %s", key, err)
		}
		if s.GetModel() && (scopes[s.GetNode()] != protocol.Param_MODEL || v.From&FromBase != 0) {
			k.program("tensor %s is one for the model, but depends on the site: it may use parameters shared by the model only", key)
		}
	}
	if len(k.errs) > 0 {
		return nil, k.errs
	}
	s := &Stored{Tensors: q, Shapes: make([][]int64, len(k.nodes))}
	for i, v := range k.nodes {
		s.Shapes[i] = v.Shape
	}
	return s, nil
}

// place tells a tensor of a module from one that the model has once: a key may
// be both.
func place(t *protocol.PeftTensor) string {
	if t.GetModel() {
		return "base_model." + t.GetKey()
	}
	return t.GetKey()
}

// Storable says why a value cannot be a tensor of a file; nil if it can.
func Storable(v Value) error {
	switch {
	case v.From&FromX != 0:
		return fmt.Errorf("depends on x: a file can hold parameters, W, b and what follows from them")
	case v.From&FromRandom != 0:
		return fmt.Errorf("goes through dropout, which is random")
	case v.DType != Float:
		return fmt.Errorf("is %s, want float", v.DType)
	}
	return nil
}

// scopesOf is the narrowest scope among the parameters each node depends on;
// MODEL if it depends on none.
func scopesOf(nodes []*protocol.Node, params map[string]*protocol.Param) []protocol.Param_Scope {
	scopes := make([]protocol.Param_Scope, len(nodes))
	for i, n := range nodes {
		scopes[i] = protocol.Param_MODEL
		if p := params[n.GetParam()]; n.GetOp() == protocol.Op_PARAM && p != nil {
			scopes[i] = p.GetScope()
		}
		for _, j := range n.GetInputs() {
			if int(j) < i {
				scopes[i] = min(scopes[i], scopes[j])
			}
		}
	}
	return scopes
}

// CheckPeftAll checks the PEFT part of a reply whose programs are placed, at
// every site, and returns what is stored at each. All mistakes come back at
// once; one that many sites have in common is reported for the first.
func CheckPeftAll(q *protocol.Peft, placed *Placed, of []uint32) ([]*Stored, error) {
	for _, text := range append([]string{q.GetConfigJson()}, q.GetConfigOfProgram()...) {
		if err := checkConfig(text); err != nil {
			return nil, err
		}
	}
	if n := len(q.GetConfigOfProgram()); n > 0 && n != len(q.GetOfProgram()) {
		return nil, Errors{{Node: -1, Message: fmt.Sprintf("settings of PEFT are given for %d programs, want %d or none", n, len(q.GetOfProgram()))}}
	}
	var errs Errors
	seen := map[string]bool{}
	stored := make([]*Stored, len(placed.Sites))
	for i, t := range placed.Sites {
		if int(of[i]) >= len(q.GetOfProgram()) {
			return nil, Errors{{Site: SiteName(t.Site), Node: -1, Message: fmt.Sprintf("what PEFT stores is given for %d programs, program %d is another", len(q.GetOfProgram()), of[i])}}
		}
		s, err := CheckPeft(t, q.GetOfProgram()[of[i]])
		stored[i] = s
		if err == nil {
			continue
		}
		for _, e := range err.(Errors) {
			about := *e
			about.Site = ""
			if text := about.Error(); !seen[text] {
				seen[text] = true
				errs = append(errs, e)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return stored, nil
}

// checkConfig looks at one adapter_config.json. The type becomes part of
// messages, so it is a plain name.
func checkConfig(text string) error {
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil || config == nil {
		return Errors{{Node: -1, Message: "the settings of PEFT are no JSON object: " + clip(text)}}
	}
	switch kind, ok := config["peft_type"].(string); {
	case !ok || kind == "":
		return Errors{{Node: -1, Message: `the settings of PEFT have no peft_type, "LORA" for example`}}
	case !peftType.MatchString(kind):
		return Errors{{Node: -1, Message: fmt.Sprintf("the settings of PEFT have the peft_type %s, want a name of letters, digits and _", clip(kind))}}
	}
	return nil
}

var peftType = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// Needed marks the nodes that the given ones depend on, and these.
func Needed(nodes []*protocol.Node, roots ...uint32) []bool {
	need := make([]bool, len(nodes))
	for _, r := range roots {
		need[r] = true
	}
	for i, n := range slices.Backward(nodes) {
		if need[i] {
			for _, j := range n.GetInputs() {
				need[j] = true
			}
		}
	}
	return need
}
