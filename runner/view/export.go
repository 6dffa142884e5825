package view

import (
	"github.com/loralab/loralab/core/spec"
)

// Export is a run as written for other tools.
type Export struct {
	Run        string // name
	Format     string // peft | merged
	Directory  string
	Checkpoint string // best | last
	*spec.ExportReply
}

// Export says what was written and how to load it.
func (v *View) Export(e Export) {
	v.Say("%s %s, %s weights, to %s", v.good.Render("exported"), e.Run, e.Checkpoint, v.bold.Render(e.Directory))
	for _, file := range e.Files {
		v.Say("  %s", file)
	}
	if e.Format == "peft" {
		v.Say("\n%s", v.dim.Render("PeftModel.from_pretrained(backbone, DIRECTORY); head.safetensors is the head"))
		return
	}
	if e.DifferenceAt != "" {
		v.Say("\nWith the adapters folded in, the outputs differ by %.1e relative to them (%s the most),\nthose of the whole backbone by %.1e.",
			e.Difference, e.DifferenceAt, e.OutputDifference)
	}
	v.Say("\n%s", v.dim.Render("AutoModel.from_pretrained(DIRECTORY); head.safetensors is the head"))
}

// ExportJSON is Export for programs.
func (v *View) ExportJSON(e Export) error {
	out := map[string]any{
		"run": e.Run, "format": e.Format, "directory": e.Directory, "checkpoint": e.Checkpoint, "files": e.Files,
	}
	if e.Format == "merged" {
		out["difference"], out["difference_at"], out["output_difference"] = e.Difference, e.DifferenceAt, e.OutputDifference
	}
	return v.JSON(out)
}
