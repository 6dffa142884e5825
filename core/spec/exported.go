package spec

// The files of an exported directory besides PEFT's and the backbone's. Other
// tools pass them over.
const (
	ExportedFile        = "loralab.json"        // Exported, written last
	ExportedHeadFile    = "head.safetensors"    // named as in checkpoints, without "head."
	ExportedAdapterFile = "adapter.safetensors" // so, without "adapter."
	ExportedProgramFile = "program.json"        // Adapter
	ExportedWeightFile  = "model.safetensors"   // of a merged backbone
)

// The formats of an export.
const (
	ExportedPEFT   = "peft"
	ExportedMerged = "merged"
)
