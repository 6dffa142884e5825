package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
)

// The files of a backbone.
const (
	configFile       = "config.json"
	weightFile       = spec.ExportedWeightFile
	preprocessorFile = "preprocessor_config.json"
)

// magnified is by how much more than a layer the whole backbone may differ.
const magnified = 100

// checkImages is how many random images go through the merged model.
const checkImages = 2

// merged writes the backbone with W' and b' in place of W and b, all in fp32:
// what is small beside W would vanish in bf16.
func (x *export) merged(ctx context.Context) error {
	config, err := x.backboneConfig()
	if err != nil {
		return err
	}
	row, err := design.Of(x.spec.Backbone.Arch)
	if err != nil {
		return err
	}
	tensors, err := params.Of(x.spec)
	if err != nil {
		return err
	}
	return x.dev.Do(func() error {
		b := x.spec.Backbone
		m, err := vit.Load(x.dev, x.run.Places.Backbone, b.Arch, vit.Options{Depth: int(b.Depth), Trains: params.Backbones(tensors), Digest: b.Digest})
		if err != nil {
			return err
		}
		defer m.Free()
		if err := x.trained(m); err != nil {
			return err
		}
		set, err := adapter.Load(x.dev, m, x.spec.Adapter, x.spec.Seed)
		if err != nil {
			return err
		}
		defer set.Free()
		if err := set.Assign(x.parts["adapter"]); err != nil {
			return fmt.Errorf("%s: %w", x.path, err)
		}
		merged, err := set.Merge(x.req.Tolerance)
		if err != nil {
			return err
		}
		defer adapter.FreeMerged(merged)
		if err := ctx.Err(); err != nil {
			return err
		}
		replaced, err := x.replaced(m, merged)
		if err != nil {
			return err
		}
		if err := x.weights(replaced); err != nil {
			return err
		}
		if err := x.json(configFile, config); err != nil {
			return err
		}
		if err := x.json(preprocessorFile, x.preprocessor(row)); err != nil {
			return err
		}
		for _, l := range merged {
			if l.Difference >= x.reply.Difference {
				x.reply.Difference, x.reply.DifferenceAt = l.Difference, program.SiteName(l.Site)
			}
		}
		if x.reply.OutputDifference, err = x.compare(m); err != nil {
			return err
		}
		// Blocks magnify the rounding of those before; a tensor in a wrong place
		// does far more.
		if limit := magnified * x.req.Tolerance; !(x.reply.OutputDifference <= limit) {
			return fmt.Errorf("the outputs of the merged backbone, read back, differ by %.2g from those with the adapters, more than %.2g", x.reply.OutputDifference, limit)
		}
		return m.Check()
	})
}

// trained gives the backbone the values that it was trained to.
func (x *export) trained(m *vit.Model) error {
	var want []safetensors.Tensor
	of := map[string]*torch.Tensor{}
	for _, p := range m.Params() {
		want = append(want, safetensors.Tensor{Name: p.Name, Shape: p.T.Shape()})
		of[p.Name] = p.T
	}
	if err := safetensors.Match(want, x.parts["backbone"]); err != nil {
		return fmt.Errorf("%s: %w", x.path, err)
	}
	for _, t := range x.parts["backbone"] {
		values, err := t.Float32()
		if err != nil {
			return fmt.Errorf("%s: %w", x.path, err)
		}
		x.dev.Scope(func() { of[t.Name].Assign(torch.Of(x.dev, values, t.Shape...)) })
	}
	return nil
}

// replaced are the tensors that differ from those of the backbone's file, by
// their names there without a prefix.
func (x *export) replaced(m *vit.Model, merged []adapter.Merged) (map[string]safetensors.Tensor, error) {
	out := map[string]safetensors.Tensor{}
	put := func(name string, t *torch.Tensor) { out[name] = float32Tensor(name, t) }
	parts := map[string][]design.Part{}
	list, err := design.Tensors(x.spec.Backbone.Arch, int(x.spec.Backbone.Depth))
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		parts[t.Name] = t.Parts
	}
	for _, p := range m.Params() {
		if of := parts[p.Name]; len(of) == 1 {
			put(of[0].Name, p.T)
			continue
		}
		x.dev.Scope(func() {
			first := int64(0)
			for _, part := range parts[p.Name] {
				put(part.Name, p.T.Detach().Narrow(0, first, part.Shape[0]))
				first += part.Shape[0]
			}
		})
	}
	for _, l := range merged {
		if l.B != nil && !l.Site.Bias {
			return nil, fmt.Errorf("%s: the merged layer needs a bias, which the backbone's has not", program.SiteName(l.Site))
		}
		name, err := design.Module(x.spec.Backbone.Arch, design.FileVersion, l.Site.Block, l.Site.Name)
		if err != nil {
			return nil, err
		}
		put(name+".weight", l.W)
		if l.B != nil {
			put(name+".bias", l.B)
		}
	}
	return out, nil
}

// weights copies the backbone's file with the replaced tensors in their places.
func (x *export) weights(replaced map[string]safetensors.Tensor) error {
	path := x.run.Places.Backbone
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	arch := x.spec.Backbone.Arch
	row, err := design.Of(arch)
	if err != nil {
		return err
	}
	list, err := design.Tensors(arch, int(arch.Depth))
	if err != nil {
		return err
	}
	beyond := map[string]bool{} // in blocks that are not in use
	for _, t := range list {
		if t.Block >= int(x.spec.Backbone.Depth) && t.Block < int(arch.Depth) {
			for _, p := range t.Parts {
				beyond[p.Name] = true
			}
		}
	}
	var out []safetensors.Tensor
	used := 0
	for _, name := range f.Names() {
		t, _ := f.Get(name)
		plain := row.Plain(name)
		if beyond[plain] {
			continue
		}
		if r, ok := replaced[plain]; ok {
			// The patch embedding is a matrix to us and a convolution there.
			t.DType, t.Data = r.DType, r.Data
			if r.Len() != t.Len() {
				return fmt.Errorf("%s has the shape %v, merged is %v", name, t.Shape, r.Shape)
			}
			used++
		} else if values, err := t.Float32(); err == nil {
			t = safetensors.FromFloat32(name, values, t.Shape...)
		}
		out = append(out, t)
	}
	if used != len(replaced) {
		return fmt.Errorf("%s has %d of the %d tensors that were trained", path, used, len(replaced))
	}
	return x.tensors(weightFile, out)
}

// backboneConfig is the backbone's own config.json, for the blocks in use and
// for weights in fp32.
func (x *export) backboneConfig() (map[string]any, error) {
	path := filepath.Join(filepath.Dir(x.run.Places.Backbone), configFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the backbone has no %s beside its weights: %w", configFile, err)
	}
	if err != nil {
		return nil, err
	}
	var config map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&config); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	// What the written file has not: another type of numbers, weights in a
	// quantized form, code of its own next to it, a place on another machine.
	for _, key := range []string{"torch_dtype", "quantization_config", "auto_map", "_name_or_path"} {
		delete(config, key)
	}
	config["dtype"] = "float32"
	if depth := x.spec.Backbone.Depth; depth < x.spec.Backbone.Arch.Depth {
		config["num_hidden_layers"] = depth
		for _, key := range []string{"out_features", "out_indices", "stage_names"} {
			delete(config, key)
		}
	}
	return config, nil
}

// preprocessor is preprocessor_config.json: what images went through before the
// run saw them.
func (x *export) preprocessor(row *design.Row) map[string]any {
	d := x.spec.Data
	return map[string]any{
		"image_processor_type": row.Images.Processor,
		"do_resize":            true, "size": map[string]any{"height": d.Height, "width": d.Width},
		"resample":       2, // bilinear
		"do_center_crop": false,
		"do_rescale":     true, "rescale_factor": 1.0 / 255,
		"do_normalize": true, "image_mean": d.Mean, "image_std": d.Std,
	}
}

// compare is how far the tokens of the written model are from those of m with
// its adapters, on random images of the run's size: the largest |a − b| over the
// largest |b|.
func (x *export) compare(m *vit.Model) (float64, error) {
	arch := proto.CloneOf(x.spec.Backbone.Arch)
	arch.Depth = x.spec.Backbone.Depth
	plain, err := vit.Load(x.dev, filepath.Join(x.req.Out, weightFile), arch, vit.Options{})
	if err != nil {
		return 0, fmt.Errorf("reading the merged model: %w", err)
	}
	defer plain.Free()
	worst, size := 0.0, 0.0
	x.dev.NoGrad(func() {
		x.dev.Scope(func() {
			h, w := int64(x.spec.Data.Height), int64(x.spec.Data.Width)
			pixels := make([]float32, checkImages*3*h*w)
			rng.New(0, "merge", "images").Normal(pixels, 1)
			images := torch.Of(x.dev, pixels, checkImages, 3, h, w)
			want, got := m.Forward(images).Floats(), plain.Forward(images).Floats()
			for i := range want {
				worst = largest(worst, math.Abs(float64(got[i])-float64(want[i])))
				size = largest(size, math.Abs(float64(want[i])))
			}
		})
	})
	if size > 0 {
		worst /= size
	}
	return worst, nil
}
