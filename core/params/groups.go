package params

import (
	"fmt"
	"slices"
	"strings"
)

// Group is tensors that are trained alike, or not at all.
type Group struct {
	// Pattern names them: "adapter.blocks.{8..11}.{query,value}.lora_A".
	Pattern    string  `json:"pattern"`
	Part       string  `json:"part"`
	Tensors    int     `json:"tensors"`
	Parameters int64   `json:"parameters"`
	LR         float64 `json:"lr"`
	Decay      float64 `json:"weight_decay"`
	Until      uint32  `json:"from_epoch,omitempty"` // trained from this epoch on, counted from 0
	Frozen     bool    `json:"frozen"`
}

// Groups puts every tensor into exactly one group, in the order of the parts.
// The backbone is divided into embeddings, blocks and final norm only where
// these differ, adapters by the name of their parameters.
func Groups(tensors []Tensor) []Group {
	type key struct {
		part, what string
		trains     bool
		lr, decay  float64
		until      uint32
	}
	whole := uniform(tensors, Backbone)
	members := map[key][]*Tensor{}
	var order []key
	for i := range tensors {
		t := &tensors[i]
		k := key{t.Part, "*", t.Trains, t.LR, t.Decay, t.Until}
		switch {
		case t.Part == Adapter:
			k.what = t.rest
		case t.Part == Backbone && !whole:
			k.what = component(t)
		}
		if members[k] == nil {
			order = append(order, k)
		}
		members[k] = append(members[k], t)
	}
	var groups []Group
	for _, k := range order {
		g := Group{
			Pattern: pattern(k.part, k.what, members[k]), Part: k.part, Tensors: len(members[k]),
			LR: k.lr, Decay: k.decay, Until: k.until, Frozen: !k.trains,
		}
		if k.trains && k.decay == 0 && allVectors(members[k]) {
			g.Pattern += " (vectors)" // apart from the matrices of the same names
		}
		for _, t := range members[k] {
			g.Parameters += t.Elements()
		}
		groups = append(groups, g)
	}
	return groups
}

func allVectors(members []*Tensor) bool {
	return !slices.ContainsFunc(members, func(t *Tensor) bool { return !t.vector() })
}

// uniform reports whether all tensors of a part are trained alike, but for the
// decay of vectors.
func uniform(tensors []Tensor, part string) bool {
	var first *Tensor
	for i := range tensors {
		t := &tensors[i]
		switch {
		case t.Part != part:
		case first == nil:
			first = t
		case t.Trains != first.Trains || t.LR != first.LR || t.Until != first.Until:
			return false
		}
	}
	return true
}

// component is the piece of the backbone that a tensor is in.
func component(t *Tensor) string {
	if t.block >= 0 {
		return "block"
	}
	first, _, _ := strings.Cut(t.rest, ".")
	return first
}

// pattern is the names of a group with what differs in braces.
func pattern(part, what string, members []*Tensor) string {
	var blocks []int
	var sites []string
	for _, t := range members {
		if t.block >= 0 && !slices.Contains(blocks, t.block) {
			blocks = append(blocks, t.block)
		}
		if t.site != "" && !slices.Contains(sites, t.site) {
			sites = append(sites, t.site)
		}
	}
	slices.Sort(blocks)
	switch {
	case part == Backbone && what == "block":
		one := fmt.Sprintf("%d.%s", members[0].block, members[0].rest)
		return strings.TrimSuffix(members[0].Name, one) + numbers(blocks) + ".*"
	case part == Backbone && what != "*":
		return "backbone." + what + ".*"
	case part != Adapter:
		return part + ".*"
	}
	at := []string{"adapter"}
	if len(blocks) > 0 {
		at = append(at, "blocks", numbers(blocks))
	}
	if len(sites) > 0 {
		at = append(at, braces(sites))
	}
	return strings.Join(append(at, what), ".")
}

// numbers writes 8, {8..11} or {0,5,8..11}.
func numbers(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			parts = append(parts, fmt.Sprintf("%d..%d", list[i], list[j]))
		case j == i+1:
			parts = append(parts, fmt.Sprint(list[i]), fmt.Sprint(list[j]))
		default:
			parts = append(parts, fmt.Sprint(list[i]))
		}
		i = j + 1
	}
	if len(list) == 1 {
		return parts[0]
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func braces(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "{" + strings.Join(list, ",") + "}"
}
