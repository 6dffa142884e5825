// Package rundir is the directory of a run: the contract between runner and engine.
// It names the files, and has the form of what is in them.
//
//	record.json          runner: names, state, attempts, times, specification
//	request.json         engine: the last request, spec.RunRequest
//	metrics.jsonl        engine: one spec.Event a line
//	checkpoints/         engine: last, to continue from; best, to be scored
//	adapter.safetensors  engine: the best adapter; its programs are in program.json
//	head.safetensors     engine: the best head
//	evaluations/*.json   engine: one spec.Evaluated each
//	samples/*.png        engine: one sheet for each evaluation; of validations image,
//	                     truth and prediction
//	result.json          engine: spec.Summary, written last
//	log.txt              runner: standard error of the engine
//	environment.json     runner: what made the run, by attempt
//	dirty.patch          runner: changes of the project that were not committed
//	lock                 held by the engine that works in the directory
//
// docs/help/files.md says the same to users. Nothing that is read is believed before
// it is verified: checkpoints and results carry digests of their content, and a
// result lists the digests of the files that belong to it.
package rundir

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/loralab/loralab/core/filename"
)

// Files of a run directory, by their path in it, with slashes.
const (
	Record      = "record.json"
	Request     = "request.json"
	Result      = "result.json"
	Journal     = "metrics.jsonl"
	Log         = "log.txt"
	Environment = "environment.json"
	Lock        = "lock"

	Last = Checkpoints + "/" + LastName + checkpointEnd
	Best = Checkpoints + "/" + BestName + checkpointEnd
	// NextBest is the best checkpoint until the last one is written, which names it
	// by its seal: at any moment there is a pair that belongs together.
	NextBest = Checkpoints + "/" + BestName + ".next" + checkpointEnd

	// The best weights, for other programs.
	Adapter = "adapter.safetensors"
	Program = "program.json"
	Head    = "head.safetensors"

	// DamagedJournal is a journal that could not be continued.
	DamagedJournal = "metrics.damaged.jsonl"
)

// Directories in a run directory.
const (
	Checkpoints = "checkpoints"
	Evaluations = "evaluations"
	Samples     = "samples"
)

// Names of checkpoints, as experiments and requests have them.
const (
	BestName = "best"
	LastName = "last"

	checkpointEnd = ".safetensors"
)

// Checkpoint is the file of the checkpoint best or last. It reports false for any
// other name.
func Checkpoint(name string) (file string, ok bool) {
	switch name {
	case BestName:
		return Best, true
	case LastName:
		return Last, true
	}
	return "", false
}

// Evaluation is the file of an evaluation with an identity.
func Evaluation(id string) string { return Evaluations + "/" + Short(id) + ".json" }

// Sample is the file of the samples of an evaluation, which is found by its domain
// and is its own by its identity: experiments that share a run may use one name for
// different images.
func Sample(domain, id string) string {
	return Samples + "/" + filename.Of(domain) + "-" + Short(id) + ".png"
}

// FindSample is the path of the samples of an evaluation: Sample, or the file that has
// only the domain in its name, as loralab wrote it before. It is "" if there is none.
func (d Dir) FindSample(domain, id string) string {
	for _, name := range []string{Sample(domain, id), Samples + "/" + filename.Of(domain) + ".png"} {
		if path := d.Path(name); fileExists(path) {
			return path
		}
	}
	return ""
}

// ValidationImage is the file of an image of the validation split, counted from 1, as
// the model sees it.
func ValidationImage(n int) string { return fmt.Sprintf("%s/validation-%d-image.png", Samples, n) }

// ValidationTruth is the file of the mask of such an image. The index of a pixel in the
// palette is its class.
func ValidationTruth(n int) string { return fmt.Sprintf("%s/validation-%d-truth.png", Samples, n) }

// ValidationPrediction is the file of what was predicted of such an image at a step, a
// mask as well.
func ValidationPrediction(n int, step uint64) string {
	return fmt.Sprintf("%s/validation-%d-step-%d.png", Samples, n, step)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Patch is the n-th file with changes that were not committed, counted from 1.
func Patch(n int) string {
	if n == 1 {
		return "dirty.patch"
	}
	return fmt.Sprintf("dirty-%d.patch", n)
}

// IsPatch reports whether a file is a Patch.
func IsPatch(name string) bool { return patch.MatchString(name) }

var patch = regexp.MustCompile(`^dirty(-[0-9]+)?\.patch$`)

// Short is the part of an identity that names files and directories.
func Short(id string) string { return id[:min(12, len(id))] }

// Dir is the path of a run directory.
type Dir string

// Path is the path of a file in the directory.
func (d Dir) Path(file string) string { return filepath.Join(string(d), filepath.FromSlash(file)) }
