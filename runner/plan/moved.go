package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// moved says what made a run stale, in the words of experiment files: the
// images, the adapter's program, or the fields that moved, each from what to
// what.
func moved(changes []spec.Change) string {
	const most = 2
	var said []string
	known := slices.ContainsFunc(changes, ofVariant)
	for _, c := range changes {
		if known && ofProgram(c) {
			continue // follows from what was asked of the variant
		}
		name := field(c.Path)
		if slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, name+" moved ") }) {
			continue // of one program or list, one place is enough
		}
		said = append(said, fmt.Sprintf("%s moved from %s to %s", name, brief(c.From), brief(c.To)))
	}
	reason := strings.Join(said[:min(most, len(said))], ", ")
	if more := len(said) - most; more > 0 {
		reason += fmt.Sprintf(" and %d more", more)
	}
	return reason
}

func ofProgram(c spec.Change) bool { return field(c.Path) == "the adapter's program" }

func ofVariant(c spec.Change) bool {
	return c.Path == "adapter.variant" || strings.HasPrefix(c.Path, "adapter.params.") || strings.HasPrefix(c.Path, "variant ")
}

// asked is what moved an adapter's program, in what was asked of the variant:
// another variant, its parameters, or else its version. The request beside the
// run's results tells; without it the program alone has to.
func asked(root string, had *store.Run, run *experiment.Run) []spec.Change {
	request, err := had.Request(root)
	if err != nil {
		return nil
	}
	was, is := request.GetLabel(), run.Label
	if was.GetVariant() != is.GetVariant() {
		return []spec.Change{{Path: "adapter.variant", From: was.GetVariant(), To: is.GetVariant()}}
	}
	var changes []spec.Change
	before, now := paramsOf(was), paramsOf(is)
	names := map[string]bool{}
	for _, p := range []map[string]json.RawMessage{before, now} {
		for name := range p {
			names[name] = true
		}
	}
	text := func(v json.RawMessage) string {
		if v == nil {
			return "unset"
		}
		return strings.Trim(string(v), `"`)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if from, to := text(before[name]), text(now[name]); from != to {
			changes = append(changes, spec.Change{Path: "adapter.params." + name, From: from, To: to})
		}
	}
	if len(changes) == 0 && was.GetVariantVersion() != is.GetVariantVersion() {
		changes = []spec.Change{{Path: "variant " + is.GetVariant(), From: was.GetVariantVersion(), To: is.GetVariantVersion()}}
	}
	return changes
}

// paramsOf are the parameters of a variant, none if they cannot be read.
func paramsOf(l *spec.Label) map[string]json.RawMessage {
	var p map[string]json.RawMessage
	if json.Unmarshal([]byte(l.GetVariantParams()), &p) != nil {
		return nil
	}
	return p
}

// fields are the places of a specification that experiment files name
// otherwise, or not at all. The first that begins the path counts; what is not
// listed has the same name there.
var fields = []struct{ path, name string }{
	{"revision", "the engine's arithmetic"},
	{"seed", "the seed"},
	{"folds.count", "data.split.folds"},
	{"folds.fold", "the fold"},
	{"folds", "data.split.folds"},
	{"backbone.digest", "the backbone's weights"},
	{"backbone.arch", "the backbone's architecture"},
	{"backbone.freeze", "backbone.freeze"},
	{"adapter.placements", "the adapted layers"},
	{"adapter.programs", "the adapter's program"},
	{"adapter.start", "the adapter's starting values"},
	{"data.splits.train", "the training images"},
	{"data.splits.val", "the validation images"},
	{"data.splits", "the images"},
	{"data.values", "the values of the masks"},
	{"data.colours", "whether masks hold colors"},
	{"data.mean", "data.normalize.mean"},
	{"data.std", "data.normalize.std"},
	{"data.height", "data.size"},
	{"data.width", "data.size"},
	{"data.augment", "data.augment"},
	{"data.views", "data.views"},
	{"data.corruption", "the damage to images"},
	{"data.style", "the style of images"},
	{"loss", "loss"},
	{"backbone.drop_path", "backbone.dropPath"},
	{"backbone.without_norm", "backbone.finalNorm"},
	{"optim.lr_backbone", "optim.lr.backbone"},
	{"optim.lr_adapter", "optim.lr.adapter"},
	{"optim.lr_head", "optim.lr.head"},
	{"optim.weight_decay", "optim.weightDecay"},
	{"optim.decay_vectors", "optim.decayVectors"},
	{"optim.beta1", "optim.betas"},
	{"optim.beta2", "optim.betas"},
	{"optim.clip_norm", "optim.clip"},
	{"optim.rules", "optim.groups"},
	{"optim.schedule.warmup_steps", "optim.schedule.warmupSteps"},
	{"optim.forget_at_unfreezing", "optim.forgetAtUnfreezing"},
	{"train.max_steps", "train.maxSteps"},
	{"train.eval_every", "train.evalEvery"},
	{"train.eval_steps", "train.evalSteps"},
	{"train.min_delta", "train.minDelta"},
	{"train.resolution", "train.validate"},
	{"train.window", "train.validate"},
}

// field is a place of a specification as experiment files name it.
func field(path string) string {
	for _, f := range fields {
		if rest, ok := strings.CutPrefix(path, f.path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return f.name
		}
	}
	return path
}

// brief is a value in a reason. A digest says nothing to people, so it is cut
// short.
func brief(value string) string {
	const most = 24
	if len(value) == 64 && strings.Trim(value, "0123456789abcdef") == "" {
		return value[:8]
	}
	if r := []rune(value); len(r) > most {
		return string(r[:most]) + "…"
	}
	return value
}
