package metric_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
)

// Splits that are pooled score as if they had been counted as one.
func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := metric.NewCounts(classes)
		var parts []*spec.Metrics
		images := 0
		for range rapid.IntRange(1, 5).Draw(t, "folds") {
			c := metric.NewCounts(classes)
			n := rapid.IntRange(1, 9).Draw(t, "images")
			c.Add(pixels(t, len(classes)))
			parts = append(parts, c.Metrics(0.5, n))
			all.Merge(c)
			images += n
		}
		got, want := metric.Pool(parts), all.Metrics(math.NaN(), images)
		if _, ok := metric.Value(got, "loss"); ok {
			t.Fatal("a pooled score has a loss")
		}
		got.Loss, want.Loss = 0, 0
		if !proto.Equal(got, want) {
			t.Fatalf("pooled %v, want %v", got, want)
		}
	})
	two := metric.NewCounts([]string{"a", "b"}).Metrics(0, 1)
	three := metric.NewCounts(classes).Metrics(0, 1)
	if metric.Pool([]*spec.Metrics{two, three}) != nil {
		t.Error("splits of other classes are pooled")
	}
}
