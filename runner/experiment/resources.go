package experiment

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Resources are what workers on a cluster get, as schema/resources.cue has it. Empty texts
// and zeros leave the choice to the site.
type Resources struct {
	Time        string   `json:"time"`
	Workers     int      `json:"workers"`
	Parallel    int      `json:"parallel"`
	Partition   string   `json:"partition"`
	Account     string   `json:"account"`
	QOS         string   `json:"qos"`
	Reservation string   `json:"reservation"`
	GPUs        int      `json:"gpus"`
	GPUType     string   `json:"gpuType"`
	CPUs        int      `json:"cpus"`
	Memory      string   `json:"memory"`
	Constraint  string   `json:"constraint"`
	Exclude     string   `json:"exclude"`
	Modules     []string `json:"modules"`
	Setup       []string `json:"setup"`
	Image       string   `json:"image"`
	Scratch     string   `json:"scratch"`
	Mail        string   `json:"mail"`
	Dependency  string   `json:"dependency"`
	Options     []string `json:"options"`
}

// Limit is the time of a worker; 0 where none is given.
func (r *Resources) Limit() (time.Duration, error) { return ParseLimit(r.Time) }

// ParseLimit reads a time as experiments have it: "90m", "4h", "2d", or Slurm's
// "1-12:00:00" and "12:00:00". Slurm reads "30:00" as half an hour, and so does this.
func ParseLimit(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	fail := func() (time.Duration, error) {
		return 0, fmt.Errorf("%q is no time; write %q or %q", text, "4h", "1-12:00:00")
	}
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if unit := units[text[len(text)-1]]; unit > 0 {
		n, err := strconv.Atoi(text[:len(text)-1])
		if err != nil || n < 1 || n > 1e6 {
			return fail()
		}
		return time.Duration(n) * unit, nil
	}
	days, clock, withDays := strings.Cut(text, "-")
	if !withDays {
		days, clock = "0", text
	}
	parts := strings.Split(clock, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return fail()
	}
	// Two parts are minutes and seconds, and after days hours and minutes.
	each := []time.Duration{time.Hour, time.Minute, time.Second}
	if len(parts) == 2 && !withDays {
		each = each[1:]
	}
	var limit time.Duration
	for i, part := range append([]string{days}, parts...) {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return fail()
		}
		if i == 0 {
			limit += time.Duration(n) * 24 * time.Hour
		} else {
			limit += time.Duration(n) * each[i-1]
		}
	}
	if limit <= 0 {
		return fail()
	}
	return limit, nil
}

// An ownedOption is an option of sbatch that the launcher gives, or that has a field.
type ownedOption struct {
	name  string
	short byte // 0: it has no short form
	hint  string
}

// ownedOptions are those that resources.options cannot have.
var ownedOptions = []ownedOption{
	{"array", 'a', "workers are its elements: write resources: workers, and parallel for how many run at once"},
	{"chdir", 'D', "workers run in the project: leave it out"},
	{"error", 'e', "workers write to logs in the project: leave it out"},
	{"export", 0, `values are in the script: write setup: ["export NAME=value"]`},
	{"export-file", 0, `values are in the script: write setup: ["export NAME=value"]`},
	{"hold", 'H', "no worker would start: leave it out"},
	{"input", 'i', "workers read no input: leave it out"},
	{"job-name", 'J', "the workers are found by it: leave it out"},
	{"kill-on-invalid-dep", 0, "a worker that can never start is removed: leave it out"},
	{"no-requeue", 0, "a worker continues after a restart: leave it out"},
	{"nodes", 'N', "a worker runs on one node; more workers are resources: workers"},
	{"ntasks", 'n', "a worker is one task; more workers are resources: workers"},
	{"open-mode", 0, "a restarted worker adds to its log: leave it out"},
	{"output", 'o', "workers write to logs in the project: leave it out"},
	{"parsable", 0, "sbatch is called by apply: leave it out"},
	{"propagate", 0, "limits of this machine mean nothing on a node: leave it out"},
	{"requeue", 0, "workers are requeued already: leave it out"},
	{"signal", 0, "a worker receives SIGUSR1 two minutes before the end: leave it out"},
	{"test-only", 0, "for a look at the script, write: runner apply --on slurm --dry-run"},
	{"time", 't', "workers plan by it: write resources: time"},
	{"wait", 'W', "apply waits, unless it is started with --detach: leave it out"},
	{"wrap", 0, "the script is that of the workers: write lines of resources: setup"},
}

// shortFlags are the letters of options without a value, behind which others may follow:
// -QH. Behind any other letter follows its value.
const shortFlags = "HIOQksvhVuW"

// owned finds the option of ownedOptions that a word of resources.options gives. sbatch
// takes the beginning of a name for the name.
func owned(word string) (ownedOption, bool) {
	for _, o := range ownedOptions {
		if long, ok := strings.CutPrefix(word, "--"); ok {
			long, _, _ = strings.Cut(long, "=")
			if long == o.name || len(long) >= 3 && strings.HasPrefix(o.name, long) {
				return o, true
			}
			continue
		}
		if !strings.HasPrefix(word, "-") {
			continue
		}
		for i := 1; i < len(word); i++ {
			if word[i] == o.short {
				return o, true
			}
			if !strings.Contains(shortFlags, word[i:i+1]) {
				break // what follows is its value
			}
		}
	}
	return ownedOption{}, false
}

// checkOptions reports options that the launcher gives itself, and what is no option.
func (x *expansion) checkOptions(base *subject) {
	if x.resources == nil {
		return
	}
	for i, text := range x.resources.Options {
		path := fmt.Sprintf("resources.options.%d", i)
		words := strings.Fields(text)
		if len(words) == 0 || !strings.HasPrefix(words[0], "-") {
			x.fail(base, path, fmt.Sprintf("%q is no option of sbatch", text), fmt.Sprintf("options begin with a dash: write %q", "--"+strings.TrimSpace(text)))
			continue
		}
		for _, word := range words {
			if o, ok := owned(word); ok {
				x.fail(base, path, fmt.Sprintf("the option --%s of sbatch belongs to the launcher", o.name), o.hint)
				break
			}
		}
	}
}
