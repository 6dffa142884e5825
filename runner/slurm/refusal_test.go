package slurm

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
)

// The words are those that Slurm 20.11 to 24.05 have, with what sbatch says before them.
func TestFieldsOfRefusals(t *testing.T) {
	r := &experiment.Resources{
		Time: "4h", Workers: 8, Partition: "gpu", Account: "broke", QOS: "long", GPUs: 1, GPUType: "a100", CPUs: 8, Memory: "99G",
		Constraint: "fast", Options: []string{"--nice", "--licenses=matlab --nonsense=1"},
	}
	for _, test := range []struct {
		words string
		want  []string
	}{
		{"invalid partition specified: gpu; Batch job submission failed: Invalid partition name specified", []string{"partition"}},
		{"account broke has no hours left, write to hours@example.org; Batch job submission failed: Unspecified error", []string{"account"}},
		{"Batch job submission failed: Invalid account or account/partition combination specified", []string{"account"}},
		{"Batch job submission failed: Invalid qos specification", []string{"qos"}},
		{"QOSMaxWallDurationPerJobLimit; Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", []string{"time"}},
		{"AssocMaxSubmitJobLimit; Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", []string{"workers"}},
		{"QOSMaxGRESPerUser; Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", []string{"gpus", "gpuType"}},
		{"Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", []string{"qos", "account"}},
		{"Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)", []string{"time"}},
		{"Batch job submission failed: Invalid generic resource (gres) specification", []string{"gpuType", "gpus"}},
		{"Batch job submission failed: Invalid Trackable RESource (TRES) specification", []string{"gpuType", "gpus"}},
		{"Batch job submission failed: Invalid feature specification", []string{"constraint"}},
		{"Memory specification can not be satisfied; Batch job submission failed: Requested node configuration is not available", []string{"memory"}},
		{"CPU count per node can not be satisfied; Batch job submission failed: Requested node configuration is not available", []string{"cpus"}},
		{"Batch job submission failed: Requested reservation is invalid", []string{"reservation"}},
		{"Batch job submission failed: Job dependency problem", []string{"dependency"}},
		{"Batch job submission failed: Invalid node name specified", []string{"exclude"}},
		{"Batch job submission failed: User's group not permitted to use this partition", []string{"partition"}},
		{"unrecognized option '--nonsense=1'", []string{"options.1"}},
		{"Batch job submission failed: Invalid license specification", []string{"options"}},
		// Several of what it asks for may be at fault.
		{"Batch job submission failed: Requested node configuration is not available", nil},
		{"Batch job submission failed: Something of a later version", nil},
	} {
		if got := (&RefusedError{test.words}).Fields(r); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.words, got, test.want)
		}
	}
	other := &experiment.Resources{Time: "4h", Workers: 8, Memory: "99999999999999999999G", Options: []string{"--nice", "--gres=gpu:1"}}
	for words, want := range map[string][]string{
		"Batch job submission failed: Invalid generic resource (gres) specification": {"options.1"},
		"Invalid --mem specification": {"memory"},
		"Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)": {"time"},
	} {
		if got := (&RefusedError{words}).Fields(other); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", words, got, want)
		}
	}
	least := &experiment.Resources{Time: "4h", Workers: 8, GPUs: 1}
	if got := (&RefusedError{"Batch job submission failed: Requested node configuration is not available"}).Fields(least); !slices.Equal(got, []string{"gpus"}) {
		t.Errorf("of one that may be at fault: %v", got)
	}
}
