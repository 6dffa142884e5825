package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A part without images says how many there are, and what divides them.
func TestPartsWithoutImages(t *testing.T) {
	for _, c := range []struct {
		files  string // folders of images, by their number
		fields string
		want   string
		hint   string
	}{
		{"images=2", "", "has no images for val: it has 2 images, and data.split.val, 0.1, takes none of them", "data: split: val: …"},
		{"images=1", "", "has no images for val: it has 1 image, and", "or add images"},
		{"images=2", "\tdata: split: method: \"original\"", "has no images for val: it has 2 images, and data.split.val", "data: split: val: …"},
		{"train/images=1 test/images=1", "", "has no images for val: it has 1 image for train, and data.split.val", "data: split: val: …"},
		{"train/images=9 val/images=1", "", "has no images for test: its 10 images are in other parts", "add test/images and test/masks; data.split divides only"},
		{"images=3", "\tdata: split: from: \"LIST\"", "lists 2 images, none of them for it", "list images for test in data.split.from"},
	} {
		dir := t.TempDir()
		for folder := range strings.FieldsSeq(c.files) {
			name, number, _ := strings.Cut(folder, "=")
			for i := range int(number[0] - '0') {
				for _, file := range []string{name, strings.Replace(name, "images", "masks", 1)} {
					file = filepath.Join(dir, "data", file, fmt.Sprintf("%s%d.png", strings.ReplaceAll(name, "/", "_"), i))
					if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		list := filepath.Join(dir, "list.csv")
		if err := os.WriteFile(list, []byte("image,part\nimages0,train\nimages1,val\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(sound, `source: "procedural"`, fmt.Sprintf("source: %q", filepath.Join(dir, "data")), 1)
		_, found := loadWith([]string{write(t, insert(text, strings.ReplaceAll(c.fields, "LIST", list)))}, Env{}, world())
		if len(found) != 1 || !strings.Contains(found[0].Message, c.want) || !strings.Contains(found[0].Hint, c.hint) {
			t.Errorf("%s%s: got %s, want %s", c.files, c.fields, rendered(t, found), c.want)
		}
	}
}
