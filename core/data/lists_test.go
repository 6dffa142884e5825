package data_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
)

// listing writes a file and reads the parts from it.
func listing(t *testing.T, name, text string) (data.Listed, error) {
	t.Helper()
	return listed(t, name, text, data.ReadParts)
}

func listed(t *testing.T, name, text string, read func(string) (data.Listed, error)) (data.Listed, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(name) == ".txt" {
		file = filepath.Dir(file)
	}
	return read(file)
}

// What is written divides the data again in the same way, also where parts lie
// in folders of their own.
func TestListsDivideAsTheyWereWritten(t *testing.T) {
	whole := scan(t, folder(t, 20))
	cut := whole.Split(3, 0.5, 0.2, 0.2)
	parts := map[string]data.Files{"train": cut[0], "val": cut[1], "test": cut[2]}
	var b bytes.Buffer
	if err := data.WriteParts(t.Context(), data.NewIndex(data.Look{}), &b, whole.Root, parts); err != nil {
		t.Fatal(err)
	}
	lists, err := listing(t, "parts.csv", b.String())
	if err != nil {
		t.Fatal(err)
	}
	got, rest, err := whole.Divide(lists)
	if err != nil || !reflect.DeepEqual(got, parts) || rest.Len() != 2 {
		t.Errorf("%v, %d left, %v; written %s", got, rest.Len(), err, b.String())
	}
	published := published(t, nil, "train/images/a.png", "train/masks/a.png", "test/images/a.png", "test/masks/a.png")
	layout, err := data.FindLayout(published, "auto")
	if err != nil {
		t.Fatal(err)
	}
	there, err := layout.Parts(published)
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := data.WriteParts(t.Context(), data.NewIndex(data.Look{}), &b, published, there); err != nil {
		t.Fatal(err)
	}
	if lists, err = listing(t, "parts.csv", b.String()); err != nil {
		t.Fatal(err)
	}
	got, _, err = data.Pool(published, there).Divide(lists)
	if err != nil || !slices.Equal(got["test"].Images, []string{"test/images/a.png"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// Lists of stems, as VOC and others publish them, and those of SegNet's tutorial.
func TestListsOfNames(t *testing.T) {
	f := scan(t, folder(t, 4))
	for _, text := range []string{
		"# so\np001\np003\n", "p003\r\np001\r\n", "images/p001.png\nimages/p003.png", "/Seg/train/p001.png /Seg/annot/p001.png\np003 1 2\n",
	} {
		lists, err := listing(t, "train.txt", text)
		if err != nil {
			t.Fatal(err)
		}
		parts, rest, err := f.Divide(lists)
		if err != nil || !slices.Equal(parts["train"].Images, []string{"images/p001.png", "images/p003.png"}) || rest.Len() != 2 || len(parts) != 1 {
			t.Errorf("%q: %v, %v, %v", text, parts, rest, err)
		}
	}
}

func TestListsTellAllThatIsWrong(t *testing.T) {
	f := scan(t, folder(t, 4))
	lists, err := listing(t, "parts.csv", "image,part\np000,train\np001,train\np009,val\np001,test\n")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = f.Divide(lists)
	var wrong *data.ListError
	if !errors.As(err, &wrong) || len(wrong.Faults) != 2 ||
		!strings.HasSuffix(wrong.Faults[0], `parts.csv:4: there is no image "p009"`) ||
		!strings.Contains(wrong.Faults[1], `parts.csv:5: images/p001.png stands at `) || !strings.HasSuffix(wrong.Faults[1], "parts.csv:3 already") {
		t.Errorf("told %v", err)
	}
	for text, want := range map[string]string{
		"a,b\n": `begins with the line "image,part"`, "image,part\np000,dev\n": `:2: there is no part "dev", only train, val, test`, "image,part\np000\n": "wrong number of fields",
	} {
		if _, err := listing(t, "parts.csv", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := listing(t, "other.txt", "p000"); err == nil || !strings.Contains(err.Error(), "no train.txt, val.txt or test.txt") {
		t.Errorf("a folder of other lists: %v", err)
	}
	twice := data.Pool("/d", map[string]data.Files{
		"train": {Root: "/d/train", Images: []string{"a.png"}, Masks: []string{"m.png"}},
		"test":  {Root: "/d/test", Images: []string{"a.png"}, Masks: []string{"m.png"}},
	})
	lists, err = listing(t, "train.txt", "a\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := twice.Divide(lists); err == nil || !strings.Contains(err.Error(), `"a" may be test/a.png or train/a.png: write the path`) {
		t.Errorf("a name of two images: %v, %v", err, slices.Collect(maps.Keys(lists)))
	}
}

// A list with SHA-256 is of those contents: trial-data, lists.
func TestListsOfOtherContents(t *testing.T) {
	f := scan(t, folder(t, 6))
	cut := f.Split(3, 0.5, 0.25, 0.25)
	var b bytes.Buffer
	if err := data.WriteParts(t.Context(), data.NewIndex(data.Look{}), &b, f.Root, map[string]data.Files{"train": cut[0], "val": cut[1], "test": cut[2]}); err != nil {
		t.Fatal(err)
	}
	compare := func(text string) error {
		lists, err := listing(t, "parts.csv", text)
		if err != nil {
			t.Fatal(err)
		}
		return f.Compare(t.Context(), data.NewIndex(data.Look{}), lists)
	}
	short := strings.NewReplacer("image_sha256", "note", "mask_sha256", "other").Replace(b.String())
	upper := regexp.MustCompile("[0-9a-f]{64}").ReplaceAllStringFunc(b.String(), strings.ToUpper)
	for _, text := range []string{b.String(), short, upper} {
		if err := compare(text); err != nil {
			t.Errorf("as it was written: %v", err)
		}
	}
	writePNG(t, filepath.Join(f.Root, "masks", "p004.png"), grey(4, 4, func(_, _ int) byte { return 1 }))
	line := 0
	for i, text := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(text, "images/p004.png,") {
			line = i + 1
		}
	}
	err := compare(b.String())
	var wrong *data.ListError
	if want := fmt.Sprintf("parts.csv:%d: masks/p004.png has the SHA-256 ", line); !errors.As(err, &wrong) || len(wrong.Faults) != 1 || !strings.Contains(wrong.Faults[0], want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := compare(short); err != nil {
		t.Errorf("a list without SHA-256: %v", err)
	}
}
