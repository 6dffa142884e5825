package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/loralab/loralab/runner/experiment"
)

// runs.parquet has the columns and the values of runs.csv, with a type for each.
func TestRunsAsParquet(t *testing.T) {
	e := newExample("e", false)
	ranked(e, 3)
	e.exp.Axes = []string{"adapter.params.rank", "head.trained", "head.name"}
	for i, run := range e.exp.Runs {
		run.Values = append(run.Values[:1:1], experiment.AxisValue{Path: "head.trained", Value: i%2 == 0},
			experiment.AxisValue{Path: "head.name", Value: []any{"conv", float64(3)}[i%2]})
	}
	e.results[0].Summary = nil
	root := t.TempDir()
	paths, err := Build(t.Context(), root, []*experiment.Experiment{e.exp}, e.results, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := paths.Experiments[0]
	if want := filepath.Join(root, "report", "e", "runs.parquet"); w.RunsParquet != want {
		t.Errorf("written to %q, want %q", w.RunsParquet, want)
	}
	table, err := os.ReadFile(w.RunsCSV)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(w.RunsParquet)
	if err != nil {
		t.Fatal(err)
	}
	columns, rows := readParquet(t, content)
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i], _, _ = strings.Cut(c, " ")
	}
	if !slices.Equal(names, lines[0]) {
		t.Fatalf("columns %q, want those of runs.csv, %q", names, lines[0])
	}
	for _, want := range []string{
		"cell STRING", "adapter.params.rank DOUBLE", "head.trained BOOLEAN", "head.name STRING", "seed INT(64,false)",
		"images INT(64,false)", "dice/mean DOUBLE", "seconds DOUBLE", "weights_sha256 STRING",
	} {
		if !slices.Contains(columns, want) {
			t.Errorf("no column %s in %q", want, columns)
		}
	}
	if got := slices.Insert(rows, 0, lines[0]); !slices.EqualFunc(got, lines, slices.Equal) {
		t.Errorf("Parquet has\n%q\nruns.csv\n%q", got, lines)
	}
	if again := must(e.study(t).runTable().parquet())(t); !bytes.Equal(again, content) {
		t.Error("the same results give another file")
	}
}

// Text from elsewhere has no control characters, and no apostrophe that would be for
// spreadsheets.
func TestForeignNamesAsParquet(t *testing.T) {
	e := newExample("e", false)
	ranked(e, 2)
	e.exp.Runs[0].Cell = "=1\x1b[2J"
	_, rows := readParquet(t, must(e.study(t).runTable().parquet())(t))
	if got, want := rows[0][1], `=1\x1b[2J`; got != want {
		t.Errorf("cell %q, want %q", got, want)
	}
}

// An experiment without a trained run has the same columns.
func TestNoRunsAsParquet(t *testing.T) {
	e := newExample("e", false)
	ranked(e, 2)
	e.results = nil
	columns, rows := readParquet(t, must(e.study(t).runTable().parquet())(t))
	if !slices.Contains(columns, "dice/mean DOUBLE") {
		t.Errorf("columns %q", columns)
	}
	at := slices.Index(columns, "state STRING")
	for _, r := range rows {
		if r[at] != "missing" {
			t.Errorf("state %q", r[at])
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// readParquet are the columns of a file with their types, and its values as runs.csv
// has them.
func readParquet(t *testing.T, content []byte) (columns []string, rows [][]string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Root().Columns() {
		columns = append(columns, c.Name()+" "+c.Type().String())
	}
	r := parquet.NewReader(f)
	defer r.Close()
	for {
		row := make([]parquet.Row, 1)
		n, err := r.ReadRows(row)
		if n == 1 {
			line := make([]string, len(columns))
			for _, v := range row[0] {
				switch {
				case v.IsNull():
				case v.Kind() == parquet.Double:
					line[v.Column()] = strconv.FormatFloat(v.Double(), 'g', -1, 64)
				case v.Kind() == parquet.Int64:
					line[v.Column()] = strconv.FormatUint(v.Uint64(), 10)
				default:
					line[v.Column()] = fmt.Sprint(v)
				}
			}
			rows = append(rows, line)
		}
		if err == io.EOF {
			return columns, rows
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
