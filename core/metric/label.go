package metric

import "strings"

// Label is what a metric is called in a sentence and on an axis: "Dice (nucleus)" for
// dice/nucleus, "mean IoU" for iou/mean.
func Label(name string) string {
	kind, of, _ := strings.Cut(name, "/")
	if kind == "original" { // soft, weighted, by batches
		return "original " + Label(of)
	}
	kind = inWords(kind)
	switch {
	case of == "" && kind == "accuracy":
		return "pixel accuracy"
	case of == "":
		return kind
	case of == "mean":
		return "mean " + kind
	default:
		return kind + " (" + of + ")"
	}
}

// Short is Label for the head of a column: without the class or the mean, which a note
// next to the table has.
func Short(name string) string {
	kind, of, _ := strings.Cut(name, "/")
	if kind == "original" {
		return "original " + Short(of)
	}
	return inWords(kind)
}

func inWords(kind string) string {
	if label, ok := map[string]string{"dice": "Dice", "iou": "IoU", "boundary": "boundary IoU", "ece": "calibration error", "nll": "negative log-likelihood", "brier": "Brier score"}[kind]; ok {
		return label
	}
	return kind
}
