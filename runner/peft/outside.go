package peft

import (
	"fmt"
	"slices"
	"strings"
)

// What a file holds apart from the adapters of the backbone. A model with a task
// keeps the backbone under its name, "vit.", and a classifier or a decoder next
// to it; the backbone itself ends in a pooler that no segmentation reads. Tokens
// depend on neither, and of a backbone's own file the same tensors are passed
// over. Everything else changes the tokens.

const pooler = "pooler."

// outside reports whether no token depends on a tensor of the file.
func (d *directory) outside(name string) bool {
	inside, is := strings.CutPrefix(strings.TrimPrefix(name, peftPrefix), d.prefix)
	return !is && strings.HasPrefix(name, peftPrefix) || strings.HasPrefix(inside, pooler)
}

// passedOver are the modules of the tensors outside.
func (d *directory) passedOver() []string {
	var names []string
	for _, key := range d.tensors.Names() {
		if d.outside(key) {
			names = append(names, d.moduleOf(strings.TrimPrefix(key, peftPrefix)))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// moduleOf is the module that a tensor belongs to: what the settings select, or
// all but the last part of its name.
func (d *directory) moduleOf(tensor string) string {
	for i, c := range tensor {
		if c != '.' {
			continue
		}
		name := tensor[:i]
		chosen, _ := d.chosen.Target.match(name) // a wrong expression is reported elsewhere
		if chosen || d.chosen.saves(name) {
			return name
		}
	}
	if i := strings.LastIndexByte(tensor, '.'); i > 0 {
		return tensor[:i]
	}
	return tensor
}

// trained refuses modules of the backbone that PEFT has saved whole: their
// weights are part of what was trained, and belong to no adapter.
func (d *directory) trained() error {
	var names []string
	for _, key := range d.tensors.Names() {
		name := strings.TrimPrefix(key, peftPrefix)
		if m := d.moduleOf(name); !d.outside(key) && d.chosen.saves(m) {
			names = append(names, strings.TrimPrefix(m, d.prefix))
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("modules_to_save: %s: these modules of the backbone were trained with the adapter, and their weights cannot be read from here; "+
		"in PEFT, model.merge_and_unload() and save_pretrained write a backbone that has them and the adapter",
		strings.Join(slices.Compact(names), ", "))
}
