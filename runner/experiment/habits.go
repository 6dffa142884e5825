package experiment

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/loralab/loralab/schema"
)

// Forms and names of other languages, which users of YAML and Python write.

// habits are forms of other languages that CUE refuses, as lines that have them before
// or after the place that CUE names.
var habits = []struct {
	line          *regexp.Regexp
	message, hint string // with what the line matches
}{
	{regexp.MustCompile(`^\s*#\s`), "a comment begins with //", ""},
	{regexp.MustCompile(`^\s*((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)\s*:\s*(.*)$`), "$1 is a path, and a field has one name", "write $.1: $2; below vary, zip and ablate the path is in quotes"},
	{regexp.MustCompile(`^\s*(vary|zip|ablate):\s*((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)\s*:\s*(.*)$`), "the path of $1 is a name in quotes", "write $1: \"$2\": $3"},
	{regexp.MustCompile(`^\s*import\s+([A-Za-z_][\w./-]*)\s*$`), "the path of an import is in quotes", "write import \"$1\""},
	{regexp.MustCompile(`;\s*\}?\s*$|;\s*\w+\s*:`), "fields are separated by commas or lines, not by ;", ""},
	{regexp.MustCompile(`[{,]\s*([A-Za-z_]\w*)\s*=\s*[^=~]`), "a field takes its value after a colon", "write $1: …"},
	{regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*=\s*[^=~]`), "a field takes its value after a colon", "write $1: …"},
	{regexp.MustCompile(`:\s*(?:"[^"]*"|[\w.+-]+|\])\s+[A-Za-z_]\w*\s*:\s`), "two fields in one line have a comma between them", ""},
	{regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*\{`), "a field has a colon before its value", "write $1: {"},
}

// habit is what is meant by a line that CUE cannot read; "" if that cannot be told.
func habit(line string) (message, hint string) {
	code, _, _ := strings.Cut(line, "//")
	if strings.HasPrefix(strings.TrimSpace(line), "//") || strings.Count(code, `"""`) > 0 {
		return "", ""
	}
	for _, h := range habits {
		m := h.line.FindStringSubmatch(code)
		if m == nil {
			continue
		}
		fill := func(text string) string {
			for i := 1; i < len(m); i++ {
				text = strings.ReplaceAll(text, fmt.Sprintf("$.%d", i), strings.ReplaceAll(m[i], ".", ": "))
				text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i), strings.TrimSpace(m[i]))
			}
			return text
		}
		return fill(h.message), fill(h.hint)
	}
	return "", ""
}

// meant is the hint for a name that is one of another language, or of a package that is
// not imported.
func (d *document) meant(name string) string {
	switch name {
	case "True", "yes", "on":
		return "write true"
	case "False", "no", "off":
		return "write false"
	case "None", "nil", "NULL":
		return "leave the field out"
	case "range":
		return "write the list, [0, 1, 2], or import \"list\" and write list.Range(0, 3, 1)"
	case "schema":
		return fmt.Sprintf("write import %q below the package clause", schema.ImportPath)
	}
	if slices.Contains(builtins, name) {
		return fmt.Sprintf("write import %q below the package clause", name)
	}
	for _, path := range d.packages() {
		if path[strings.LastIndex(path, "/")+1:] == name {
			return fmt.Sprintf("write import %q below the package clause", path)
		}
	}
	return ""
}

// otherNames are names that other programs have for fields.
var otherNames = map[string]string{
	"batch_size":                  "train.batch",
	"batchSize":                   "train.batch",
	"per_device_train_batch_size": "train.batch",
	"num_epochs":                  "train.epochs",
	"num_train_epochs":            "train.epochs",
	"max_epochs":                  "train.epochs",
	"gradient_accumulation_steps": "train.accumulate",
	"accumulate_grad_batches":     "train.accumulate",
	"early_stopping_patience":     "train.patience",
	"learning_rate":               "optim.lr",
	"learningRate":                "optim.lr",
	"optimizer":                   "optim.kind",
	"scheduler":                   "optim.schedule.kind",
	"lr_scheduler":                "optim.schedule.kind",
	"lr_scheduler_type":           "optim.schedule.kind",
	"warmup_ratio":                "optim.schedule.warmup",
	"warmup_steps":                "optim.schedule.warmup",
	"max_grad_norm":               "optim.clip",
	"gradient_clip_val":           "optim.clip",
	"target_modules":              "adapter.targets",
	"peft_type":                   "adapter.variant",
	"r":                           "adapter.params.rank",
	"lora_alpha":                  "adapter.params.alpha",
	"lora_dropout":                "adapter.params.dropout",
	"model_name":                  "backbone.model",
	"encoder":                     "backbone.model",
	"dataset":                     "data.source",
	"image_size":                  "data.size",
	"img_size":                    "data.size",
	"num_classes":                 "data.classes",
	"seed":                        "seeds",
	"walltime":                    "resources.time",
	"timeout_min":                 "resources.time",
	"queue":                       "resources.partition",
	"slurm_partition":             "resources.partition",
	"slurm_account":               "resources.account",
	"gres":                        "resources.gpus",
	"gpus_per_node":               "resources.gpus",
	"mem":                         "resources.memory",
	"mem_gb":                      "resources.memory",
	"cpus_per_task":               "resources.cpus",
	"slurm_array_parallelism":     "resources.parallel",
	"slurm_setup":                 "resources.setup",
}

// otherWords are the words that other programs have for values of a field.
var otherWords = map[string]map[string]string{
	"precision": {
		"fp16": noHalf, "float16": noHalf, "half": noHalf, "16": noHalf, "16-mixed": noHalf,
		"bfloat16": `write "bf16"`, "bf16-mixed": `write "bf16"`,
		"float32": `write "fp32"`, "single": `write "fp32"`, "full": `write "fp32"`, "32": `write "fp32"`,
		"float64": `write "fp32"`, "fp64": `write "fp32"`, "double": `write "fp32"`,
	},
	"targets": {
		"q": isQuery, "q_proj": isQuery, "k": isKey, "k_proj": isKey, "v": isValue, "v_proj": isValue,
		"qkv": `the three are "query", "key", "value"`,
		"o":   isOutput, "o_proj": isOutput, "out_proj": isOutput, "proj": isOutput, "dense": isOutput,
		"mlp": `its layers are "fc1", "fc2"`, "all-linear": `all linear layers are "query", "key", "value", "output", "fc1", "fc2"`,
	},
}

const (
	noHalf   = `there is no fp16: write "bf16", which has the same size and needs no loss scaling`
	isQuery  = `the projection of the queries is "query"`
	isKey    = `the projection of the keys is "key"`
	isValue  = `the projection of the values is "value"`
	isOutput = `the projection of the output is "output"`
)

// otherWord is the hint for the first word of another program in a value at a path; "" if
// it has none.
func otherWord(path []string, given string) string {
	if len(path) == 0 {
		return ""
	}
	words := otherWords[label(path[len(path)-1])]
	for _, word := range quoted.FindAllStringSubmatch(given, -1) {
		if hint := words[strings.ToLower(word[1])]; hint != "" {
			return hint
		}
	}
	return words[given] // a number
}

// builtins are packages of CUE.
var builtins = []string{"list", "math", "regexp", "strconv", "strings", "struct", "text/template", "time"}
