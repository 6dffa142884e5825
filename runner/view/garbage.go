package view

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/runner/archive"
	"github.com/loralab/loralab/runner/gc"
)

// Imported says that a run was taken in.
func (v *View) Imported(m *archive.Manifest) {
	state := "as far as it was trained"
	if m.Trained {
		state = "trained"
	}
	v.Say("imported %s (%s), %s", m.Name(), m.ID[:12], state)
}

// Archived says that a run was written to an archive.
func (v *View) Archived(m *archive.Manifest, path string) {
	var sum int64
	for _, f := range m.Files {
		sum += f.Size
	}
	v.Say("wrote %s: %s, %s of %s", path, m.Name(), count(len(m.Files), "file"), amountOfBytes(sum))
	if len(m.LeftOut) > 0 {
		v.Say("%s", v.dim.Render("kept back "+strings.Join(m.LeftOut, ", ")+", which is what was not committed; --with-patch takes it along"))
	}
}

// Garbage shows what can be removed, or what was.
func (v *View) Garbage(root string, items []gc.Item, removed bool) {
	if len(items) == 0 {
		v.Say("Nothing to remove.")
		return
	}
	t := table{columns: append(numbers("SIZE"), texts("WHAT", "WHY")...)}
	var sum int64
	for _, item := range items {
		sum += item.Bytes
		t.add(amountOfBytes(item.Bytes), item.Name, v.dim.Render(item.Why))
	}
	v.table(t)
	total := fmt.Sprintf("%s, %s", count(len(items), "item"), amountOfBytes(sum))
	if removed {
		v.Say("%s", v.bold.Render("Removed "+total+"."))
		return
	}
	v.Say("%s", v.bold.Render(total+".")+" Nothing was removed: the same command with --yes does.")
}

// amountOfBytes writes a size: "812 B", "1.4 MB".
func amountOfBytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n), ""
	for _, p := range []string{"k", "M", "G", "T"} {
		if value < unit {
			break
		}
		value, prefix = value/unit, p
	}
	return fmt.Sprintf("%.1f %sB", value, prefix)
}
