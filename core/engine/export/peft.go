package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// PEFTVersion is the release of PEFT whose files are written. Some of PEFT's
// settings mean something else before a version, so it stands in the file.
const PEFTVersion = "0.21.2"

// The files of PEFT.
const (
	PEFTConfig  = "adapter_config.json"
	PEFTWeights = "adapter_model.safetensors"
)

// peft writes adapter_config.json and adapter_model.safetensors.
func (x *export) peft(ctx context.Context) error {
	a, q := x.spec.Adapter, x.run.Peft
	variant := x.run.GetLabel().GetVariant()
	if err := modulesAlone(a); err != nil {
		return err
	}
	switch {
	case len(a.GetPlacements()) == 0:
		return errors.New("the run has no adapter: there is nothing for PEFT to load")
	case q == nil:
		return fmt.Errorf("PEFT has no form for variant %s with these parameters and layers", variant)
	case len(x.parts["backbone"]) > 0:
		return errors.New("the backbone was trained too, and PEFT's files hold adapters alone: export it merged")
	}
	sites := make([]*protocol.Site, len(a.Placements))
	of := make([]uint32, len(a.Placements))
	modules := make([]string, len(a.Placements))
	for i, p := range a.Placements {
		var err error
		if modules[i], err = design.Module(x.spec.Backbone.Arch, x.version, p.Site.Block, p.Site.Name); err != nil {
			return fmt.Errorf("%s: %w", program.SiteName(p.Site), err)
		}
		sites[i], of[i] = p.Site, p.Program
	}
	placed, err := program.CheckAll(a.Programs, sites, of, x.model())
	if err != nil {
		return fmt.Errorf("checking adapter programs: %w", err)
	}
	stored, err := program.CheckPeftAll(q, placed, of)
	if err != nil {
		return fmt.Errorf("checking what PEFT stores: %w", err)
	}
	config, err := x.config(q, of, modules, sites)
	if err != nil {
		return err
	}
	var tensors []safetensors.Tensor
	err = x.dev.Do(func() error {
		m, err := vit.Load(x.dev, x.run.Places.Backbone, x.spec.Backbone.Arch, vit.Options{Depth: int(x.spec.Backbone.Depth), Digest: x.spec.Backbone.Digest})
		if err != nil {
			return err
		}
		defer m.Free()
		set, err := x.adapters(m)
		if err != nil {
			return err
		}
		defer set.Free()
		seen := map[string]bool{}
		for i := range sites {
			if err := ctx.Err(); err != nil {
				return err
			}
			x.dev.Scope(func() {
				values := set.Store(i, stored[i])
				for j, t := range stored[i].Tensors.GetTensors() {
					name := key(modules[i], t)
					if !seen[name] { // what the model has once, every site has
						tensors = append(tensors, float32Tensor(name, values[j]))
					}
					seen[name] = true
				}
			})
		}
		return m.Check()
	})
	if err != nil {
		return err
	}
	if err := x.json(PEFTConfig, config); err != nil {
		return err
	}
	return x.tensors(PEFTWeights, tensors)
}

// modulesAlone says why the adapters at some places are none in PEFT.
func modulesAlone(a *spec.Adapter) error {
	for _, p := range a.GetPlacements() {
		switch at := program.SiteName(p.Site); p.Site.Kind {
		case protocol.Site_STREAM:
			return fmt.Errorf("PEFT adapts modules, and the run has an adapter of %s, which is none: export it merged", at)
		case protocol.Site_PATCH:
			return errors.New("the run has an adapter of the patch embedding, which PEFT stores in the form of a convolution, and that is not written: export it merged")
		}
	}
	return nil
}

// Key is the name in PEFT's file of a tensor stored at a site, with the names
// of modules of a version of transformers.
func Key(a *spec.Architecture, version int, site *protocol.Site, t *protocol.PeftTensor) (string, error) {
	module, err := design.Module(a, version, site.Block, site.Name)
	return key(module, t), err
}

func key(module string, t *protocol.PeftTensor) string {
	if t.GetModel() {
		return "base_model." + t.GetKey()
	}
	return "base_model.model." + module + "." + t.GetKey()
}

func float32Tensor(name string, t *torch.Tensor) safetensors.Tensor {
	return safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: t.Shape(), Data: t.To(torch.Float32).Contiguous().Bytes()}
}

// config is adapter_config.json: what the variant decides, and the rest. of is
// the program of each module.
func (x *export) config(q *protocol.Peft, of []uint32, modules []string, sites []*protocol.Site) (map[string]any, error) {
	configs := make([]map[string]any, len(modules))
	for i := range configs {
		text := q.ConfigJson
		if len(q.ConfigOfProgram) > 0 {
			text = q.ConfigOfProgram[of[i]]
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&configs[i]); err != nil {
			return nil, fmt.Errorf("reading the settings of PEFT: %w", err)
		}
	}
	config, err := common(configs, modules, sites)
	if err != nil {
		return nil, err
	}
	at := map[string][]string{}
	for i, s := range sites {
		at["{"+s.Name+"}"] = append(at["{"+s.Name+"}"], modules[i])
	}
	for key, value := range config {
		config[key] = filled(value, at)
	}
	row, err := design.Of(x.spec.Backbone.Arch)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(x.run.GetLabel().GetBackbone(), "@")
	config["auto_mapping"] = map[string]any{"base_model_class": row.Class, "parent_library": row.Library()}
	config["base_model_name_or_path"] = name
	config["inference_mode"] = true
	config["peft_version"] = PEFTVersion
	config["revision"] = nil
	config["target_modules"] = slices.Clone(modules)
	config["task_type"] = nil
	return config, nil
}

// filled puts the names of modules in the place of "{site}" in the lists of a
// setting; a site that is not adapted has none.
func filled(value any, at map[string][]string) any {
	list, ok := value.([]any)
	if !ok {
		return value
	}
	out := []any{}
	for _, v := range list {
		text, ok := v.(string)
		if !ok || !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
			out = append(out, v)
			continue
		}
		for _, module := range at[text] {
			out = append(out, module)
		}
	}
	return out
}
