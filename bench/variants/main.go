// Command bench-variants asks what adapter programs cost: a block of ViT-B/16,
// forward and backward, with each shipped variant as its plug-in gives it, and
// with the same maths written by hand on core/engine/torch. Both share parameters and
// take turns; the ratio of processor times is printed.
//
//	go run ./bench/variants -plugins bin/plugins
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

const dim, mlp, heads, tokens = 768, 3072, 12, 197

var arch = &spec.Architecture{
	Family: "vit", Dim: dim, Depth: 1, Heads: heads, Mlp: mlp, Patch: 16, GridH: 14, GridW: 14, Eps: 1e-12, QkvBias: true,
}

func main() {
	plugins := flag.String("plugins", "bin/plugins", "directory of the plug-ins")
	precision := flag.String("precision", "fp32", "fp32 or bf16; by hand it is always fp32")
	only := flag.String("only", "", "variants, comma-separated; empty: all")
	batch := flag.Int("batch", 8, "images")
	rounds := flag.Int("rounds", 5, "turns")
	threads := flag.Int("threads", 1, "threads")
	flag.Parse()
	if err := run(*plugins, *precision, *only, *batch, *rounds, *threads); err != nil {
		fmt.Fprintln(os.Stderr, "bench-variants:", err)
		os.Exit(1)
	}
}

func run(plugins, precision, only string, batch, rounds, threads int) error {
	dir, err := os.MkdirTemp("", "bench-variants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	weights := filepath.Join(dir, "model.safetensors")
	if err := writeBackbone(weights); err != nil {
		return err
	}
	registry := variant.Open(variant.Options{Root: dir, Dirs: []string{plugins}})
	defer registry.Close()
	dev, err := torch.CPU(threads)
	if err != nil {
		return err
	}
	defer dev.Close()
	opt := vit.Options{Precision: torch.Float32}
	if precision == "bf16" {
		opt.Precision = torch.BFloat16
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "variant\tform\tprogram ms\tby hand ms\tratio\tdifference")
	for _, c := range cases {
		if only != "" && !slices.Contains(strings.Split(only, ","), c.variant) {
			continue
		}
		a, err := build(registry, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.variant, err)
		}
		var r result
		if err := dev.Do(func() (err error) {
			r, err = measure(dev, weights, opt, a, c, batch, rounds)
			return err
		}); err != nil {
			return fmt.Errorf("%s %s: %w", c.variant, c.params, err)
		}
		fmt.Fprintf(w, "%s %s\t%s\t%.0f\t%.0f\t%.3f\t%.1g\n", c.variant, c.params, r.form, r.program, r.hand, r.program/r.hand, r.difference)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// writeBackbone makes one random block under Hugging Face's names.
func writeBackbone(path string) error {
	var ts []safetensors.Tensor
	add := func(name string, mean, std float64, shape ...int64) {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		rng.New(1, name).Normal(v, std)
		for i := range v {
			v[i] += float32(mean)
		}
		ts = append(ts, safetensors.FromFloat32(name, v, shape...))
	}
	linear := func(name string, out, in int64) {
		add(name+".weight", 0, 0.02, out, in)
		add(name+".bias", 0, 0.02, out)
	}
	norm := func(name string) {
		add(name+".weight", 1, 0.02, dim)
		add(name+".bias", 0, 0.02, dim)
	}
	add("embeddings.cls_token", 0, 0.02, 1, 1, dim)
	add("embeddings.position_embeddings", 0, 0.02, 1, tokens, dim)
	add("embeddings.patch_embeddings.projection.weight", 0, 0.02, dim, 3, 16, 16)
	add("embeddings.patch_embeddings.projection.bias", 0, 0.02, dim)
	b := "encoder.layer.0."
	for _, n := range []string{"attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"} {
		linear(b+n, dim, dim)
	}
	linear(b+"intermediate.dense", mlp, dim)
	linear(b+"output.dense", dim, mlp)
	norm(b + "layernorm_before")
	norm(b + "layernorm_after")
	norm("layernorm")
	return safetensors.Write(path, ts, nil)
}

func build(r *variant.Registry, c variantCase) (*spec.Adapter, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	described, err := r.Describe(ctx, c.variant)
	if err != nil {
		return nil, err
	}
	schema, err := variant.ReadSchema(described)
	if err != nil {
		return nil, err
	}
	params, err := schema.Complete(c.params)
	if err != nil {
		return nil, err
	}
	var sites []*protocol.Site
	for _, name := range c.sites {
		sites = append(sites, &protocol.Site{Name: name, Kind: protocol.Site_LINEAR, In: dim, Out: dim, Bias: true})
	}
	reply, err := r.Build(ctx, c.variant, params, &protocol.Model{Family: "vit", Dim: dim, Depth: 1, Heads: heads, Mlp: mlp}, sites)
	if err != nil {
		return nil, err
	}
	if len(reply.Problems) > 0 {
		return nil, errors.New(reply.Problems[0].Message)
	}
	a := &spec.Adapter{Programs: reply.Programs}
	for i, s := range sites {
		a.Placements = append(a.Placements, &spec.Placement{Site: s, Program: reply.ProgramOfSite[i]})
	}
	return a, nil
}

type result struct {
	form                      string
	program, hand, difference float64 // ms, ms, relative
}

func measure(dev *torch.Device, weights string, opt vit.Options, a *spec.Adapter, c variantCase, batch, rounds int) (r result, err error) {
	m, err := vit.Load(dev, weights, arch, opt)
	if err != nil {
		return r, err
	}
	defer m.Free()
	set, err := adapter.Load(dev, m, a, 1)
	if err != nil {
		return r, err
	}
	defer set.Free()
	plain, err := vit.Load(dev, weights, arch, vit.Options{})
	if err != nil {
		return r, err
	}
	defer plain.Free()
	set.Train(true)
	r.form = set.Form(0)

	// Away from the start, where half of the factors are zero.
	of := map[string]*torch.Tensor{}
	var leaves []*torch.Tensor
	for _, p := range set.Params {
		of[p.Name] = p.T
		if p.Trainable {
			v := make([]float32, p.T.Numel())
			rng.New(2, p.Name).Normal(v, 0.01)
			p.T.Assign(p.T.Detach().Add(torch.Of(dev, v, p.T.Shape()...)))
			leaves = append(leaves, p.T)
		}
	}
	for site, adapt := range c.hand(of) {
		plain.Blocks[0].Adapters[site] = adapt
	}
	v := make([]float32, batch*tokens*dim)
	rng.New(3, "x").Normal(v, 1)
	x := torch.Of(dev, v, int64(batch), tokens, dim).RequireGrad(true)
	rng.New(3, "g").Normal(v, 1)
	g := torch.Of(dev, v, int64(batch), tokens, dim)
	leaves = append(leaves, x)

	pass := func(m *vit.Model) (ms float64, y []float32) {
		dev.Scope(func() {
			dev.Seed(4)
			start := cpu()
			h := m.Block(0, x)
			torch.GradsOf(h, g, leaves...)
			ms = float64((cpu() - start).Microseconds()) / 1e3
			y = h.Floats()
		})
		return ms, y
	}
	var program, hand []float64
	for round := range rounds + 1 {
		p, y1 := pass(m)
		h, y2 := pass(plain)
		if round == 0 { // warms up
			size := 0.0
			for i := range y2 {
				r.difference = max(r.difference, math.Abs(float64(y1[i]-y2[i])))
				size = max(size, math.Abs(float64(y2[i])))
			}
			r.difference /= size
			continue
		}
		program, hand = append(program, p), append(hand, h)
	}
	r.program, r.hand = slices.Min(program), slices.Min(hand)
	return r, nil
}

// cpu is the processor time of the process so far: other work on the machine
// does not count.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
