package view

import (
	"fmt"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
)

// Ensemble shows a score of an ensemble as soon as it is there.
func (v *View) Ensemble(name string, members int, metricName string, classes []string, e *spec.Evaluated) {
	text := fmt.Sprintf("%s of %s  evaluated on %s", name, count(members, "run"), e.GetDomain())
	if value, ok := metric.Value(metric.Named(e.GetMetrics(), classes), metricName); ok {
		text += fmt.Sprintf(": %s %s", metricName, score(value))
	}
	printLine(v.out, clip(text, v.width))
}
