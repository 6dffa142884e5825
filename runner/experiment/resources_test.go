package experiment

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The fields of an experiment are over those of its project, and these over those of the
// machine; what nobody gives has its default.
func TestResourcesOfASite(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("project/cue.mod/module.cue", "module: \"example.org/x\"\nlanguage: version: \"v0.17.0\"\n")
	head := "package experiments\n\nimport \"github.com/loralab/loralab/schema\"\n\nx: schema.#Experiment & {\n" +
		"\tbackbone: model: \"toy\"\n\tadapter: {variant: \"lora\", params: {rank: 4}}\n" +
		"\tdata: {source: \"procedural\", classes: [\"background\", \"animal\", \"boundary\"]}\n"
	plain := write("project/experiments/plain.cue", head+"}\n")
	says := write("project/experiments/says.cue", head+"\tresources: {time: \"2h\", gpus: 0, options: [\"--licenses=x\"]}\n}\n")
	load := func(file string) (*Resources, string) {
		t.Helper()
		experiments, found := loadWith([]string{file}, Env{}, world())
		text := strings.ReplaceAll(rendered(t, found), dir+"/", "")
		if len(experiments) == 0 {
			return nil, text
		}
		return experiments[0].Resources, text
	}
	expect := func(what, file string, want *Resources) {
		t.Helper()
		if got, said := load(file); said != "" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, not %+v\n%s", what, got, want, said)
		}
	}

	expect("nobody says anything", plain, nil)
	expect("the experiment alone", says, &Resources{Time: "2h", Workers: 8, Options: []string{"--licenses=x"}})

	t.Setenv("LORALAB_RESOURCES", write("site.cue", "resources: {partition: \"gpu\", account: \"all\", gpus: 1, workers: 3}\n"))
	expect("the machine", plain, &Resources{Workers: 3, Partition: "gpu", Account: "all", GPUs: 1})
	expect("the machine and the experiment", says, &Resources{Time: "2h", Workers: 3, Partition: "gpu", Account: "all", Options: []string{"--licenses=x"}})

	write("project/runner.cue", "package runner\n\nimport \"github.com/loralab/loralab/schema\"\n\nresources: schema.#Resources & {time: \"1h\", account: \"lab\", options: [\"--nice\"]}\n")
	expect("the machine and the project", plain, &Resources{Time: "1h", Workers: 3, Partition: "gpu", Account: "lab", GPUs: 1, Options: []string{"--nice"}})
	expect("all three", says, &Resources{Time: "2h", Workers: 3, Partition: "gpu", Account: "lab", Options: []string{"--licenses=x"}})

	doc, err := os.ReadFile("../../docs/slurm.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(doc), "```cue\n")
	if len(parts) < 4 {
		t.Errorf("docs/slurm.md has %d examples", len(parts)-1)
	}
	for _, part := range parts[1:] {
		text, _, _ := strings.Cut(part, "```")
		write("project/runner.cue", text)
		if r, said := load(says); r == nil || said != "" {
			t.Errorf("an example of docs/slurm.md: %s\n%s", text, said)
		}
	}

	var all strings.Builder
	for _, text := range []string{
		"resources: {partitoin: \"gpu\", account: \"lab\"}\n",
		"resources: {time: \"1 hour\", workers: 0}\n",
		"resources: {time: \"1h\", options: [\"--array=1\"]}\n",
		"resources: {time: \"0:00\"}\n",
		"resources: time: string\n",
		"resources: [1]\n",
		"partition: \"gpu\"\n",
		"",
		"resources: {\n",
		"resources: partition: \"gpu\"\n",
	} {
		write("project/runner.cue", text)
		_, said := load(says)
		all.WriteString("=== " + strings.TrimSpace(text) + "\n" + said)
	}
	_, said := load(filepath.Join(dir, "project", "runner.cue"))
	all.WriteString("=== as an experiment\n" + said)
	for _, name := range []string{"project", "says.txt"} {
		if name == "says.txt" {
			write(name, "")
		}
		t.Setenv("LORALAB_RESOURCES", filepath.Join(dir, name))
		_, said := load(says)
		all.WriteString("=== " + name + "\n" + said)
	}
	t.Setenv("LORALAB_RESOURCES", filepath.Join(dir, "none.cue"))
	if err := os.Remove(filepath.Join(dir, "project", "runner.cue")); err != nil {
		t.Fatal(err)
	}
	_, said = load(says)
	all.WriteString("=== no file\n" + said)
	golden(t, "testdata/site.txt", all.String())
}

// Times are those of Slurm, and shorter forms.
func TestParseLimit(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "4h": 4 * time.Hour, "2d": 48 * time.Hour, "30:00": 30 * time.Minute, "1:30:00": 90 * time.Minute,
		"1-12:00:00": 36 * time.Hour, "1-12:30": 36*time.Hour + 30*time.Minute, "": 0,
	} {
		if got, err := ParseLimit(text); err != nil || got != want {
			t.Errorf("%q is %v, %v, not %v", text, got, err, want)
		}
	}
	for _, text := range []string{"h", "0h", "-1h", "4", "4 h", "1:2:3:4", "0:00", "00:00:00", "0:59", "0-0:00", "367d", "99999999999999999999d", "9000-00:00:00", "99999999:00:00", "x-1:00", "1h30m"} {
		if got, err := ParseLimit(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// That no time is given is an error on a cluster, and none where a mistake in it, or in the
// defaults of the site, is reported already.
func TestResourcesWithoutATime(t *testing.T) {
	const none = "nothing says how long a worker on the cluster may take"
	for _, test := range []struct {
		name, resources, site string
		errors                int
		missing               bool
	}{
		{"nothing", "{}", "", 1, true},
		{"another field", `{partition: "gpu"}`, "", 1, true},
		{"a mistake in another field", `{partition: "g p u"}`, "", 2, true},
		{"a time", `{time: "4h"}`, "", 0, false},
		{"a short time", `{time: "9m"}`, "", 0, false},
		{"a time of the site", "{}", `resources: time: "4h"`, 0, false},
		{"a text that is no time", `{time: "4 hours"}`, "", 1, false},
		{"no time at all", `{time: "0:00"}`, "", 1, false},
		{"an endless time", `{time: "99999999999999999999d"}`, "", 1, false},
		{"no struct", `"4h"`, "", 1, false},
		{"a mistake of the site", "{}", `resources: partitoin: "gpu"`, 1, false},
		{"an option of the site", "{}", `resources: options: ["--array=1"]`, 1, false},
		{"a site that is no CUE", "{}", "resources: {", 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "experiments", "x.cue")
			for path, text := range map[string]string{
				filepath.Join(dir, "cue.mod", "module.cue"): "module: \"example.org/x\"\nlanguage: version: \"v0.17.0\"\n",
				filepath.Join(dir, SiteFile):                test.site,
				file: "package experiments\n\nimport \"github.com/loralab/loralab/schema\"\n\nx: schema.#Experiment & {\n" +
					"\tbackbone: model: \"toy\"\n\tadapter: {variant: \"lora\", params: {rank: 4}}\n" +
					"\tdata: {source: \"procedural\", classes: [\"background\", \"animal\", \"boundary\"]}\n\tresources: " + test.resources + "\n}\n",
			} {
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			_, found := loadWith([]string{file}, Env{Cluster: true}, world())
			said := rendered(t, found)
			if strings.Contains(said, "has little time to train") != (test.name == "a short time") {
				t.Errorf("%s", said)
			}
			if n := strings.Count(said, "error: "); n != test.errors || strings.Contains(said, none) != test.missing {
				t.Errorf("%d errors:\n%s", n, said)
			}
		})
	}
}
