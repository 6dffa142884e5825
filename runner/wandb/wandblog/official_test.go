package wandblog

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/python"
)

// Every field has the number and the type that it has in the official client. The
// names, which are ours, are compared by eye in testdata/fields.txt.
func TestFieldNumbers(t *testing.T) {
	var paths, kinds, names []string
	var walk func(m reflect.Type, path, name string)
	walk = func(m reflect.Type, path, name string) {
		for i, number := range fieldsOf(m) {
			f := m.Field(i)
			p, n, kind := fmt.Sprint(path, number), name+f.Name, f.Type.Kind().String()
			inner := f.Type
			if kind == "slice" {
				inner = inner.Elem()
				kind = inner.Kind().String()
			}
			if inner.Kind() == reflect.Pointer {
				kind = "message"
			}
			paths, kinds, names = append(paths, p), append(kinds, kind), append(names, n)
			if kind == "message" {
				walk(inner.Elem(), p+".", n+".")
			}
		}
	}
	walk(reflect.TypeFor[Record](), "", "")

	cmd := exec.Command(python.Find(t), "testdata/fields.py")
	cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(paths, "\n")+"\n"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(paths) {
		t.Fatalf("%d lines, not %d", len(lines), len(paths))
	}
	var table strings.Builder
	for i, line := range lines {
		official := strings.Fields(line)
		if official[0] != paths[i] || official[2] != kinds[i] {
			t.Errorf("%s: the official field is %v, ours has the type %s", names[i], official, kinds[i])
		}
		fmt.Fprintf(&table, "%s %s %s\n", paths[i], names[i], official[1])
	}
	const golden = "testdata/fields.txt"
	if os.Getenv("LORALAB_UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if table.String() != string(want) {
		t.Errorf("the names have changed; LORALAB_UPDATE=1 writes %s", golden)
	}
}
