package wandb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// sentConfig is the configuration as the server wants it: every value in an object, and
// the definitions of metrics under _wandb.
func (p *replay) sentConfig() tree {
	client := tree{}
	client.under(p.config.copyOf("_wandb"))
	telemetry := tree{}
	if p.telemetry != nil {
		// The server takes a run as begun if there is a key "t".
		for key, v := range map[string]string{"4": p.telemetry.PythonVersion, "5": p.telemetry.CLIVersion, "12": p.telemetry.CoreVersion, "13": p.telemetry.Platform} {
			if v != "" {
				text, _ := encode(v)
				telemetry[key] = raw(text)
			}
		}
	}
	client["t"] = telemetry
	if len(p.metrics) > 0 {
		text, _ := encode(sentMetrics(p.metrics))
		client["m"] = raw(text)
	}
	if e := p.environment; e != nil {
		text, _ := encode(map[string]any{cmpOr(e.WriterID, "loralab"): metadata(e, p.run)})
		client["e"] = raw(text)
	}
	sent := tree{}
	for k, v := range p.config {
		if k != "_wandb" {
			sent[k] = tree{"value": v}
		}
	}
	sent["_wandb"] = tree{"value": client}
	return sent
}

// sentMetrics are definitions of metrics with the numbers of their fields as keys. 5 is the
// place of the step metric in the list, from 1 on.
func sentMetrics(metrics []*wandblog.Metric) (list []map[string]any) {
	for _, m := range metrics {
		numbers := func(flags ...bool) []int {
			set := []int{}
			for i, f := range flags {
				if f {
					set = append(set, i+1)
				}
			}
			return set
		}
		var o wandblog.MetricOptions
		if m.Options != nil {
			o = *m.Options
		}
		var s wandblog.MetricSummary
		if m.Summary != nil {
			s = *m.Summary
		}
		sent := map[string]any{
			"6": numbers(o.StepSync, o.Hidden, o.Defined),
			"7": numbers(s.Min, s.Max, s.Mean, s.Best, s.Last, s.None, false, s.First),
		}
		if m.Name != "" {
			sent["1"] = m.Name
		} else {
			sent["2"] = m.Glob
		}
		if i := slices.IndexFunc(metrics, func(o *wandblog.Metric) bool { return m.StepMetric != "" && o.Name == m.StepMetric }); i >= 0 {
			sent["5"] = i + 1
		} else if m.StepMetric != "" {
			sent["4"] = m.StepMetric
		}
		if m.Goal != 0 {
			sent["8"] = m.Goal
		}
		list = append(list, sent)
	}
	return list
}

// metadata is what wandb-metadata.json holds.
func metadata(e *wandblog.Environment, run *wandblog.Run) map[string]any {
	m := map[string]any{}
	for key, v := range map[string]any{
		"os": e.OS, "python": e.Python, "docker": e.Docker, "program": e.Program, "codePath": e.CodePath,
		"email": e.Email, "root": e.Root, "host": e.Host, "username": e.Username, "executable": e.Executable,
		"cpu_count": e.CPUCount, "cpu_count_logical": e.CPUCountLogical, "gpu": e.GPUType, "gpu_count": e.GPUCount,
		"cudaVersion": e.CUDAVersion, "writerId": e.WriterID,
	} {
		if v != "" && v != int64(0) {
			m[key] = v
		}
	}
	if len(e.Args) > 0 {
		m["args"] = e.Args
	}
	if e.StartedAt != nil {
		m["startedAt"] = e.StartedAt.Time().UTC().Format(time.RFC3339Nano)
	}
	git := e.Git
	if git == nil && run != nil {
		git = run.Git
	}
	if git != nil {
		m["git"] = map[string]any{"remote": git.Remote, "commit": git.Commit}
	}
	if e.Memory != nil {
		m["memory"] = map[string]any{"total": strconv.FormatUint(e.Memory.Total, 10)}
	}
	if len(e.Slurm) > 0 {
		m["slurm"] = e.Slurm
	}
	var gpus []map[string]any
	for _, g := range e.GPUs {
		gpus = append(gpus, map[string]any{
			"name": g.Name, "memoryTotal": strconv.FormatUint(g.MemoryTotal, 10), "cudaCores": g.CUDACores,
			"architecture": g.Architecture, "uuid": g.UUID,
		})
	}
	if gpus != nil {
		m["gpu_nvidia"] = gpus
	}
	return m
}

// configYAML is the content of config.yaml: JSON is YAML.
func (p *replay) configYAML() string {
	sent := p.sentConfig()
	keys := make([]string, 0, len(sent))
	for k := range sent {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out strings.Builder
	for _, k := range keys {
		name, _ := encode(k)
		value := sent[k].(tree)["value"]
		fmt.Fprintf(&out, "%s:\n    value: ", name)
		switch v := value.(type) {
		case tree:
			out.WriteString(v.String())
		case raw:
			out.WriteString(string(v))
		}
		out.WriteString("\n")
	}
	return out.String()
}
