package train

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rundir"
)

// moves is whether the tensors of the adapter get anywhere: one that never has a
// gradient trains nothing, and no number shows it.
type moves rundir.Moves

// lookAt is after how many updates a tensor without a gradient is reported. Factors
// that start at 0 keep the gradients of others at 0 for an update or two, rates
// that warm up from 0 for some more.
const lookAt = 20

// newMoves is of a training that begins. It is called on the device's thread.
func newMoves(adapters []named) *moves {
	m := &moves{Start: make(map[string]string, len(adapters))}
	for _, p := range adapters {
		m.Start[p.name] = sumOf(p.t)
		m.Still = append(m.Still, p.name)
	}
	return m
}

func sumOf(t *torch.Tensor) string {
	sum := sha256.Sum256(t.Bytes())
	return hex.EncodeToString(sum[:])
}

// of lists the tensors that had no gradient yet, and whether all of them take one.
func (m *moves) of(adapters []named, trains func(name string) bool) (names []string, still []*torch.Tensor, all bool) {
	all = true
	for _, p := range adapters {
		if slices.Contains(m.Still, p.name) {
			names, still = append(names, p.name), append(still, p.t)
			all = all && trains(p.name)
		}
	}
	return names, still, all
}

// seen takes the largest gradients of tensors that an update had; all is whether every
// one takes a gradient. It returns a warning, once, or "".
func (m *moves) seen(names []string, largest []float64, all bool) string {
	if len(m.Still) == 0 {
		return ""
	}
	had := map[string]bool{}
	for i, v := range largest {
		had[names[i]] = v > 0
	}
	m.Still = slices.DeleteFunc(m.Still, func(name string) bool { return had[name] })
	if !all {
		return ""
	}
	m.Updates++
	switch {
	case m.Updates != lookAt || len(m.Still) == 0:
		return ""
	case len(m.Still) == len(m.Start):
		return fmt.Sprintf("the adapter does not train: none of its %d tensors had a gradient other than 0 in the first %d updates", len(m.Start), lookAt)
	}
	return fmt.Sprintf("%d of %d tensors of the adapter had no gradient other than 0 in the first %d updates: %s", len(m.Still), len(m.Start), lookAt, listed(m.Still))
}

// unmoved are the tensors that had no gradient or are what they were at the start.
func (m *moves) unmoved(adapters []named) []string {
	var list []string
	for _, p := range adapters {
		if slices.Contains(m.Still, p.name) || m.Start[p.name] == sumOf(p.t) {
			list = append(list, strings.TrimPrefix(p.name, "adapter."))
		}
	}
	return list
}

// listed names some, and counts the rest.
func listed(names []string) string {
	const most = 4
	text := strings.Join(names[:min(most, len(names))], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
