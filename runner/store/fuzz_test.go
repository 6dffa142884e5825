package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRunDirectory reads, reconciles and removes a project of which one file
// holds anything: nothing panics, nothing outside of the project is written, and
// the other run stays.
func FuzzRunDirectory(f *testing.F) {
	files := []string{
		"RUN/record.json", "RUN/request.json", "RUN/result.json", "RUN/evaluations/aaaaaaaaaaaa.json",
		"RUN/checkpoints/last.safetensors", "RUN/metrics.jsonl", ".asked.json",
	}
	for i := range files {
		f.Add(uint8(i), []byte(`{`))
		f.Add(uint8(i), []byte(`{"format":1,"id":"../../../../etc","names":[{"experiment":"../../x","cell":"\u0000"}],"state":"done","worker":"../../../x"}`))
		f.Add(uint8(i), []byte(`[[[[null]]]]`))
	}
	id := "ID" // is replaced by the identity of the run
	f.Add(uint8(0), []byte(`{"format":1,"id":"`+id+`","names":[{"experiment":"../../x","cell":"../c"}],"state":"running","worker":"../x"}`))
	f.Add(uint8(0), []byte(`{"format":1,"id":"`+id+`","names":[{"experiment":"e","cell":"c","position":-1}],"state":"done","steps":18446744073709551615}`))
	f.Add(uint8(2), []byte(`{"id":"`+id+`","steps":"18446744073709551615","evaluations":[null,{}]}`))
	f.Add(uint8(3), []byte(`{"id":"aaaaaaaaaaaa","metrics":null}`))
	f.Add(uint8(4), []byte("\x08\x00\x00\x00\x00\x00\x00\x00{}      "))
	f.Add(uint8(6), []byte(`{"format":1,"experiment":"first","cells":[{"cell":"x","runs":[{"seed":1,"run":""},{"seed":1,"run":"00"}]}]}`))
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		outer := t.TempDir()
		root := filepath.Join(outer, "project")
		check(t, os.Mkdir(root, 0o777))
		run, label := newRun(t, "first", "c", 1)
		whole, other := newRun(t, "first", "whole", 2)
		ctx := t.Context()
		s := must[*Store](t)(Open(ctx, root))
		check(t, s.Enqueue(ctx, nil, []*Run{run, whole}, []Label{label, other}), s.Close())
		name := files[int(which)%len(files)]
		path := filepath.Join(root, "runs", "first", name)
		if name[0] == 'R' {
			path = filepath.Join(root, filepath.FromSlash(run.Dir), name[4:])
		}
		check(t, os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, replaced(content, run.ID), 0o666))
		for range 2 {
			known := must[*Snapshot](t)(Read(ctx, root))
			if known.Runs[whole.ID] == nil {
				t.Fatal("the other run is lost")
			}
			_, _ = known.Find("c")
			_, _, _ = known.Select("first")
			for _, r := range known.Runs {
				_, err := r.Spec()
				_, err2 := r.Request(root)
				_ = errors.Join(err, err2)
			}
			s = must[*Store](t)(Open(ctx, root))
			known, err := s.Reconcile(ctx)
			check(t, err)
			if r := known.Run(run.ID); r != nil {
				_ = s.Unname(ctx, r.ID, known.Names(r.ID)[:1])
				_ = s.Start(ctx, r.ID)
				check(t, s.Remove(ctx, []*Run{r}))
			}
			check(t, s.Tidy(ctx), s.Close())
		}
		if entries, _ := os.ReadDir(outer); len(entries) != 1 {
			t.Fatalf("outside of the project there are %v", entries)
		}
		entries, _ := os.ReadDir(root)
		for _, e := range entries {
			if e.Name() != "runs" && e.Name() != "logs" {
				t.Fatalf("the project has %v", entries)
			}
		}
	})
}

// replaced puts the identity of a run into content.
func replaced(content []byte, id string) []byte {
	return []byte(strings.ReplaceAll(string(content), "\"ID\"", `"`+id+`"`))
}
