package slurm

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/runner/experiment"
)

// RefusedError says that Slurm has refused a submission.
type RefusedError struct {
	Text string // its own words
}

func (e *RefusedError) Error() string { return "Slurm refuses the array: " + e.Text }

// A complaint is what Slurm says of a kind of mistake, and the fields of resources that may
// be at fault, the most likely first. Where one of several that are given is at fault and
// Slurm does not say which, together is set.
type complaint struct {
	words    *regexp.Regexp
	fields   []string
	together bool
}

func of(words string, fields ...string) complaint {
	return complaint{words: regexp.MustCompile("(?i)" + words), fields: fields}
}

func ofAll(words string, fields ...string) complaint {
	c := of(words, fields...)
	c.together = true
	return c
}

// complaints are in the words of slurm_errno.c and sbatch, the more precise first. Limits of
// accounting have names, AssocMaxWallDurationPerJobLimit, on a line of their own.
var complaints = []complaint{
	of(`MaxWall`, "time"),
	of(`MaxSubmit|MaxJobs`, "workers"),
	of(`(Max|Min|Grp)\w*GRES`, "gpus", "gpuType"),
	of(`(Max|Min|Grp)\w*Cpu`, "cpus"),
	of(`(Max|Min|Grp)\w*Mem`, "memory"),
	of(`accounting/qos policy`, "qos", "account"),
	of(`time limit|--time\b`, "time"),
	of(`job array`, "workers"),
	of(`reservation`, "reservation"),
	of(`invalid qos|requested qos`, "qos"),
	of(`invalid account`, "account"),
	of(`generic resource|\bgres\b|trackable resource`, "gpuType", "gpus"),
	of(`feature|constraint`, "constraint"),
	of(`memory|--mem\b`, "memory"),
	of(`processors requested|cpu count`, "cpus"),
	of(`node name|host ?list|node list`, "exclude"),
	of(`dependenc`, "dependency"),
	of(`unrecognized option|invalid option|ambiguous|requires an argument|license`, "options"),
	of(`partition`, "partition"),
	ofAll(`node configuration|node count`, "gpuType", "gpus", "memory", "cpus", "constraint", "exclude", "partition"),
}

// Fields are those of resources that the words of a refusal are about, the most likely
// first: those whose value Slurm repeats, then those of its kind of words. None says that it
// is not known which.
func (e *RefusedError) Fields(r *experiment.Resources) []string {
	given := []struct{ name, value string }{
		{"partition", r.Partition},
		{"account", r.Account},
		{"qos", r.QOS},
		{"reservation", r.Reservation},
		{"gpuType", r.GPUType},
		{"constraint", r.Constraint},
		{"exclude", r.Exclude},
		{"dependency", r.Dependency},
		{"memory", r.Memory},
		{"mail", r.Mail},
		{"time", r.Time},
		{"gpus", positive(r.GPUs)},
		{"cpus", positive(r.CPUs)},
		{"workers", positive(r.Workers)},
	}
	has := func(name string) bool {
		return slices.ContainsFunc(given, func(g struct{ name, value string }) bool { return g.name == name && g.value != "" })
	}
	for i, text := range r.Options {
		for _, word := range strings.Fields(text) {
			name, value, _ := strings.Cut(word, "=")
			if repeats(e.Text, name) || value != "" && repeats(e.Text, value) {
				return []string{fmt.Sprintf("options.%d", i)}
			}
		}
	}
	for _, g := range given {
		if _, err := strconv.Atoi(g.value); err != nil && g.value != "" && repeats(e.Text, g.value) {
			return []string{g.name}
		}
	}
	for _, c := range complaints {
		if !c.words.MatchString(e.Text) {
			continue
		}
		// What options ask for takes the place of the field.
		for i, text := range r.Options {
			for _, word := range strings.Fields(text) {
				name, _, _ := strings.Cut(word, "=")
				if field := asField[name]; !c.together && slices.Contains(c.fields, field) {
					return []string{fmt.Sprintf("options.%d", i)}
				}
			}
		}
		if !c.together {
			return c.fields
		}
		fields := slices.DeleteFunc(slices.Clone(c.fields), func(name string) bool { return !has(name) })
		if len(fields) == 1 {
			return fields
		}
		return nil
	}
	return nil
}

// asField are the fields that options of sbatch are another form of.
var asField = map[string]string{
	"--gres": "gpus", "--gpus": "gpus", "-G": "gpus", "--gpus-per-node": "gpus", "--gpus-per-task": "gpus", "--mem": "memory", "--mem-per-cpu": "memory", "--mem-per-gpu": "memory",
	"--cpus-per-task": "cpus", "-c": "cpus", "--partition": "partition", "-p": "partition", "--account": "account", "-A": "account", "--qos": "qos", "-q": "qos",
	"--constraint": "constraint", "-C": "constraint", "--exclude": "exclude", "-x": "exclude", "--reservation": "reservation", "--dependency": "dependency", "-d": "dependency",
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// repeats reports whether a text has a word, whole.
func repeats(text, word string) bool {
	return regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(word) + `($|[^\w-])`).MatchString(text)
}

// Hint is what a user can type to see what a field of resources may have here.
func Hint(field string) string {
	field, _, _ = strings.Cut(field, ".")
	switch field {
	case "partition":
		return `"sinfo" lists the partitions`
	case "account", "qos":
		return `"sacctmgr show associations user=$USER format=account,partition,qos" lists yours`
	case "reservation":
		return `"scontrol show reservation" lists them`
	case "time":
		return `"sinfo --format='%P %l'" lists the limits of the partitions`
	case "gpus", "gpuType":
		return `"sinfo --format='%P %G'" lists the GPUs of the partitions`
	case "memory":
		return `"sinfo --format='%P %m'" lists the memory of nodes, in megabytes`
	case "cpus":
		return `"sinfo --format='%P %c'" lists the processors of nodes`
	case "constraint":
		return `"sinfo --format='%P %f'" lists the features of nodes`
	case "exclude":
		return `"sinfo --Node" lists the nodes`
	case "workers":
		return "ask for fewer workers, or wait until other jobs of yours have ended"
	case "dependency":
		return `"squeue --me" lists your jobs`
	case "options":
		return `"sbatch --help" lists the options`
	}
	return `"sinfo --format='%P %l %c %m %G %f'" lists what the partitions have`
}
