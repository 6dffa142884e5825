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
