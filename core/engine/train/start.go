package train

import (
	"fmt"
	"os"
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/safetensors"
)

// start gives the parameters the values of the specification's file instead of
// those of their initialisers, and the head too if the file has it. The file
// has to hold the stored parameters of the adapters, no more and no less, named
// as in adapter.safetensors, and those of the head as in head.safetensors.
func (s *session) start() error {
	want := s.spec.Adapter.GetStart()
	if want == "" {
		return nil
	}
	path := s.req.Places.Start
	// What is hashed is what is used: the file may change in between.
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading starting values: %w", err)
	}
	f, err := safetensors.Parse(content)
	if err != nil {
		return fmt.Errorf("reading starting values %s: %w", path, err)
	}
	if sum := f.Sum(); sum != want {
		return fmt.Errorf("the starting values %s are not those of the plan: SHA-256 %s, planned %s", path, sum, want)
	}
	err = s.t.dev.Do(func() error {
		if err := s.net.assign(f); err != nil {
			return err
		}
		s.average.restart()
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading starting values %s: %w", path, err)
	}
	return nil
}

// assign sets adapters and, if f has it, the head.
func (n *network) assign(f *safetensors.File) error {
	state := map[string]*torch.Tensor{}
	var want, head, all, adapters, heads []safetensors.Tensor
	for _, p := range slices.Concat(n.head.Params(), n.head.Buffers()) {
		state[p.Name] = p.T
		head = append(head, safetensors.Tensor{Name: p.Name, Shape: p.T.Shape()})
	}
	for _, p := range n.adapters.Stored() {
		want = append(want, safetensors.Tensor{Name: p.Name, Shape: p.T.Shape()})
	}
	for _, name := range f.Names() {
		t, _ := f.Get(name)
		all = append(all, t)
		if state[name] != nil {
			heads = append(heads, t)
		} else {
			adapters = append(adapters, t)
		}
	}
	if len(heads) > 0 {
		want = append(want, head...)
	}
	if err := safetensors.Match(want, all); err != nil {
		return err
	}
	if err := n.adapters.Assign(adapters); err != nil {
		return err
	}
	for _, t := range heads {
		values, err := t.Float32()
		if err != nil {
			return err
		}
		n.dev.Scope(func() { state[t.Name].Assign(torch.Of(n.dev, values, t.Shape...)) })
	}
	return nil
}
