package wandblog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The official client wrote testdata/official.wandb, and its own reader
// official.json (testdata/make_official.py).
func TestReadsTheOfficialLog(t *testing.T) {
	records, err := ReadFile("testdata/official.wandb")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := os.ReadFile("testdata/official.json")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(shown)), "\n")
	if len(records) != len(lines) {
		t.Fatalf("%d records, not the %d that the official reader finds", len(records), len(lines))
	}
	for i, line := range lines {
		var official struct {
			Num  int64
			Type string
			History, Summary,
			Run, Metric, Alert, Exit map[string]any
		}
		if err := json.Unmarshal([]byte(line), &official); err != nil {
			t.Fatal(err)
		}
		r := records[i]
		kind := strings.ReplaceAll(strings.ToLower(r.Kind()), "_", "")
		if r.Num != official.Num || kind != strings.ReplaceAll(official.Type, "_", "") {
			t.Fatalf("record %d is %d %s, not %d %s", i, r.Num, kind, official.Num, official.Type)
		}
		switch official.Type {
		case "history":
			items := official.History["item"].(map[string]any)
			for _, item := range r.History.Item {
				want, known := items[strings.Join(item.Path(), ".")]
				got := item.ValueJSON
				if text, is := want.(string); is && !strings.HasPrefix(got, `"`) { // NaN
					want = any(text)
					got = `"` + got + `"`
				}
				var value any
				if err := json.Unmarshal([]byte(got), &value); err != nil || !known || !reflect.DeepEqual(value, want) {
					t.Errorf("record %d: %v is %.80s, not %.80v (%v)", r.Num, item.Path(), got, want, err)
				}
			}
			if len(r.History.Item) != len(items) {
				t.Errorf("record %d has %d items, not %d", r.Num, len(r.History.Item), len(items))
			}
		case "run":
			run := r.Run
			if run.ID != official.Run["run_id"] || run.Project != official.Run["project"] || run.Entity != official.Run["entity"] ||
				run.DisplayName != official.Run["display_name"] || run.Notes != official.Run["notes"] || run.JobType != official.Run["job_type"] ||
				run.Group != official.Run["run_group"] || run.Host != official.Run["host"] || !slices.Equal(run.Tags, []string{"dinov2", "lora"}) ||
				run.StartTime.Time().UTC().Format("2006-01-02T15:04:05.999999Z") != official.Run["start_time"] {
				t.Errorf("the run is %+v, not %v", run, official.Run)
			}
		case "metric":
			if r.Metric.Name != official.Metric["name"] {
				t.Errorf("the metric is %+v, not %v", r.Metric, official.Metric)
			}
		case "alert":
			if r.Alert.Title != "done" || r.Alert.Text != "all is well" || r.Alert.Level != "INFO" || r.Alert.Wait != 60000 {
				t.Errorf("the alert is %+v, not %v", r.Alert, official.Alert)
			}
		case "exit":
			if r.Exit.Code != 3 {
				t.Errorf("the exit code is %d", r.Exit.Code)
			}
		}
	}
}

// What is framed comes out, wherever the block ends; a file that is cut at any byte gives
// the records before the cut.
func TestFrames(t *testing.T) {
	lengths := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(blockSize-40, blockSize+40), rapid.IntRange(0, 3*blockSize))
	rapid.Check(t, func(t *rapid.T) {
		file := slices.Clone(fileHeader)
		var messages [][]byte
		ends := []int{len(file)}
		for i, length := range rapid.SliceOfN(lengths, 1, 6).Draw(t, "lengths") {
			message := bytes.Repeat([]byte{byte(i + 1)}, length)
			file = appendFrame(file, message, int64(len(file)))
			messages, ends = append(messages, message), append(ends, len(file))
		}
		cut := rapid.OneOf(rapid.IntRange(len(fileHeader), len(file)), rapid.Just(len(file))).Draw(t, "cut")
		at := int64(len(fileHeader))
		for i := 0; ; i++ {
			message, next, err := readFrame(bytes.NewReader(file[:cut]), at)
			if err != nil {
				if i < len(messages) && ends[i+1] <= cut {
					t.Fatalf("record %d of %d is missing: %v", i, len(messages), err)
				}
				if !errors.Is(err, ErrIncomplete) && err != io.EOF || next != at {
					t.Fatalf("at %d, cut at %d: %v, next %d", at, cut, err, next)
				}
				break
			}
			if !bytes.Equal(message, messages[i]) || next != int64(ends[i+1]) {
				t.Fatalf("record %d differs, or ends at %d, not %d", i, next, ends[i+1])
			}
			at = next
		}
	})
}

// A flipped byte costs records of its block alone, and is said.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run-a.wandb")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		line := strings.Repeat("x", 2000)
		if err := w.Append(&Record{OutputRaw: &OutputRaw{Line: line}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[3*blockSize+1000] ^= 1
	r, err := NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int64
	damages := 0
	for {
		record, err := r.Next()
		if err == io.EOF {
			break
		}
		if damaged := new(DamagedError); errors.As(err, &damaged) {
			damages++
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, record.Num)
	}
	if damages == 0 || len(numbers) < 80 || len(numbers) == 100 || numbers[len(numbers)-1] != 100 || !slices.IsSorted(numbers) {
		t.Errorf("%d damages, records %v", damages, numbers)
	}
}

// Every kind of record comes back as it was, with every field set.
func TestRecords(t *testing.T) {
	for _, r := range everyRecord() {
		message, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var back Record
		if err := back.Unmarshal(message); err != nil {
			t.Fatalf("%s: %v", r.Kind(), err)
		}
		if !reflect.DeepEqual(r, &back) {
			t.Errorf("%s came back as %+v", r.Kind(), back)
		}
	}
	if _, err := (&Record{}).Marshal(); err == nil {
		t.Error("a record without content is written; it ends the official client")
	}
	if _, err := (&Record{Exit: &Exit{}, Final: &Empty{}}).Marshal(); err == nil {
		t.Error("a record with two contents is written")
	}
}

// everyRecord has a record of each kind, in which no field is zero.
func everyRecord() (records []*Record) {
	t := reflect.TypeFor[Record]()
	for i := 1; i < t.NumField(); i++ {
		r := &Record{Num: int64(i)}
		n := 0
		reflect.ValueOf(r).Elem().Field(i).Set(filled(t.Field(i).Type, &n))
		records = append(records, r)
	}
	return records
}

func filled(t reflect.Type, n *int) reflect.Value {
	*n++
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		if t.Elem().Kind() == reflect.Struct {
			for i := range t.Elem().NumField() {
				v.Elem().Field(i).Set(filled(t.Elem().Field(i).Type, n))
			}
		}
	case reflect.Slice:
		v.Set(reflect.Append(v, filled(t.Elem(), n), filled(t.Elem(), n)))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k": "v", "l": "w"}))
	}
	return v
}

// FuzzRead shows that no file ends the reader or keeps it busy.
func FuzzRead(f *testing.F) {
	official, err := os.ReadFile("testdata/official.wandb")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(official[:2000])
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := NewReader(bytes.NewReader(content))
		if err != nil {
			return
		}
		for range len(content) + 2 {
			_, err := r.Next()
			if err == io.EOF || errors.Is(err, ErrIncomplete) {
				return
			}
			if damaged := new(DamagedError); err != nil && !errors.As(err, &damaged) {
				t.Fatal(err)
			}
		}
		t.Fatal("the reader does not end")
	})
}
