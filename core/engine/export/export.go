// Package export writes a trained run for other tools: as the files that PEFT
// loads, or merged into the backbone as transformers loads it. What those tools
// have no place for lies beside: the segmentation head, the adapter programs,
// and where all of it comes from.
package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
)

// Run writes what req asks for into req.Out, an empty directory. What it leaves
// there after an error means nothing.
func Run(ctx context.Context, dev *torch.Device, req *spec.ExportRequest) (*spec.ExportReply, error) {
	if err := check(req); err != nil {
		return nil, err
	}
	x, err := open(dev, req.Run, req.Checkpoint)
	if err != nil {
		return nil, err
	}
	defer x.file.Close()
	x.req = req
	if x.version = int(req.Transformers); x.version == 0 {
		x.version = design.Newest
	}
	write := x.peft
	if req.Format == spec.ExportRequest_MERGED {
		write = x.merged
	}
	if err := write(ctx); err != nil {
		return nil, err
	}
	if err := x.extras(x.file.Metadata()); err != nil {
		return nil, err
	}
	slices.Sort(x.reply.Files)
	return x.reply, nil
}

func check(req *spec.ExportRequest) error {
	if err := checkRun(req.GetRun(), req.GetCheckpoint()); err != nil {
		return err
	}
	switch {
	case req.Out == "":
		return errors.New("a place is missing")
	case req.Format != spec.ExportRequest_MERGED && req.Format != spec.ExportRequest_PEFT:
		return fmt.Errorf("unknown format %v", req.Format)
	case req.Transformers != 0 && !slices.Contains(design.Versions, int(req.Transformers)):
		return fmt.Errorf("names of transformers %d are not known, only those of %v", req.Transformers, design.Versions)
	}
	if files, err := os.ReadDir(req.Out); err != nil {
		return err
	} else if len(files) > 0 {
		return fmt.Errorf("%s is not empty", req.Out)
	}
	return nil
}

// export is one export while it is written.
type export struct {
	dev     *torch.Device
	req     *spec.ExportRequest
	run     *spec.RunRequest
	spec    *spec.RunSpec
	path    string            // of the checkpoint
	file    *safetensors.File // the same; parts are of it
	version int               // of transformers
	// The trained tensors by part: "adapter", "head", "backbone"; named without
	// it.
	parts map[string][]safetensors.Tensor
	reply *spec.ExportReply
}

// open reads the weights of a run.
func open(dev *torch.Device, run *spec.RunRequest, checkpoint string) (*export, error) {
	x := &export{
		dev: dev, run: run, spec: run.Spec,
		parts: map[string][]safetensors.Tensor{}, reply: &spec.ExportReply{},
	}
	of := rundir.Of(run)
	name, _ := rundir.Checkpoint(checkpoint) // was checked
	x.path = of.Path(name)
	summary, err := of.Summary()
	if err != nil {
		return nil, fmt.Errorf("reading the result: %w; %s", err, of.Cure())
	}
	if x.file, err = of.Weights(name, summary); err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	if err := x.read(x.file); err != nil {
		x.file.Close()
		return nil, fmt.Errorf("reading the checkpoint %s: %w", x.path, err)
	}
	return x, nil
}

// read sorts the tensors of a checkpoint by part; the optimiser's are left. Where
// a running mean of the weights was kept, that is what was scored, and is what
// is exported.
func (x *export) read(f *safetensors.File) error {
	for _, name := range f.Names() {
		t, _ := f.Get(name)
		if mean, ok := f.Get("average." + name); ok {
			t = mean
		}
		part, rest, _ := strings.Cut(name, ".")
		switch part {
		case "adapter", "head", "backbone":
			if err := finite(t); err != nil {
				return err
			}
			t.Name = rest
			x.parts[part] = append(x.parts[part], t)
		}
	}
	return nil
}

// finite refuses a tensor with values that are no numbers: other tools load it
// without a word.
func finite(t safetensors.Tensor) error {
	if t.DType == safetensors.I64 {
		return nil
	}
	values, err := t.Float32()
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	n := 0
	for _, v := range values {
		if v != v || math.IsInf(float64(v), 0) {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of the %d values of %s are infinite or no numbers (NaN): there is nothing to export", n, len(values), t.Name)
	}
	return nil
}

// adapters makes the run's adapters over its backbone in fp64, with the
// checkpoint's values. It is called inside dev.Do.
func (x *export) adapters(m *vit.Model) (*adapter.Set, error) {
	set, err := adapter.New(x.dev, x.model(), x.spec.Adapter, torch.Float64, x.spec.Seed, func(site *protocol.Site) vit.Linear {
		return m.Pretrained(int(site.Block), site.Name)
	})
	if err != nil {
		return nil, err
	}
	if err := set.Assign(x.parts["adapter"]); err != nil {
		set.Free()
		return nil, fmt.Errorf("%s: %w", x.path, err)
	}
	return set, nil
}

// model is the backbone as programs know it.
func (x *export) model() *protocol.Model {
	b := x.spec.Backbone
	return &protocol.Model{Family: b.Arch.Family, Dim: b.Arch.Dim, Depth: b.Depth, Heads: b.Arch.Heads, Mlp: b.Arch.Mlp}
}

func (x *export) out(name string) string {
	x.reply.Files = append(x.reply.Files, name)
	return filepath.Join(x.req.Out, name)
}

func (x *export) tensors(name string, ts []safetensors.Tensor) error {
	return safetensors.Write(x.out(name), ts, map[string]string{"format": "pt"})
}

// json writes a value as PEFT and transformers do: keys sorted, two spaces.
func (x *export) json(name string, value any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return replacefile.Write(x.out(name), b.Bytes())
}

// object is a message as a JSON object.
func object(m proto.Message) (map[string]any, error) {
	b, err := rundir.Marshal(m)
	if err != nil {
		return nil, err
	}
	var o map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return o, d.Decode(&o)
}

// extras writes what the format has no place for.
func (x *export) extras(checkpoint map[string]string) error {
	if err := x.tensors(spec.ExportedHeadFile, x.parts["head"]); err != nil {
		return err
	}
	if len(x.spec.Adapter.GetPlacements()) > 0 && x.req.Format == spec.ExportRequest_PEFT {
		o, err := object(x.spec.Adapter)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", spec.ExportedProgramFile, err)
		}
		if err := x.json(spec.ExportedProgramFile, o); err != nil {
			return err
		}
		if err := x.tensors(spec.ExportedAdapterFile, x.parts["adapter"]); err != nil {
			return err
		}
	}
	return x.about(checkpoint)
}

// about writes loralab.json, which vouches for the other files.
func (x *export) about(checkpoint map[string]string) error {
	step, err := rundir.StepOf(checkpoint)
	if err != nil {
		return fmt.Errorf("reading the checkpoint %s: %w", x.path, err)
	}
	e := &spec.Exported{
		Loralab: spec.Version(), Format: spec.ExportedPEFT, Run: x.run.Id, Label: x.run.Label,
		Spec: proto.CloneOf(x.spec), Checkpoint: x.req.Checkpoint, Step: uint32(step),
		Classes: classes(x.spec.Data), Files: map[string]string{}, State: checkpoint,
	}
	if x.req.Format == spec.ExportRequest_MERGED {
		e.Format = spec.ExportedMerged
	}
	e.Spec.Adapter = nil // it has a file of its own
	for _, name := range x.reply.Files {
		if e.Files[name], err = filehash.Of(filepath.Join(x.req.Out, name)); err != nil {
			return err
		}
	}
	o, err := object(e)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", spec.ExportedFile, err)
	}
	return x.json(spec.ExportedFile, o)
}

// classes are those of the head, with what they are in files.
func classes(d *spec.Data) []*spec.ExportedClass {
	out := make([]*spec.ExportedClass, len(d.Classes))
	for i, name := range d.Classes {
		c := data.ClassColor(byte(i))
		out[i] = &spec.ExportedClass{Name: name, Colour: fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)}
	}
	for _, value := range slices.Sorted(maps.Keys(d.Values)) {
		if class := d.Values[value]; class >= 0 {
			out[class].Values = append(out[class].Values, value)
		}
	}
	return out
}
