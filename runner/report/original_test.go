package report_test

import (
	"encoding/csv"
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// An experiment with a preset says what that does otherwise, and leaves the
// tables of the original project; without, neither is there.
func TestOriginalTables(t *testing.T) {
	w := newWorld(t, "compared")
	w.bare = true
	for seed, dice := range []float64{0.5, 0.6, 0.8} {
		for _, cell := range []string{"lora", "corrected"} {
			r := w.add(cell, nil, uint64(seed+1), 1000, dice, dice/2)
			r.Run.Fraction, r.Run.Label = 0.25, &spec.Label{Variant: "lora"}
			for _, m := range r.Evaluations {
				d, i := m.Dice, m.Iou
				m.OriginalDice, m.OriginalIou = &d, &i
			}
		}
	}
	w.exp.Metric = "original/dice"
	w.exp.Differences = []experiment.Difference{
		{Preset: "original", Cells: []string{"lora"}, Path: "optim.kind", Value: `"adam"`, Default: `"adamw"`, Why: "Its decay is L2. loralab: decoupled."},
		{Preset: "original", Cells: []string{"lora"}, Path: "data.normalize.mean", Value: "[0.485]", Why: "That of ImageNet. loralab: the backbone's."},
	}
	root := t.TempDir()
	written := w.build(root)
	page, err := os.ReadFile(written.Page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n## Preset \"original\" (lora)\n",
		"| `optim.kind` | \"adam\" | \"adamw\" | Its decay is L2. loralab: decoupled. |\n",
		"| `data.normalize.mean` | [0.485] | not set | That of ImageNet. loralab: the backbone's. |\n",
		"`original.csv` and `original_mean.csv`",
		"test original Dice",
		"The original Dice is that of the original project",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if lines := written.Table.Differences(); len(lines) != 3 || lines[0] != `Preset "original" (lora):` || lines[1] != `optim.kind is "adam", by default "adamw". Its decay is L2. loralab: decoupled.` {
		t.Errorf("the terminal is told %q", lines)
	}

	runs, means := readCSV(t, written.Original), readCSV(t, written.OriginalMean)
	if len(runs) != 2*3*2 || len(means) != 2*2 {
		t.Fatalf("%d runs and %d means", len(runs), len(means))
	}
	var sum, squares float64
	for _, l := range runs {
		if l["variant"] != "lora" || l["data_percentage"] != "25" || l["images"] != "60" || l["iou"] == "" {
			t.Errorf("line %v", l)
		}
		if l["cell"] == "lora" && l["domain"] == "histology" {
			v, err := strconv.ParseFloat(l["dice"], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
			squares += v * v
		}
	}
	for _, l := range means {
		if l["cell"] != "lora" || l["domain"] != "histology" {
			continue
		}
		mean, err := strconv.ParseFloat(l["dice_mean"], 64)
		if err != nil {
			t.Fatal(err)
		}
		std, err := strconv.ParseFloat(l["dice_population_std"], 64)
		if err != nil {
			t.Fatal(err)
		}
		if l["n"] != "3" || !near(mean, sum/3) || !near(std, math.Sqrt(squares/3-sum*sum/9)) {
			t.Errorf("line %v, want mean %v and population deviation %v", l, sum/3, math.Sqrt(squares/3-sum*sum/9))
		}
	}

	w.exp.Metric, w.exp.Differences = "dice/mean", nil
	original := written.Original
	written = w.build(root)
	if _, err := os.Stat(original); written.Original != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a preset %s is still there", original)
	}
}

// readCSV are the lines of a file by the names of its columns.
func readCSV(t *testing.T, path string) (out []map[string]string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines[1:] {
		m := map[string]string{}
		for i, name := range lines[0] {
			m[name] = l[i]
		}
		out = append(out, m)
	}
	return out
}
