package view

import (
	"fmt"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/peft"
)

// Export is a run as written for other tools.
type Export struct {
	Run        string // name
	Format     string // peft | merged
	Directory  string
	Checkpoint string // best | last
	Variant    string
	*spec.ExportReply
	Checked *peft.Checked // of an adapter for PEFT
}

// Export says what was written and how to load it.
func (v *View) Export(e Export) {
	v.Say("%s %s, %s weights, to %s", v.good.Render("exported"), e.Run, e.Checkpoint, v.bold.Render(e.Directory))
	for _, file := range e.Files {
		v.Say("  %s", file)
	}
	if e.Format == "peft" {
		v.checked(e)
		v.Say("\n%s", v.dim.Render("PeftModel.from_pretrained(backbone, DIRECTORY); head.safetensors is the head"))
		return
	}
	if e.DifferenceAt != "" {
		v.Say("\nWith the adapters folded in, the outputs differ by %.1e relative to them (%s the most),\nthose of the whole backbone by %.1e.",
			e.Difference, e.DifferenceAt, e.OutputDifference)
	}
	v.Say("\n%s", v.dim.Render("AutoModel.from_pretrained(DIRECTORY); head.safetensors is the head"))
}

// checked says what is known of an adapter for PEFT.
func (v *View) checked(e Export) {
	c := e.Checked
	switch {
	case c.Reader == "":
		v.Warn("the files were not read back: " + c.Reason)
	case c.Weak > 0:
		v.Warn(fmt.Sprintf("the files were read back, but at %s the adapter changes the outputs too little to compare them", count(c.Weak, "layer")))
	default:
		v.Say("\nRead back as variant %s, the files hold the adapter of the run.", c.Reader)
	}
	if !c.Compared {
		v.Warn(fmt.Sprintf("whether PEFT computes the same from them was never compared for variant %s: run `runner plugins test --peft %s`, or compare the tokens yourself", e.Variant, e.Variant))
	}
}

// ExportJSON is Export for programs.
func (v *View) ExportJSON(e Export) error {
	out := map[string]any{
		"run": e.Run, "format": e.Format, "directory": e.Directory, "checkpoint": e.Checkpoint, "files": e.Files,
	}
	if e.Format == "merged" {
		out["difference"], out["difference_at"], out["output_difference"] = e.Difference, e.DifferenceAt, e.OutputDifference
	}
	if e.Checked != nil {
		out["checked"] = e.Checked
	}
	return v.JSON(out)
}
