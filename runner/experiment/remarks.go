package experiment

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/runner/diagnostic"
)

// unused names what lies in the folder of a source and is not used.
func (r *resolver) unused(root string, d *dataConfig) []string {
	key := d.sourceKey(root)
	layout := r.layout(key)
	if layout == nil {
		return nil
	}
	notes, _ := r.left.get(r.ctx, key, func() ([]string, error) {
		dir, err := findData(key.root, key.source)
		if err != nil {
			return nil, err
		}
		return layout.Unused(dir), nil
	})
	return notes
}

// remarks are about the images and masks of a part that can be used.
func (r *resolver) remarks(root string, d *dataConfig, wanted []string, role string) (several, dark string) {
	s, err := r.split(root, d, wanted, role)
	if err != nil || d.Source == procedural {
		return "", ""
	}
	read := r.training(root, d).data()
	list, _ := r.remarked.get(r.ctx, s.readKey(read), func() ([2]string, error) {
		several, dark := data.Remarks(r.ctx, r.index, s.files, read)
		return [2]string{several, dark}, r.ctx.Err()
	})
	return list[0], list[1]
}

// checkRemarks warns of what is not used of a source, and of what may not be
// meant in the images and masks of its parts.
func (x *expansion) checkRemarks(c *subject, path []string, d *dataConfig, wanted []string) {
	warn := func(message, hint string) {
		found := diagnostic.Diagnostic{
			Path: x.name + "." + strings.Join(path, "."), Warning: true, Message: message, Hint: hint, Cells: x.cellOf(c), Of: x.total,
		}
		x.report(x.mark(found, x.placeIn(c, path)))
	}
	if notes := x.resolve.unused(x.root, d); len(notes) > 0 {
		warn(fmt.Sprintf("not used of %q: %s", d.Source, strings.Join(notes, "; ")), "runner help data says how a data set is laid out")
	}
	if !x.resolve.check {
		return
	}
	for i, role := range wanted {
		several, dark := x.resolve.remarks(x.root, d, wanted, role)
		if several != "" {
			warn(fmt.Sprintf("of %q, %s: %s", d.Source, role, several), "save the picture that is meant as a file of its own")
		}
		if dark != "" && i == 0 { // the other parts come from the same camera
			warn(fmt.Sprintf("of %q, %s: %s", d.Source, role, dark), "")
		}
	}
}
