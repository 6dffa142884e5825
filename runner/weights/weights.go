// Package weights opens trained weights from elsewhere: a
// directory of `runner export`, or that of a run, from an archive that was
// unpacked. Neither the project nor the store that they come from is needed.
//
// The engine knows one form of trained weights, the directory of a run. So a
// place is made that passes for one: what is the directory's is checked against
// the digests that it came with and put there as a checkpoint. Nothing is
// written into the directory itself.
//
// An adapter for PEFT goes on as the run that it is of, over the same backbone,
// and gives the same numbers bit for bit. A merged backbone is a model of its
// own, without adapters and with an identity of its own; it is computed in fp32,
// because in bf16 most of a small update would be rounded away.
package weights

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// Model is trained weights for the engine.
type Model struct {
	// Request asks for nothing yet. Its Places name the run's directory, the
	// backbone only where the weights bring it.
	Request *spec.RunRequest
	// Checkpoint is which of its weights are meant: best or last.
	Checkpoint string
}

// Is reports whether path is a directory that Open has an opinion of: it holds
// files of an export or of a run. Others may be what they like.
func Is(path string) bool {
	return slices.ContainsFunc([]string{spec.ExportedFile, rundir.Request, "adapter_config.json", "config.json"}, func(name string) bool {
		_, err := os.Stat(filepath.Join(path, name))
		return err == nil
	})
}

// Open checks the files of a directory and makes at place, an empty directory,
// what the engine takes for a run. Checkpoint is best or last, "" for the weights that
// were exported, or the best of a run.
func Open(dir, place, checkpoint string) (*Model, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	open := openExport
	if _, err := os.Stat(filepath.Join(dir, rundir.Request)); err == nil {
		open = openRun
	}
	m, err := open(dir, place, checkpoint)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", dir, err)
	}
	if of := m.Request.GetSpec().GetRevision(); !spec.Readable(of) {
		return nil, fmt.Errorf("%s is of revision %d of the engine's arithmetic, and this loralab computes revision %d: use the loralab that made it", dir, of, spec.Revision)
	}
	m.Request.Train, m.Request.Evaluations = false, nil
	return m, nil
}

// again ends the sentences about what cannot be used.
const again = "write it again with `runner export`, where the run is"

func openExport(dir, place, asked string) (*Model, error) {
	about := &spec.Exported{}
	err := read(filepath.Join(dir, spec.ExportedFile), about)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("it has no %s, which says what head, classes and sizes belong to the weights: it was not written by `runner export`, or was changed; %s", spec.ExportedFile, again)
	case err != nil:
		return nil, err
	case len(about.GetFiles()) == 0 || len(about.GetState()) == 0:
		return nil, fmt.Errorf("its %s does not list its files: loralab %s, which wrote it, did not do so yet; %s", spec.ExportedFile, about.GetLoralab(), again)
	case !whole(about.GetSpec()):
		return nil, fmt.Errorf("its %s has no complete specification of the run; %s", spec.ExportedFile, again)
	}
	file, ok := rundir.Checkpoint(about.Checkpoint)
	if !ok {
		return nil, fmt.Errorf("its %s names the checkpoint %q, which is not one of best, last", spec.ExportedFile, about.Checkpoint)
	}
	if asked != "" && asked != about.Checkpoint {
		return nil, fmt.Errorf("it has only the %s weights: write others with `runner export --checkpoint %s`, where the run is", about.Checkpoint, asked)
	}
	if err := check(dir, about.Files); err != nil {
		return nil, err
	}
	r := &spec.RunRequest{Spec: about.Spec, Label: about.Label, Places: &spec.Places{RunDir: place}}
	if r.Label == nil {
		r.Label = &spec.Label{}
	}
	weights := []part{{"head.", spec.ExportedHeadFile}}
	switch about.Format {
	case spec.ExportedPEFT:
		r.Spec.Adapter = &spec.Adapter{}
		if err := read(filepath.Join(dir, spec.ExportedProgramFile), r.Spec.Adapter); err != nil {
			return nil, err
		}
		if r.Id = spec.Identity(r.Spec); r.Id != about.Run {
			return nil, fmt.Errorf("its specification is that of run %.12s and not of %.12s: %s and %s do not belong together, or are of a newer loralab; %s",
				r.Id, about.Run, spec.ExportedFile, spec.ExportedProgramFile, again)
		}
		weights = append(weights, part{"adapter.", spec.ExportedAdapterFile})
	case spec.ExportedMerged:
		r.Spec = merged(r.Spec, about.Files[spec.ExportedWeightFile])
		r.Id = spec.Identity(r.Spec)
		r.Places.Backbone = filepath.Join(dir, spec.ExportedWeightFile)
	default:
		return nil, fmt.Errorf("its %s names the format %q, which this loralab does not know; use a newer one", spec.ExportedFile, about.Format)
	}
	if err := checkpoint(rundir.Dir(place).Path(file), dir, weights, rundir.AsOf(r.Id, about.State)); err != nil {
		return nil, err
	}
	step := uint64(about.Step)
	return &Model{Request: r, Checkpoint: about.Checkpoint}, finished(place, &spec.Summary{Id: r.Id, BestStep: step, Steps: step})
}

// whole reports whether a specification has all parts that the engine reads.
func whole(s *spec.RunSpec) bool {
	return s.GetBackbone().GetArch() != nil && s.GetHead() != nil && s.GetData() != nil && s.GetOptim() != nil && s.GetTrain() != nil
}

// merged is the specification that a merged backbone would have been trained
// by: all but the head is in its weights.
func merged(s *spec.RunSpec, digest string) *spec.RunSpec {
	s = proto.CloneOf(s)
	s.Adapter, s.Optim.Rules = nil, nil // which name tensors that are gone
	s.Backbone.Digest = digest
	if s.Backbone.Depth > 0 {
		s.Backbone.Arch.Depth = s.Backbone.Depth // others were left out
	}
	s.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_ALL}
	s.Train.Precision = "fp32"
	return s
}

// check holds the files of a directory against the digests that they had, and
// names all that differ.
func check(dir string, files map[string]string) error {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("its %s lists %q, which is not in the directory", spec.ExportedFile, name)
		}
		sum, err := filehash.Of(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, name+" is missing")
		case err != nil:
			return err
		case sum != files[name]:
			faults = append(faults, fmt.Sprintf("%s is not as it was written: its SHA-256 is %.12s and not %.12s", name, sum, files[name]))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("its files cannot be used:\n  %s\n%s", strings.Join(faults, "\n  "), again)
	}
	return nil
}

// part is a file of tensors, and how their names begin in a checkpoint.
type part struct{ prefix, file string }

// checkpoint puts the tensors of files together.
func checkpoint(to, dir string, parts []part, state map[string]string) (err error) {
	var tensors []safetensors.Tensor
	for _, p := range parts {
		f, err := safetensors.Open(filepath.Join(dir, p.file))
		if err != nil {
			return err
		}
		// Its tensors are of the file, which is mapped, until they are written.
		defer f.Close()
		for _, name := range f.Names() {
			t, _ := f.Get(name)
			t.Name = p.prefix + name
			tensors = append(tensors, t)
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	_, err = safetensors.WriteSealed(to, tensors, state)
	return err
}

// finished says at place that a run is trained.
func finished(place string, s *spec.Summary) error {
	s.Digest = spec.SealedDigest(s)
	text, err := rundir.MarshalFile(s)
	if err != nil {
		return err
	}
	return os.WriteFile(rundir.Dir(place).Path(rundir.Result), text, 0o666)
}

// openRun is for the directory of a run. Its checkpoint is linked to: the engine writes
// scores and pictures next to it, which belong to the place.
func openRun(dir, place, asked string) (*Model, error) {
	r := &spec.RunRequest{}
	if err := read(filepath.Join(dir, rundir.Request), r); err != nil {
		return nil, err
	}
	if id := spec.Identity(r.GetSpec()); spec.Readable(r.GetSpec().GetRevision()) && id != r.GetId() {
		return nil, fmt.Errorf("its specification is that of run %.12s and not of %.12s: %s was changed, or a newer loralab wrote it", id, r.GetId(), rundir.Request)
	}
	if !whole(r.GetSpec()) {
		return nil, fmt.Errorf("its %s has no complete specification of the run", rundir.Request)
	}
	if r.Label == nil {
		r.Label = &spec.Label{}
	}
	run := rundir.Run{Dir: rundir.Dir(dir), ID: r.GetId(), Revision: r.GetSpec().GetRevision()}
	summary, err := run.Summary()
	if err != nil {
		return nil, err
	}
	if summary == nil {
		return nil, fmt.Errorf("it has no %s: the run is not trained to its end", rundir.Result)
	}
	r.Places = &spec.Places{RunDir: place}
	m := &Model{Request: r, Checkpoint: cmp.Or(asked, rundir.BestName)}
	file, ok := rundir.Checkpoint(m.Checkpoint)
	if !ok {
		return nil, fmt.Errorf("the checkpoint %q is not one of best, last", m.Checkpoint)
	}
	if err := sound(run, file, summary); err != nil {
		return nil, fmt.Errorf("%w%s", err, instead(run, m.Checkpoint, summary))
	}
	to := rundir.Dir(place).Path(file)
	if err := errors.Join(os.Mkdir(filepath.Dir(to), 0o777), os.Symlink(run.Path(file), to)); err != nil {
		return nil, err
	}
	return m, finished(place, summary)
}

// sound checks a checkpoint where it is: the engine knows it by another path.
func sound(run rundir.Run, file string, s *spec.Summary) error {
	f, err := run.Checkpoint(file)
	var damaged *rundir.DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("it has no %s", file)
	case errors.As(err, &damaged):
		return fmt.Errorf("its %s is damaged: %w", file, damaged.Err)
	case err != nil:
		return err
	}
	defer f.Close()
	if sum := s.GetFiles()[file]; sum != "" && sum != f.Sum() {
		return fmt.Errorf("its %s is damaged: it is not the one that %s was written with", file, rundir.Result)
	}
	return nil
}

// instead ends the error of a checkpoint that cannot be used.
func instead(run rundir.Run, name string, s *spec.Summary) string {
	for _, other := range []string{rundir.BestName, rundir.LastName} {
		if file, _ := rundir.Checkpoint(other); other != name && sound(run, file, s) == nil {
			return fmt.Sprintf("; the %s weights are whole: --checkpoint %s takes them", other, other)
		}
	}
	return "; copy the directory again from where the run is"
}

// read reads a message from JSON.
func read(path string, m proto.Message) error {
	text, err := regular.Read(path, 1<<30)
	if err != nil {
		return err
	}
	if err := rundir.Unmarshal(text, m); err != nil {
		return fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return nil
}
