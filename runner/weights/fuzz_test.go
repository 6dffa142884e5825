package weights

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

// exportOf writes a directory with tensors and the given JSON files.
func exportOf(t testing.TB, about, adapter []byte) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(spec.ExportedFile, about)
	write(spec.ExportedProgramFile, adapter)
	for name, tensor := range map[string]string{spec.ExportedHeadFile: "conv.weight", spec.ExportedAdapterFile: "blocks.0.query.A", spec.ExportedWeightFile: "layernorm.weight"} {
		err := safetensors.Write(filepath.Join(dir, name), []safetensors.Tensor{safetensors.FromFloat32(tensor, []float32{1, 2}, 2, 1)}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// vouched is a loralab.json whose digests and identity are those of the files,
// so that what follows is reached. A text that is no message stays as it is.
func vouched(t testing.TB, about, adapter []byte) []byte {
	t.Helper()
	e, a := &spec.Exported{}, &spec.Adapter{}
	read := protojson.UnmarshalOptions{DiscardUnknown: true}
	if read.Unmarshal(about, e) != nil || read.Unmarshal(adapter, a) != nil || e.Spec == nil {
		return about
	}
	dir := exportOf(t, nil, adapter)
	for name := range e.Files {
		if sum, err := filehash.Of(filepath.Join(dir, filepath.Base(name))); err == nil {
			e.Files[name] = sum
		}
	}
	s := proto.CloneOf(e.Spec)
	s.Adapter = a
	e.Run = spec.Identity(s)
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return about
	}
	return text
}

// seed is an export as it is written.
func seed(format string) *spec.Exported {
	return &spec.Exported{
		Loralab: "v1", Format: format, Checkpoint: "best", Step: 3, Label: &spec.Label{Backbone: "./vit"},
		Spec: &spec.RunSpec{
			Revision: spec.Revision, Backbone: &spec.Backbone{Arch: &spec.Architecture{Family: "vit", Dim: 4, Depth: 3}, Depth: 1},
			Head: &spec.Head{Kind: "linear"}, Data: &spec.Data{Classes: []string{"a", "b"}, Height: 16, Width: 16},
			Optim: &spec.Optim{Kind: "adamw"}, Train: &spec.Train{Batch: 1, Precision: "bf16"},
		},
		Files: map[string]string{spec.ExportedHeadFile: "", spec.ExportedProgramFile: "", spec.ExportedAdapterFile: ""},
		State: map[string]string{"step": "3"},
	}
}

// Whatever an exported directory says of itself, it is a whole run for the
// engine, or an error.
func FuzzExported(f *testing.F) {
	adapter, err := protojson.Marshal(&spec.Adapter{
		Programs: []*protocol.Program{{
			Version: 1, Output: 1, Params: []*protocol.Param{{Name: "A", Shape: []int64{2, 1}}},
			Nodes: []*protocol.Node{{Op: protocol.Op_X}, {Op: protocol.Op_BASE, Inputs: []uint32{0}}},
		}},
		Placements: []*spec.Placement{{Site: &protocol.Site{Name: "query", In: 4, Out: 4}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	add := func(e *spec.Exported) {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, adapter)
	}
	add(seed(spec.ExportedPEFT))
	merged := seed(spec.ExportedMerged)
	merged.Files[spec.ExportedWeightFile] = ""
	add(merged)
	outside := seed(spec.ExportedPEFT)
	outside.Files["../"+spec.ExportedHeadFile] = ""
	add(outside)
	headless := seed(spec.ExportedPEFT)
	headless.Spec.Head = nil
	add(headless)
	f.Add([]byte(`{"spec": {}, "files": {"head.safetensors": ""}, "state": {"step": "1"}}`), []byte(`{"placements": [null]}`))
	f.Add([]byte(`{`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, about, adapter []byte) {
		dir, place := exportOf(t, vouched(t, about, adapter), adapter), t.TempDir()
		m, err := Open(dir, place, "")
		if err != nil {
			return
		}
		s := m.Request.GetSpec()
		if s.GetBackbone().GetArch() == nil || s.GetHead() == nil || s.GetData() == nil || s.GetOptim() == nil || s.GetTrain() == nil || m.Request.GetLabel() == nil {
			t.Errorf("the specification is not complete: %v", s)
		}
		if m.Request.GetId() != spec.Identity(s) {
			t.Errorf("run %s has the specification of %s", m.Request.GetId(), spec.Identity(s))
		}
		if m.Request.GetPlaces().GetRunDir() != place {
			t.Errorf("it lies at %v with %v", m.Request.GetPlaces(), m.Checkpoint)
		}
		if _, err := os.Stat(filepath.Join(place, rundir.Checkpoints, m.Checkpoint+".safetensors")); err != nil {
			t.Error(err)
		}
	})
}
