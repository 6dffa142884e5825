package slurm

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/pilot"
)

// everything is what an experiment may say.
func everything() *experiment.Resources {
	return &experiment.Resources{
		Time: "36h", Workers: 20, Parallel: 5, Partition: "gpu", Account: "lab", QOS: "long", Reservation: "course",
		GPUs: 1, GPUType: "a100", CPUs: 8, Memory: "32G", Constraint: "a100&ib", Exclude: "n[3-5]",
		Modules: []string{"gcc/12", "cuda/12.4"}, Setup: []string{"conda activate vit"}, Image: "/shared/loralab images/r1.sif",
		Scratch: "/scratch/$SLURM_JOB_ID", Mail: "a@example.org", Dependency: "afterok:1234", Options: []string{"--licenses=x"},
	}
}

// The scripts are read by people: one of an experiment that says all there is to say, and
// one of an experiment that says what it must.
func TestScript(t *testing.T) {
	for name, test := range map[string]struct {
		array pilot.Array
		job   Job
	}{
		"least": {
			pilot.Array{Root: "/home/ada/vit", Workers: 8},
			Job{Resources: &experiment.Resources{Time: "90m", Workers: 8}, Runner: "/opt/loralab/bin/runner"},
		},
		"everything": {
			pilot.Array{Root: "/home/ada/my project", Workers: 20, Chunk: 16, Exclude: []string{"n9"}},
			Job{Resources: everything(), Runner: "/opt/loralab/bin/runner", Env: map[string]string{"LORALAB_DATA": "/data/it's here", "LORALAB_THREADS": "4"}, Bind: []string{"/data/it's here"}},
		},
	} {
		test.array.Name = "20261128-221500-4f2a90"
		chunks := Chunks(&test.array)
		got, err := test.job.Script(&test.array, chunks[len(chunks)-1])
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".sh")
		if os.Getenv("LORALAB_UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (LORALAB_UPDATE=1 writes it again):\n%s", file, got)
		}
		checked(t, got)
	}
	doc, err := os.ReadFile("../../docs/slurm.md")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := os.ReadFile("testdata/least.sh")
	if err != nil || !strings.Contains(string(doc), "```sh\n"+string(shown)+"```\n") {
		t.Errorf("docs/slurm.md does not show the script, %v:\n%s", err, shown)
	}
}

// checked has shellcheck look at a script, where there is one.
func checked(t *testing.T, script string) {
	path, err := exec.LookPath("shellcheck")
	if err != nil {
		return
	}
	// 1091: /etc/profile is that of the node.
	cmd := exec.Command(path, "--exclude=SC1091", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s\n%s", err, out, script)
	}
}

// Whatever paths and values hold, the worker gets them as they are.
func TestScriptQuotes(t *testing.T) {
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	// A worker that says its arguments and what it sees.
	program := "#!/bin/sh\nprintf '%s\\0' \"$@\" \"$VALUE\" \"$TMPDIR\" >\"$SAID\"\n"
	if err := os.WriteFile(filepath.Join(dir, "apptainer"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	runes := []rune("ab é'\"$`!#%&*()[]{}<>|;~?-\\\n\t=")
	r := rand.New(rand.NewPCG(1, 2))
	text := func(without string) string {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			if c := runes[r.IntN(len(runes))]; !strings.ContainsRune(without, c) {
				b.WriteRune(c)
			}
		}
		return b.String()
	}
	for range 150 {
		root := "/" + text("\n\\")
		runner := filepath.Join(dir, "r"+text(""))
		value, image := text(""), text("\n")
		if err := os.WriteFile(runner, []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		job := Job{Resources: &experiment.Resources{Time: "1h", Scratch: dir + "/s $N"}, Runner: runner, Env: map[string]string{"VALUE": value}}
		array := &pilot.Array{Name: "name", Root: root, Workers: 1}
		wanted := []string{"work", "--first", "0", "--scratch", dir + "/s 7", pilot.ArrayDir(root, "name")}
		if image != "" && r.IntN(2) == 0 {
			job.Resources.Image = image
			wanted = append([]string{"exec", "--bind", root, "--bind", dir, "--bind", dir + "/s 7", image, runner}, wanted...)
		}
		wanted = append(wanted, value, dir+"/s 7")
		script, err := job.Script(array, Chunks(array)[0])
		if err != nil {
			t.Fatal(err)
		}
		check := exec.Command("bash", "-n")
		check.Stdin = strings.NewReader(script)
		if out, err := check.CombinedOutput(); err != nil {
			t.Fatalf("bash -n: %v: %s\n%s", err, out, script)
		}
		cmd := exec.Command("bash", "-s")
		cmd.Stdin = strings.NewReader(script)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SAID=" + said, "N=7"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, script)
		}
		got, err := os.ReadFile(said)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Join(wanted, "\x00") + "\x00"; string(got) != want {
			t.Fatalf("the worker got %q, not %q:\n%s", got, want, script)
		}
		if err := os.Remove(runner); err != nil {
			t.Fatal(err)
		}
	}
}

// A line of setup that fails ends the worker, and what it says of threads counts.
func TestScriptOfASetup(t *testing.T) {
	dir := t.TempDir()
	runner := filepath.Join(dir, "runner")
	if err := os.WriteFile(runner, []byte("#!/bin/sh\necho it works with $LORALAB_THREADS\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		setup []string
		want  string
		fails bool
	}{
		{nil, "it works with 2\n", false},
		{[]string{"export LORALAB_THREADS=8", "false || true"}, "it works with 8\n", false},
		{[]string{"echo here", "(exit 3)", "echo there"}, "here\n", true},
	} {
		job := Job{Resources: &experiment.Resources{Time: "1h", Setup: test.setup}, Runner: runner}
		array := &pilot.Array{Name: "name", Root: dir, Workers: 1}
		script, err := job.Script(array, Chunks(array)[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-s")
		cmd.Stdin = strings.NewReader(script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SLURM_CPUS_ON_NODE=2"}
		if out, err := cmd.Output(); string(out) != test.want || (err != nil) != test.fails {
			t.Errorf("%q: %q, %v", test.setup, out, err)
		}
	}
}

// sbatch takes no path with a line break, nor fills anything into one with a backslash.
func TestScriptOfAnImpossiblePlace(t *testing.T) {
	for _, root := range []string{"/a\nb", `/a\b`} {
		array := &pilot.Array{Name: "name", Root: root, Workers: 1}
		if _, err := (Job{Resources: &experiment.Resources{Time: "1h"}, Runner: "/r"}).Script(array, Chunks(array)[0]); err == nil {
			t.Errorf("%q is no error", root)
		}
	}
}
