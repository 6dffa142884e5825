package experiment

import (
	"bytes"
	"encoding/json"
)

// A tree is a JSON value whose objects keep the order of their members. Trees
// are never changed: with copies what leads to the new value.
type tree struct {
	names   []string // of an object
	members map[string]*tree
	leaf    json.RawMessage // of anything else
}

func parseTree(text []byte) (*tree, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' {
		return &tree{leaf: text}, nil
	}
	t := &tree{members: map[string]*tree{}}
	err := eachMember(text, func(name string, value json.RawMessage) error {
		m, err := parseTree(value)
		t.names, t.members[name] = append(t.names, name), m
		return err
	})
	return t, err
}

// at finds a member; nil if there is none.
func (t *tree) at(path []string) *tree {
	for _, p := range path {
		if t == nil {
			return nil
		}
		t = t.members[label(p)]
	}
	return t
}

// with is the tree with another value at a path.
func (t *tree) with(path []string, value *tree) *tree {
	if len(path) == 0 {
		return value
	}
	name := label(path[0])
	c := &tree{members: map[string]*tree{}}
	if t != nil && t.members != nil {
		c.names = append(c.names, t.names...)
		for n, m := range t.members {
			c.members[n] = m
		}
	}
	if c.members[name] == nil {
		c.names = append(c.names, name)
	}
	c.members[name] = c.members[name].with(path[1:], value)
	return c
}

// without is the tree without what stands at a path.
func (t *tree) without(path []string) *tree {
	name := label(path[0])
	if t == nil || t.members[name] == nil {
		return t
	}
	if len(path) > 1 {
		return t.with(path[:1], t.members[name].without(path[1:]))
	}
	c := &tree{members: map[string]*tree{}}
	for _, n := range t.names {
		if n != name {
			c.names, c.members[n] = append(c.names, n), t.members[n]
		}
	}
	return c
}

// MarshalJSON writes the members in their order.
func (t *tree) MarshalJSON() ([]byte, error) { return t.append(nil), nil }

func (t *tree) append(b []byte) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	if t.members == nil {
		return append(b, t.leaf...)
	}
	b = append(b, '{')
	for i, name := range t.names {
		if i > 0 {
			b = append(b, ',')
		}
		quoted, _ := json.Marshal(name) // of a text it cannot fail
		b = append(append(b, quoted...), ':')
		b = t.members[name].append(b)
	}
	return append(b, '}')
}
