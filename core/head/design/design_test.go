package design_test

import (
	"errors"
	"fmt"
	"go/token"
	"go/types"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/spec"
)

func TestBadHeadsAreRefused(t *testing.T) {
	for _, c := range []struct {
		cfg          *spec.Head
		dim, classes int
		setting      string
		want         string
	}{
		{&spec.Head{Kind: "upernet"}, 24, 3, "kind", `"upernet" is not one of ["conv" "linear"`},
		{nil, 24, 3, "kind", "is not one of"},
		{&spec.Head{Kind: "conv"}, 24, 1, "", "at least 2 classes"},
		{&spec.Head{Kind: "conv"}, 1, 3, "hidden", "no channel"},
		{&spec.Head{Kind: "conv", Dropout: 1}, 24, 3, "dropout", "not in [0, 1)"},
		{&spec.Head{Kind: "conv", Dropout: math.NaN()}, 24, 3, "dropout", "not in [0, 1)"},
		{&spec.Head{Kind: "segmenter", Norm: true}, 24, 3, "norm", `head "segmenter" does not take it`},
		{&spec.Head{Kind: "segmenter", Layers: 2, Hidden: 8}, 24, 3, "hidden", `head "segmenter" does not take it`},
		{&spec.Head{Kind: "segmenter"}, 24, 3, "layers", "at least one"},
		{&spec.Head{Kind: "segmenter", Layers: 1, Heads: 5}, 24, 3, "heads", "5 heads cannot share a width of 24"},
		{&spec.Head{Kind: "segmenter", Layers: 1, Heads: 8, Width: 4}, 24, 3, "heads", "8 heads cannot share a width of 4"},
		{&spec.Head{Kind: "setr_pup"}, 24, 3, "stages", "at least one"},
	} {
		_, err := design.Of(c.cfg, c.dim, c.classes)
		var e *design.Error
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &e) != (c.setting != "") || e != nil && e.Setting != c.setting {
			t.Errorf("%v: got %v, want an error of %q with %q", c.cfg, err, c.setting, c.want)
		}
	}
}

// A setting left out means the width that the documentation names.
func TestDefaultsFollowTheBackbone(t *testing.T) {
	for _, c := range []struct {
		cfg, want *spec.Head
		dim       int
	}{
		{&spec.Head{Kind: "conv"}, &spec.Head{Kind: "conv", Hidden: 384}, 768},
		{&spec.Head{Kind: "linear"}, &spec.Head{Kind: "linear"}, 768},
		{&spec.Head{Kind: "segmenter", Layers: 2}, &spec.Head{Kind: "segmenter", Layers: 2, Width: 384, Heads: 6}, 384},
		{&spec.Head{Kind: "segmenter", Layers: 2}, &spec.Head{Kind: "segmenter", Layers: 2, Width: 24, Heads: 1}, 24},
		// Three heads of 64 do not share 224.
		{&spec.Head{Kind: "segmenter", Layers: 2, Width: 224}, &spec.Head{Kind: "segmenter", Layers: 2, Width: 224, Heads: 2}, 384},
		{&spec.Head{Kind: "setr_pup", Stages: 2}, &spec.Head{Kind: "setr_pup", Stages: 2, Hidden: 192}, 384},
	} {
		if got := design.Settle(c.cfg, c.dim); !proto.Equal(got, c.want) {
			t.Errorf("%v of %d dimensions: got %v, want %v", c.cfg, c.dim, got, c.want)
		}
	}
}

// Formulas and figures of docs/heads.md are those of the heads.
func TestTheDocumentationCountsRight(t *testing.T) {
	text, err := os.ReadFile("../../../docs/heads.md")
	if err != nil {
		t.Fatal(err)
	}
	const dim, classes = 768, 3
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(kind: .*)` \\| (.*) \\| ([0-9,]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		cfg := &spec.Head{}
		if err := prototext.Unmarshal([]byte(row[1]), cfg); err != nil {
			t.Fatal(err)
		}
		tensors, err := design.Of(cfg, dim, classes)
		if err != nil {
			t.Fatal(err)
		}
		documented[cfg.Kind] = true
		count := fmt.Sprint(design.Count(tensors))
		if figure := strings.ReplaceAll(row[3], ",", ""); figure != count {
			t.Errorf("%s: the documentation says %s weights, they are %s", row[1], figure, count)
		}
		s := design.Settle(cfg, dim)
		formula := strings.NewReplacer("·", "*", "−", "-",
			"D", fmt.Sprint(dim), "C", fmt.Sprint(classes), "h", fmt.Sprint(s.Hidden),
			"s", fmt.Sprint(s.Stages), "d", fmt.Sprint(s.Width), "L", fmt.Sprint(s.Layers)).Replace(row[2])
		value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, formula)
		if err != nil {
			t.Fatal(err)
		}
		if value.Value.String() != count {
			t.Errorf("%s: %s is %s, the weights are %s", row[1], row[2], value.Value, count)
		}
	}
	for _, kind := range design.Kinds() {
		if !documented[kind] {
			t.Errorf("the documentation does not count the weights of head %s", kind)
		}
	}
}
