package report

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/foreign"
)

// runTable is every planned run as data: a row for the validation of its best
// checkpoint and one for each domain. runs.csv and runs.parquet are two forms of it.
type runTable struct {
	columns []runColumn
	rows    []runRow
}

// runRow is what the columns of a row are read from.
type runRow struct {
	cell    *cell
	run     *outcome
	domain  string // "validation" for the best checkpoint's
	metrics *spec.Metrics
}

// runColumn is a column of the table of runs.
type runColumn struct {
	name string
	kind kind
	// of is the value in a row: a string, uint64, float64 or bool, as the kind says;
	// nil where there is none.
	of func(runRow) any
}

// kind says what the values of a column are.
type kind int

const (
	asText  kind = iota // string
	asCount             // uint64
	asReal              // float64
	asTruth             // bool
)

// parquetNodes are the kinds as Parquet has them: UTF-8 strings, unsigned integers of
// 64 bits, doubles and booleans.
var parquetNodes = map[kind]parquet.Node{
	asText:  parquet.Encoded(parquet.String(), &parquet.RLEDictionary),
	asCount: parquet.Uint(64),
	asReal:  parquet.Leaf(parquet.DoubleType),
	asTruth: parquet.Leaf(parquet.BooleanType),
}

// runTable is the table of all runs of the experiment.
func (s *study) runTable() runTable {
	t := runTable{columns: s.runColumns()}
	for _, c := range s.cells {
		for _, o := range c.runs {
			t.rows = append(t.rows, runRow{c, o, "validation", o.Summary.GetValidation()})
			for _, strength := range s.exp.AllStrengths() {
				for _, d := range s.exp.Domains {
					if at := spec.AtStrength(d, strength); strength == 1 || o.Run.Adapted() {
						t.rows = append(t.rows, runRow{c, o, at, o.Evaluations[at]})
					}
				}
			}
		}
	}
	return t
}

// runColumns are the columns, in the order of both files.
func (s *study) runColumns() []runColumn {
	columns := []runColumn{
		{"experiment", asText, func(runRow) any { return s.exp.Name }},
		{"cell", asText, func(r runRow) any { return r.cell.name }},
	}
	for _, path := range s.exp.Axes {
		columns = append(columns, s.axisColumn(path))
	}
	if s.exp.Folds > 0 {
		columns = append(columns, runColumn{"fold", asText, func(r runRow) any { return r.run.Run.Fold.String() }})
	}
	columns = append(columns,
		runColumn{"seed", asCount, func(r runRow) any { return r.run.Run.Seed }},
		runColumn{"run", asText, func(r runRow) any { return r.run.Run.ID }},
		runColumn{"state", asText, func(r runRow) any { return r.run.state() }},
		runColumn{"domain", asText, func(r runRow) any { return r.domain }},
	)
	measured := func(name string, kind kind, of func(*spec.Metrics) any) {
		columns = append(columns, runColumn{name, kind, func(r runRow) any {
			if r.metrics == nil {
				return nil
			}
			return of(r.metrics)
		}})
	}
	measured("images", asCount, func(m *spec.Metrics) any { return m.Images })
	measured("pixels", asCount, func(m *spec.Metrics) any { return m.Pixels })
	for _, name := range metric.Names(s.classes()) {
		measured(name, asReal, func(m *spec.Metrics) any {
			if v, ok := metric.Value(m, name); ok {
				return v
			}
			return nil
		})
	}
	trained := func(name string, kind kind, of func(*spec.Summary) any) {
		columns = append(columns, runColumn{name, kind, func(r runRow) any {
			if r.run.Summary == nil {
				return nil
			}
			return of(r.run.Summary)
		}})
	}
	trained("backbone_params", asCount, func(sum *spec.Summary) any { return sum.BackboneParams })
	trained("adapter_params", asCount, func(sum *spec.Summary) any { return sum.AdapterParams })
	trained("head_params", asCount, func(sum *spec.Summary) any { return sum.HeadParams })
	trained("best_step", asCount, func(sum *spec.Summary) any { return sum.BestStep })
	trained("steps", asCount, func(sum *spec.Summary) any { return sum.Steps })
	trained("seconds", asReal, func(sum *spec.Summary) any { return sum.Seconds })
	trained("images_per_second", asReal, func(sum *spec.Summary) any { return sum.ImagesPerSecond })
	trained("peak_memory_bytes", asCount, func(sum *spec.Summary) any { return sum.PeakMemory })
	trained("weights_sha256", asText, func(sum *spec.Summary) any { return sum.WeightsDigest })
	return columns
}

// axisColumn is an axis of the matrix: numbers or booleans where all its values are,
// text otherwise. Cells that are not on the axis have no value.
func (s *study) axisColumn(path string) runColumn {
	value := func(c *cell) any {
		for _, v := range c.values {
			if v.Path == path {
				return v.Value
			}
		}
		return nil
	}
	kinds := map[kind]bool{}
	for _, c := range s.cells {
		switch value(c).(type) {
		case nil:
		case float64:
			kinds[asReal] = true
		case bool:
			kinds[asTruth] = true
		default:
			kinds[asText] = true
		}
	}
	if len(kinds) == 1 && !kinds[asText] {
		for k := range kinds {
			return runColumn{path, k, func(r runRow) any { return value(r.cell) }}
		}
	}
	return runColumn{path, asText, func(r runRow) any {
		if v := value(r.cell); v != nil {
			return valueText(v)
		}
		return nil
	}}
}

// classes are the names of the classes of all runs, in the order of the first that
// has each.
func (s *study) classes() []string {
	var classes []string
	for _, run := range s.exp.Runs {
		for _, c := range run.Spec.GetData().GetClasses() {
			if !slices.Contains(classes, c) {
				classes = append(classes, c)
			}
		}
	}
	return classes
}

// state is "trained", "failed" or "missing".
func (o *outcome) state() string {
	switch {
	case o.done():
		return "trained"
	case o.Failed != "":
		return "failed"
	}
	return "missing"
}

// csv is the table in full precision. What is not known is empty.
func (t runTable) csv() string {
	lines := make([][]string, 1+len(t.rows))
	for _, c := range t.columns {
		lines[0] = append(lines[0], c.name)
	}
	for i, r := range t.rows {
		for _, c := range t.columns {
			field := ""
			switch v := c.of(r).(type) {
			case string:
				field = v
			case uint64:
				field = strconv.FormatUint(v, 10)
			case float64:
				field = number(v)
			case bool:
				field = strconv.FormatBool(v)
			}
			lines[1+i] = append(lines[1+i], field)
		}
	}
	return toCSV(lines)
}

// parquet is the table as a Parquet file, compressed with Snappy. What is not known
// is null. Text is on one line, with hidden characters shown, as elsewhere.
func (t runTable) parquet() ([]byte, error) {
	group := inOrder{Group: parquet.Group{}}
	for _, c := range t.columns {
		name := foreign.Line(c.name)
		if group.Group[name] != nil {
			return nil, fmt.Errorf("two columns of the runs are called %q", name)
		}
		group.Group[name] = parquet.Optional(parquetNodes[c.kind])
		group.names = append(group.names, name)
	}
	rows := make([]parquet.Row, len(t.rows))
	for i, r := range t.rows {
		for k, c := range t.columns {
			v, defined := c.of(r), 1
			if s, ok := v.(string); ok {
				v = foreign.Line(s)
			}
			if f, ok := v.(float64); ok && math.IsNaN(f) {
				v = nil
			}
			if v == nil {
				defined = 0
			}
			rows[i] = append(rows[i], parquet.ValueOf(v).Level(0, defined, k))
		}
	}
	var b bytes.Buffer
	w := parquet.NewWriter(&b, parquet.NewSchema("runs", group), parquet.Compression(&parquet.Snappy), parquet.CreatedBy("loralab", "", ""))
	if _, err := w.WriteRows(rows); err != nil {
		return nil, fmt.Errorf("writing the runs as Parquet: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing the runs as Parquet: %w", err)
	}
	return b.Bytes(), nil
}

// inOrder is a group whose columns keep their order; the library sorts them by name.
type inOrder struct {
	parquet.Group
	names []string
}

// Fields are the columns in the order of names.
func (g inOrder) Fields() []parquet.Field {
	fields := g.Group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int {
		return slices.Index(g.names, a.Name()) - slices.Index(g.names, b.Name())
	})
	return fields
}
