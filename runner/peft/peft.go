// Package peft reads adapters that PEFT wrote, those of `runner export` among
// them, so that a run can start from one.
//
// adapter_config.json says which modules are adapted and how; the variant that
// has this PEFT type turns its settings into parameters of its own (Adopt), and
// builds its programs as always. What PEFT stores of a program is a small graph
// over the program's parameters; where that does no more than rearrange one, it
// is undone, and the file gives the parameter its value. No setting and no
// tensor is passed over: what is not understood is an error.
package peft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/exactjson"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

// The files of an adapter.
const (
	configFile = "adapter_config.json"
	weightFile = "adapter_model.safetensors"
)

// Source is an adapter and what it is read for.
type Source struct {
	Dir  string
	Arch *spec.Architecture
	// Depth is the number of blocks in use.
	Depth uint32
	// Variant to read it as; "": the one that has its PEFT type.
	Variant string
	// Head and Classes of the run: a head beside the adapter that fits them is
	// taken too.
	Head    *spec.Head
	Classes []string
}

// model is the backbone as variants see it.
func (s Source) model() *protocol.Model {
	return &protocol.Model{Family: s.Arch.GetFamily(), Dim: s.Arch.GetDim(), Depth: s.Depth, Heads: s.Arch.GetHeads(), Mlp: s.Arch.GetMlp()}
}

// Adapter is an adapter in our terms.
type Adapter struct {
	Variant string
	Params  string // JSON; those that all groups share
	// Groups are the layers with the same parameters: one, unless the adapter
	// has ranks or alphas of its own at some layers.
	Groups []Group
	Sites  []*protocol.Site
	Build  *protocol.BuildReply
	// Start is a file with the values of the parameters, and of the head if
	// Head is true; Digest its SHA-256.
	Start, Digest string
	Head          bool
	// PassedOver are modules of the files that no token depends on.
	PassedOver []string
}

// Group is layers with the same parameters.
type Group struct {
	Params string // JSON
	Of     []int  // indices of Sites
}

// Reader reads adapters.
type Reader struct {
	Variants *variant.Registry
	// Cache is the directory that starting values are kept in, by their content.
	Cache string
}

// Read reads an adapter.
func (r *Reader) Read(ctx context.Context, s Source) (*Adapter, error) {
	file, err := openDir(s.Dir)
	if err != nil {
		return nil, err
	}
	defer file.tensors.Close()
	if err := file.asExported(s.Dir); err != nil {
		return nil, err
	}
	// Settings of a type that nothing reads would be taken for those of another.
	readers, err := r.readers(ctx, s, file.text("peft_type"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.place(s), file.trained()); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.Dir, configFile), err)
	}
	a := &Adapter{Sites: file.sites(s.Arch), Build: &protocol.BuildReply{Peft: &protocol.Peft{}}, PassedOver: file.passedOver()}
	if err := r.adopt(ctx, s, file, a, readers); err != nil {
		return nil, err
	}
	values, err := file.values(s, a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.Dir, weightFile), err)
	}
	head, err := readHead(s)
	if err != nil {
		return nil, err
	}
	a.Head = head != nil
	a.Start, a.Digest, err = r.keep(append(values, head...))
	return a, err
}

// directory is an adapter as it is on disk.
type directory struct {
	config  map[string]json.RawMessage
	chosen  selection
	tensors *safetensors.File
	prefix  string // of the modules' names in the files: "vit.", or none
	version int    // of transformers, whose names these are
	modules []module
}

// module is one that is adapted.
type module struct {
	name string // in the files, without "base_model.model."
	design.Place
}

// mostConfig bounds adapter_config.json.
const mostConfig = 16 << 20

func openDir(dir string) (*directory, error) {
	path := filepath.Join(dir, configFile)
	text, err := regular.Read(path, mostConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s has no %s: name the directory of an adapter that PEFT, or runner export, has written", dir, configFile)
	case err != nil:
		return nil, err
	}
	d := &directory{}
	if err := errors.Join(json.Unmarshal(text, &d.config), exactjson.Unmarshal(text, &d.chosen)); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	// Plug-ins read settings without regard to case, and PEFT has none in upper case.
	maps.DeleteFunc(d.config, func(key string, _ json.RawMessage) bool { return key != strings.ToLower(key) })
	path = filepath.Join(dir, weightFile)
	if d.tensors, err = safetensors.Open(path); errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(filepath.Join(dir, "adapter_model.bin")); e == nil {
			return nil, fmt.Errorf("%s has its weights in adapter_model.bin: save it again with safe_serialization=True", dir)
		}
		return nil, fmt.Errorf("%s has no %s", dir, weightFile)
	}
	return d, err
}

func (d *directory) text(key string) string {
	var s string
	_ = json.Unmarshal(d.config[key], &s) // another type is no text
	return s
}

const peftPrefix = "base_model.model."

// place finds the adapted modules: by the names in the file, whose version of
// transformers and whose prefix they show, and by the settings.
func (d *directory) place(s Source) error {
	if d.text("peft_type") == "" {
		return errors.New("it has no peft_type")
	}
	row, err := design.Of(s.Arch)
	if err != nil {
		return err
	}
	most := 0
	for _, version := range design.Versions {
		all, err := design.Modules(s.Arch, version)
		if err != nil {
			return err
		}
		for _, prefix := range []string{"", row.Type + "."} {
			n := 0
			for _, key := range d.tensors.Names() {
				name := strings.TrimPrefix(key, peftPrefix)
				for m := range all {
					if strings.HasPrefix(name, prefix+m+".") {
						n++
					}
				}
			}
			if n > most {
				most, d.prefix, d.version = n, prefix, version
			}
		}
	}
	if most == 0 {
		names := d.tensors.Names()
		example := "it is empty"
		if len(names) > 0 {
			example = "its first tensor is " + names[0]
		}
		module, err := design.Module(s.Arch, design.Newest, 0, design.SiteQuery)
		if err != nil {
			return err
		}
		return fmt.Errorf("no tensor of %s belongs to a layer of the backbone, such as %s: %s", weightFile, module, example)
	}
	all, err := design.Modules(s.Arch, d.version)
	if err != nil {
		return err
	}
	var beyond []int
	for name, at := range all {
		on, err := d.chosen.match(d.prefix+name, at.Site != design.SitePatch)
		if err != nil {
			return err
		}
		if !on {
			continue
		}
		switch {
		case at.Site == design.SitePatch:
			return errors.New("it adapts the patch embedding, a convolution, which cannot be read")
		case at.Block >= s.Depth:
			beyond = append(beyond, int(at.Block))
			continue
		}
		d.modules = append(d.modules, module{d.prefix + name, at})
	}
	if len(beyond) > 0 {
		return fmt.Errorf("it adapts %s, but the run uses the first %d of the backbone, which are counted from 0", blocks(beyond), s.Depth)
	}
	if len(d.modules) == 0 {
		also := ""
		if raw := string(d.config["target_parameters"]); raw != "" && raw != "null" && raw != "[]" {
			also = "; target_parameters " + raw + " is not read"
		}
		return fmt.Errorf("target_modules %s select no layer of the backbone%s", d.config["target_modules"], also)
	}
	slices.SortFunc(d.modules, func(a, b module) int { return a.Compare(b.Place) })
	return nil
}

// blocks lists blocks in their order, each once, with ranges.
func blocks(of []int) string {
	slices.Sort(of)
	of = slices.Compact(of)
	var ranges []string
	for i := 0; i < len(of); {
		j := i
		for j+1 < len(of) && of[j+1] == of[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			ranges = append(ranges, strconv.Itoa(of[i]))
		default:
			ranges = append(ranges, fmt.Sprintf("%d to %d", of[i], of[j]))
		}
		i = j + 1
	}
	if len(of) == 1 {
		return "block " + ranges[0]
	}
	return "blocks " + strings.Join(ranges, ", ")
}

func (d *directory) sites(a *spec.Architecture) []*protocol.Site {
	sites := make([]*protocol.Site, len(d.modules))
	for i, m := range d.modules {
		sites[i], _ = design.Site(a, m.Block, m.Site) // place has found them
	}
	return sites
}

// settings are those that Adopt is asked with for the modules whose rank and
// alpha are the same, and which modules these are.
type settings struct {
	text string
	of   []int // indices of modules
}

// groups divides the modules by rank_pattern and alpha_pattern, and turns what
// selects modules into sites.
func (d *directory) groups() ([]settings, error) {
	var ranks, alphas exceptions
	for key, to := range map[string]*exceptions{"rank_pattern": &ranks, "alpha_pattern": &alphas} {
		if raw := d.config[key]; raw != nil {
			if err := json.Unmarshal(raw, to); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	alpha := "lora_alpha"
	if _, ok := d.config["alpha"]; ok {
		alpha = "alpha"
	}
	for _, key := range []string{"r", alpha} {
		if string(d.config[key]) == "null" {
			return nil, fmt.Errorf("%s is null, which PEFT cannot load either: write a number", key)
		}
	}
	config := maps.Clone(d.config)
	delete(config, "rank_pattern")
	delete(config, "alpha_pattern")
	for key, raw := range config {
		if !strings.HasSuffix(key, "_modules") || key == "target_modules" || key == "exclude_modules" {
			continue
		}
		sites, err := d.siteList(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		config[key] = sites
	}
	var groups []settings
	for i, m := range d.modules {
		own := maps.Clone(config)
		for key, of := range map[string]exceptions{"r": ranks, alpha: alphas} {
			v, ok, err := of.of(m.name)
			if err != nil {
				return nil, err
			}
			if ok {
				own[key] = json.RawMessage(v)
			}
		}
		text, err := json.Marshal(own) // sorts the keys
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(groups, func(g settings) bool { return g.text == string(text) })
		if at < 0 {
			at = len(groups)
			groups = append(groups, settings{text: string(text)})
		}
		groups[at].of = append(groups[at].of, i)
	}
	return groups, nil
}

// siteList turns names of modules into those of sites, "{fc2}". A site belongs
// to the list in every block or in none.
func (d *directory) siteList(raw json.RawMessage) (json.RawMessage, error) {
	var p patterns
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	in, all := map[string]int{}, map[string]int{}
	var order []string
	for _, m := range d.modules {
		on, err := p.match(m.name)
		if err != nil {
			return nil, err
		}
		if all[m.Site]++; all[m.Site] == 1 {
			order = append(order, m.Site)
		}
		if on && !p.empty() {
			in[m.Site]++
		}
	}
	list := []string{}
	for _, site := range order {
		switch in[site] {
		case 0:
		case all[site]:
			list = append(list, "{"+site+"}")
		default:
			return nil, fmt.Errorf("it has %s in %d of %d blocks: a layer belongs to it everywhere or nowhere", site, in[site], all[site])
		}
	}
	return json.Marshal(list)
}

// adopt finds the variant and has it build its programs.
func (r *Reader) adopt(ctx context.Context, s Source, d *directory, a *Adapter, readers []string) error {
	groups, err := d.groups()
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(s.Dir, configFile), err)
	}
	model := s.model()
	a.Variant, err = r.variant(ctx, s, d, groups, model, a.Sites, readers)
	if err != nil {
		return err
	}
	a.Build.ProgramOfSite = make([]uint32, len(a.Sites))
	for i, g := range groups {
		sites := pick(a.Sites, g.of)
		params, err := r.params(ctx, s, a.Variant, g.text, model, sites)
		if err != nil {
			return err
		}
		reply, err := r.Variants.Build(ctx, a.Variant, params, model, sites)
		if err != nil {
			return err
		}
		if len(reply.GetProblems()) > 0 {
			return problems(fmt.Sprintf("variant %s refuses the settings of %s", a.Variant, s.Dir), reply.GetProblems())
		}
		if reply.GetPeft() == nil {
			return fmt.Errorf("variant %s has no form in PEFT with the parameters %s", a.Variant, params)
		}
		a.Groups = append(a.Groups, Group{params, g.of})
		first := uint32(len(a.Build.Programs))
		a.Build.Programs = append(a.Build.Programs, reply.GetPrograms()...)
		config := reply.GetPeft().GetConfigJson()
		if i == 0 {
			a.Build.Peft.ConfigJson = config
		}
		if len(groups) > 1 {
			for range reply.GetPrograms() {
				a.Build.Peft.ConfigOfProgram = append(a.Build.Peft.ConfigOfProgram, config)
			}
		}
		a.Build.Peft.OfProgram = append(a.Build.Peft.OfProgram, reply.GetPeft().GetOfProgram()...)
		for j, of := range g.of {
			a.Build.ProgramOfSite[of] = first + reply.GetProgramOfSite()[j]
		}
	}
	a.Params, err = shared(a.Groups)
	return err
}

// shared are the parameters that are the same in all groups.
func shared(groups []Group) (string, error) {
	if len(groups) == 1 {
		return groups[0].Params, nil
	}
	var all map[string]json.RawMessage
	for _, g := range groups {
		var params map[string]json.RawMessage
		if err := json.Unmarshal([]byte(g.Params), &params); err != nil {
			return "", fmt.Errorf("reading the parameters %s: %w", g.Params, err)
		}
		if all == nil {
			all = params
			continue
		}
		maps.DeleteFunc(all, func(name string, v json.RawMessage) bool { return string(params[name]) != string(v) })
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func pick(sites []*protocol.Site, of []int) []*protocol.Site {
	out := make([]*protocol.Site, len(of))
	for i, j := range of {
		out[i] = sites[j]
	}
	return out
}

// readers are the variants that may read adapters of a PEFT type: the one that was
// named, or those that have the type.
func (r *Reader) readers(ctx context.Context, s Source, kind string) ([]string, error) {
	if s.Variant != "" {
		about, err := r.Variants.Describe(ctx, s.Variant)
		if err != nil {
			return nil, &unreadError{err}
		}
		if own := about.GetPeftType(); own != "" && own != kind && kind != "" {
			return nil, &unreadError{fmt.Errorf("variant %s reads adapters of PEFT type %s, and this one is of type %s", s.Variant, own, kind)}
		}
		return []string{s.Variant}, nil
	}
	var readers, known, silent []string
	for _, name := range r.Variants.Names() {
		about, err := r.Variants.Describe(ctx, name)
		switch {
		case err != nil:
			silent = append(silent, fmt.Sprintf("variant %s does not answer: %s", name, cause(err)))
		case about.GetPeftType() == kind:
			readers = append(readers, name)
			fallthrough
		case about.GetPeftType() != "":
			known = append(known, about.GetPeftType())
		}
	}
	if kind == "" || len(readers) > 0 {
		return readers, nil
	}
	text := "no variant reads adapters of PEFT type " + kind
	slices.Sort(known)
	if known = slices.Compact(known); len(known) > 0 {
		text += "; there are variants for " + strings.Join(known, ", ")
	}
	// One of these may be the reader.
	return nil, &unreadError{errors.New(strings.Join(append([]string{text}, silent...), "; "))}
}

// cause is why a plug-in does not answer, in one line.
func cause(err error) string {
	text := err.Error()
	var broken *variant.Error
	if errors.As(err, &broken) {
		if text = strings.TrimPrefix(broken.Message, "it cannot start: "); broken.Err != nil {
			text += ": " + broken.Err.Error()
		}
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// variant is the one to read an adapter as: the one that accepts all settings.
// Where several do, the one that is called like the PEFT type is meant.
func (r *Reader) variant(ctx context.Context, s Source, d *directory, groups []settings, m *protocol.Model, sites []*protocol.Site, readers []string) (string, error) {
	kind := d.text("peft_type")
	accepts := func(name string) error {
		for _, g := range groups {
			if _, err := r.params(ctx, s, name, g.text, m, pick(sites, g.of)); err != nil {
				return err
			}
		}
		return nil
	}
	if s.Variant != "" {
		if err := accepts(s.Variant); err != nil {
			return "", &unreadError{err}
		}
		return s.Variant, nil
	}
	var accepting []string
	refused := errors.New("it has no PEFT type") // place has said so
	for i, name := range readers {
		switch err := accepts(name); {
		case err == nil && strings.EqualFold(name, kind):
			return name, nil
		case err == nil:
			accepting = append(accepting, name)
		case i == 0 || strings.EqualFold(name, kind):
			refused = err
		}
	}
	switch {
	case len(accepting) == 1:
		return accepting[0], nil
	case len(accepting) > 1:
		return "", &unreadError{fmt.Errorf("variants %s can all read it: name one in adapter.variant", strings.Join(accepting, ", "))}
	}
	return "", &unreadError{refused}
}

// unreadError says that there is no variant that reads the settings of an
// adapter; of its tensors nothing is known.
type unreadError struct{ error }

func (e *unreadError) Unwrap() error { return e.error }

// params are the parameters with which a variant builds an adapter of some
// settings. Its schema has to allow them: an adapter of rank 0 is a mistake of
// the file.
func (r *Reader) params(ctx context.Context, s Source, name, settings string, m *protocol.Model, sites []*protocol.Site) (string, error) {
	reply, err := r.Variants.Adopt(ctx, name, settings, m, sites)
	if err != nil {
		return "", err
	}
	if len(reply.GetProblems()) > 0 {
		return "", problems(fmt.Sprintf("variant %s cannot read the adapter", name), reply.GetProblems())
	}
	schema, err := r.Variants.Schema(ctx, name)
	if err != nil {
		return "", err
	}
	if _, err := schema.Complete(reply.GetParamsJson()); err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Join(s.Dir, configFile), err)
	}
	return reply.GetParamsJson(), nil
}

func problems(what string, ps []*protocol.Problem) error {
	var b strings.Builder
	b.WriteString(what + ":")
	for _, p := range ps {
		b.WriteString("\n  ")
		if p.GetParam() != "" {
			b.WriteString(p.GetParam() + ": ")
		}
		b.WriteString(p.GetMessage())
		if p.GetHint() != "" {
			b.WriteString(" (" + p.GetHint() + ")")
		}
	}
	return errors.New(b.String())
}

// values gives the parameters of the programs their values from the file.
func (d *directory) values(s Source, a *Adapter) ([]safetensors.Tensor, error) {
	placed, err := program.CheckAll(a.Build.Programs, a.Sites, a.Build.ProgramOfSite, s.model())
	if err != nil {
		return nil, fmt.Errorf("the programs of variant %s do not go together: %w", a.Variant, err)
	}
	stored, err := program.CheckPeftAll(a.Build.Peft, placed, a.Build.ProgramOfSite)
	if err != nil {
		return nil, err
	}
	if err := d.match(stored); err != nil {
		return nil, err
	}
	found := map[string]safetensors.Tensor{}
	from := map[string]string{}
	for i, st := range stored {
		for _, t := range st.Tensors.GetTensors() {
			key := d.key(d.modules[i], t)
			tensor, _ := d.tensors.Get(key)
			param, value, err := undo(st, t.GetNode(), tensor)
			if err != nil {
				return nil, fmt.Errorf("%s cannot be read as variant %s: %w", key, a.Variant, err)
			}
			q := paramOf(placed.Sites[i].Program, param)
			value.Name = program.ParamName(a.Sites[i], q)
			if before, ok := found[value.Name]; ok && !slices.Equal(before.Data, value.Data) {
				return nil, fmt.Errorf("%s and %s differ, but variant %s shares them", from[value.Name], key, a.Variant)
			}
			found[value.Name], from[value.Name] = value, key
		}
	}
	return complete(a, found)
}

// complete checks that the file gives every parameter that has to be given. A
// parameter that would come again from its initialiser, and has its value from
// the file, is one to keep.
func complete(a *Adapter, found map[string]safetensors.Tensor) ([]safetensors.Tensor, error) {
	var missing []string
	for i, site := range a.Sites {
		of := a.Build.ProgramOfSite[i]
		for j, q := range a.Build.Programs[of].GetParams() {
			name := program.ParamName(site, q)
			_, ok := found[name]
			switch {
			case ok && q.GetDerived():
				a.Build.Programs[of] = proto.CloneOf(a.Build.Programs[of])
				a.Build.Programs[of].Params[j].Derived = false
			case !ok && !q.GetDerived() && !slices.Contains(missing, name):
				missing = append(missing, name)
			}
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("it says nothing of %s, which variant %s needs", strings.Join(missing, ", "), a.Variant)
	}
	return slices.SortedFunc(maps.Values(found), func(x, y safetensors.Tensor) int { return strings.Compare(x.Name, y.Name) }), nil
}

func paramOf(p *protocol.Program, name string) *protocol.Param {
	for _, q := range p.GetParams() {
		if q.GetName() == name {
			return q
		}
	}
	return nil // checked: a node names a parameter of its program
}

// key is the name of a stored tensor in the file.
func (d *directory) key(m module, t *protocol.PeftTensor) string {
	if t.GetModel() {
		return "base_model." + t.GetKey()
	}
	return peftPrefix + m.name + "." + t.GetKey()
}

// match compares the tensors of the file with those that the programs ask for.
// What is outside of the backbone is another model's, a classifier for example.
func (d *directory) match(stored []*program.Stored) error {
	want := map[string]safetensors.Tensor{}
	for i, st := range stored {
		for _, t := range st.Tensors.GetTensors() {
			key := d.key(d.modules[i], t)
			want[key] = safetensors.Tensor{Name: key, Shape: st.Shapes[t.GetNode()]}
		}
	}
	var got []safetensors.Tensor
	for _, name := range d.tensors.Names() {
		if _, wanted := want[name]; wanted || !d.outside(name) {
			t, _ := d.tensors.Get(name)
			got = append(got, t)
		}
	}
	return safetensors.Match(slices.SortedFunc(maps.Values(want), func(a, b safetensors.Tensor) int {
		return strings.Compare(a.Name, b.Name)
	}), got)
}
