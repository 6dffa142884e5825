package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// words are the paths of an experiment as a reader says them: on axes and in
// headings.
var words = map[string]string{
	"preset":         "preset",
	"adapter":        "adapter",
	"adapter.blocks": "blocks with adapters", "adapter.targets": "layers with adapters", "adapter.variant": "variant of the adapter",
	"adapter.from": "start of the adapter", "backbone": "backbone", "backbone.model": "backbone", "backbone.depth": "blocks of the backbone",
	"backbone.dropPath": "drop path of the last block", "backbone.freeze": "freezing of the backbone", "backbone.freeze.blocks": "frozen blocks", "backbone.freeze.until": "epochs with a frozen backbone",
	"data.fraction": "fraction of the data", "data.size": "size of images in pixels", "data.source": "data", "data.augment": "augmentations",
	"data.limit.train": "training images", "data.limit.val": "validation images", "data.limit.test": "test images",
	"data.procedural.train": "training images", "data.procedural.val": "validation images", "data.procedural.test": "test images",
	"data.split.seed": "seed of the split", "data.split.train": "fraction for training", "data.split.val": "fraction for validation", "data.split.test": "fraction for testing",
	"head": "head", "head.hidden": "hidden channels of the head", "head.norm": "normalization in the head", "head.taps": "blocks that the head reads",
	"head.layers": "layers of the head", "head.heads": "attention heads of the head", "head.width": "channels of the head", "head.stages": "stages of the head",
	"loss": "loss", "loss.crossEntropy": "weight of cross-entropy", "loss.dice": "weight of the Dice loss", "loss.logCoshDice": "weight of the log-cosh Dice loss",
	"loss.focal": "weight of the focal loss", "loss.lovasz": "weight of the Lovász loss", "loss.smoothing": "label smoothing", "loss.gamma": "gamma of the focal loss",
	"loss.classWeights": "weights of classes",
	"optim":             "optimizer", "optim.kind": "optimizer", "optim.lr": "learning rates", "optim.groups": "parameter groups", "optim.weightDecay": "weight decay", "optim.decayVectors": "weight decay of vectors",
	"optim.momentum": "momentum", "optim.nesterov": "Nesterov momentum", "optim.betas": "betas", "optim.eps": "epsilon of the optimizer", "optim.clip": "largest norm of gradients",
	"optim.forgetAtUnfreezing": "forgetting the optimizer's state when the backbone thaws",
	"optim.schedule":           "learning rate schedule", "optim.schedule.kind": "learning rate schedule", "optim.schedule.warmup": "fraction of warmup", "optim.schedule.warmupSteps": "steps of warmup", "optim.schedule.floor": "last fraction of the learning rate",
	"optim.schedule.milestones": "milestones of the schedule",
	"train.epochs":              "epochs", "train.batch": "images in a batch", "train.accumulate": "batches in a step", "train.precision": "precision", "train.deterministic": "deterministic",
	"train.steps": "steps", "train.maxSteps": "largest number of steps", "train.monitor": "metric of the best checkpoint", "train.ema": "decay of averaged weights",
	"train.evalEvery": "epochs between validations", "train.evalSteps": "steps between validations", "train.patience": "patience in validations", "train.minDelta": "least improvement",
}

// wordsOf is a path in words: "learning rate of the adapter" for
// "optim.lr.adapter".
func wordsOf(path string) string {
	if w, ok := words[path]; ok {
		return w
	}
	parts := strings.Split(path, ".")
	last := spaced(parts[len(parts)-1])
	switch {
	case len(parts) == 3 && parts[0] == "optim" && parts[1] == "lr":
		return "learning rate of the " + last
	case len(parts) == 3 && parts[0] == "adapter" && parts[1] == "params":
		return last + " of the adapter"
	case len(parts) == 1:
		return last
	}
	return last + " of the " + spaced(parts[len(parts)-2])
}

// spaced takes camel case and underscores apart: "weight decay".
func spaced(name string) string {
	var b strings.Builder
	lower := false
	for _, r := range strings.Trim(name, `"`) {
		switch {
		case r == '_':
			b.WriteByte(' ')
		case unicode.IsUpper(r) && lower:
			b.WriteByte(' ')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
		lower = unicode.IsLower(r)
	}
	return b.String()
}

// inWords is several paths in words, "rank / alpha of the adapter" or "learning rate
// of the adapter / head": what all share is said once.
func inWords(paths []string) string {
	list := make([]string, len(paths))
	begins, ends := make([]string, len(paths)), make([]string, len(paths))
	for i, p := range paths {
		list[i] = wordsOf(p)
		begins[i], ends[i], _ = strings.Cut(list[i], " of the ")
	}
	same := func(parts []string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return p == "" || p != parts[0] })
	}
	switch {
	case len(list) < 2:
	case same(ends):
		return strings.Join(begins, " / ") + " of the " + ends[0]
	case same(begins) && !slices.Contains(ends, ""):
		return begins[0] + " of the " + strings.Join(ends, " / ")
	}
	return strings.Join(list, " / ")
}

// valueText is a value as experiments write it, without the quotes of a text.
func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// bounded reports whether the metric lies in 0…1.
func bounded(name string) bool { return name != "loss" && name != "nll" && name != "brier" }

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
