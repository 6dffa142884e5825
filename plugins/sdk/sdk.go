// Package sdk is for writing LoRA variants.
//
// A variant is a type with its parameters as fields and a method that draws
// the adapted layer as a graph:
//
//	type lora struct {
//		Rank  int
//		Alpha float64
//	}
//
//	func (v lora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
//		a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)))
//		b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
//		delta := g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))
//		return g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank), delta))
//	}
//
//	//go:embed schema.cue
//	var schema string
//
//	func main() { sdk.Serve(sdk.Variant[lora]{Name: "lora", Version: "1.0.0", Schema: schema}) }
//
// Build runs once for each adapted place, before training, and returns; the
// engine compiles the graph. No variant code runs while training. x has shape
// [T, in]: all tokens of a batch, those before the patches (CLS, registers) among
// them, T unknown. Every node knows its shape, and a mistake stops Build at the line
// that made it. Package sdktest builds a variant without a process.
//
// # Limits
//
// A program has at most 4096 nodes, 256 parameters and 4 MiB when encoded, and each
// of its shapes has at most 8 dimensions. A parameter has at most 2^28 elements, and
// so has a node for one token. All parameters and nodes that do not depend on x have
// at most 2^28 elements together and take at most 2^40 multiplications; the nodes
// that depend on x have at most 2^20 elements and take at most 2^32 multiplications
// for each token. Einsum takes up to 8 inputs. An initialiser is within at most two
// others. A name has at most 100 bytes.
//
// A request and a reply have at most 4 MiB, so large constants belong into
// initialisers: Integers, Permutation and Seeded take a few bytes. A schema has at
// most 256 KiB, and it is evaluated within 2 s of computing and 512 MiB of memory.
// Any other text of a description, a message and a hint have at most 4 KiB; of the
// problems of one site 10 are shown. A plug-in has 30 s to start and 30 s for each
// call.
package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// Builder is what a variant's type has to do: draw the adapted layer at one
// site and return y, of shape [T, s.Out]. A site is a linear layer of a block, the
// patch embedding, or a stream, which is what several layers read; Check refuses
// those that the variant cannot adapt.
type Builder interface {
	Build(g *Graph, s Site) Node
}

// Checker is what it may do besides: say what is wrong with the parameters at
// a site beyond what the schema can express, "8 does not divide 384" say.
// Build is called only if no site has a problem. It is asked about one site at a
// time. What it says of several is shown once, and without a site if it says so of
// all.
type Checker interface {
	Check(s Site) []Problem
}

// Problem is a mistake in the user's parameters.
type Problem struct {
	Param   string // path below adapter.params, "blocks"; "" if it is the layer that does not fit
	Message string // "8 does not divide 252"
	Hint    string // "use 2, 3, 4, 6, 7, 9 or 12"
}

// Variant describes a variant. T takes the parameters: a struct whose fields
// are filled from adapter.params by name, ignoring case or by json tag.
type Variant[T Builder] struct {
	Name    string // as written in adapter.variant; the file has to be called so too
	Version string // semantic
	Paper   string // "arXiv:2106.09685"
	About   string // one line
	Authors []string
	// Schema is CUE source with a definition #Params that bounds every
	// parameter and gives it a default where there is one.
	Schema string
	// Formula of the adapted layer, for documents.
	Formula string
	// Parameters is the number of trainable parameters that a site sees, as an
	// arithmetic expression over the parameters and in, out: "rank*(in+out)".
	// It may call min, max, ceil, floor and sqrt, and a comparison is 1 or 0:
	// "rank*in + out*(share == \"site\")". A shared parameter counts in full at each
	// site: the A of PerModel with rank rows is rank*in.
	Parameters string
	// ChangesStart says that the adapted model does not start equal to the
	// backbone.
	ChangesStart bool
	// PEFT is the name PEFT has for the variant: "LORA". To write its files,
	// see PEFTConfig.
	PEFT string
	// Adopt reads adapter_config.json of an adapter that PEFT wrote for the
	// sites: the parameters that build the same adapter, or why there are
	// none, a setting that the variant does not have; see ReadSettings. A setting
	// that selects modules is a list of sites, "{fc2}". Numbers in config are
	// float64, and a missing key means PEFT's default. nil: the variant does
	// not read PEFT's files.
	Adopt func(config map[string]any, sites []Site) (T, []Problem)
	// Examples are parameters that `runner plugins test` tries, each as a user
	// would write them: "rank: 3, dropout: 0.25". None: the defaults alone.
	Examples []string
}

// Model is the backbone.
type Model struct {
	Family string // vit | deit | dinov2
	Dim    int
	Depth  int // blocks in use
	Heads  int
	MLP    int // hidden width
}

// Kind is what a site is.
type Kind = protocol.Site_Kind

// The kinds of sites.
const (
	Linear = protocol.Site_LINEAR // y = xWᵀ + b, W [out, in]
	Stream = protocol.Site_STREAM // shared by several layers; Base(x) = x, no W
	Patch  = protocol.Site_PATCH  // the patch embedding as a linear layer
)

// Site is the place that is adapted.
type Site struct {
	// Name is that of adapter.targets: query, key, value, output, fc1 and fc2 are
	// Linear; patch is Patch; attn_in, which query, key and value read, and mlp_in,
	// which fc1 reads, are Stream.
	Name    string
	Block   int // 0-based; 0 for patch, which is in no block
	Kind    Kind
	In, Out int
	Bias    bool // b exists
	Model   Model
	// MaxIn and MaxOut are the largest sizes of all adapted sites: the size
	// of what the model shares.
	MaxIn, MaxOut int
}

// Serve is the main function of a plug-in.
func Serve[T Builder](v Variant[T]) {
	if stdout != nil {
		os.Stdout = stdout // for the handshake; go-plugin takes it over then
	}
	protocol.Serve(v.Server())
}

// stdout is the process's own while everything printed goes to stderr: a line
// printed before the handshake would be taken for it.
var stdout *os.File

func init() {
	if protocol.Started() {
		stdout, os.Stdout = os.Stdout, os.Stderr
	}
}

// Server answers the calls of the protocol in this process.
func (v Variant[T]) Server() protocol.VariantServer { return &server[T]{variant: v} }

type server[T Builder] struct {
	protocol.UnimplementedVariantServer
	variant Variant[T]
}

func (s *server[T]) Describe(context.Context, *protocol.DescribeRequest) (*protocol.DescribeReply, error) {
	v := s.variant
	return &protocol.DescribeReply{
		Name: v.Name, Version: v.Version, Paper: v.Paper, About: v.About, Authors: v.Authors,
		Schema: v.Schema, Formula: v.Formula, Parameters: v.Parameters,
		ChangesStart: v.ChangesStart, PeftType: v.PEFT, Examples: v.Examples,
	}, nil
}

func (s *server[T]) Build(ctx context.Context, r *protocol.BuildRequest) (*protocol.BuildReply, error) {
	params, err := decode[T](r.GetParamsJson())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return Programs(ctx, params, r.GetModel(), r.GetSites())
}

// Programs draws and checks the programs of all sites for parameters that are
// already set; equal ones are one. It is what answers a Build. A mistake in a
// graph and a panic come back as gRPC errors, the latter with its stack.
func Programs(ctx context.Context, b Builder, m *protocol.Model, at []*protocol.Site) (reply *protocol.BuildReply, err error) {
	drawn := "" // the site whose Check or Build runs
	defer func() {
		switch e := recover().(type) {
		case nil:
		case mistake:
			reply, err = nil, status.Error(codes.FailedPrecondition, e.Error())
		default:
			reply, err = nil, panicked(e, drawn)
		}
	}()
	sites := sitesOf(m, at)
	if problems := check(b, sites, func(i int) { drawn = program.SiteName(at[i]) }); len(problems) > 0 {
		return &protocol.BuildReply{Problems: problems}, nil
	}
	reply = &protocol.BuildReply{}
	index := map[string]uint32{} // by encoded program
	var peft []*protocol.PeftTensors
	// Without W a stream may lack tensors that a layer of its program has. With
	// one among the sites nothing is stored anyway.
	streams := slices.ContainsFunc(sites, func(s Site) bool { return s.Kind == Stream })
	for i, site := range sites {
		if err := ctx.Err(); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		drawn = program.SiteName(at[i])
		p, stored := build(b, site, at[i], m)
		key, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encoding the program of %s: %w", program.SiteName(at[i]), err)
		}
		of, ok := index[string(key)]
		if !ok {
			of = uint32(len(reply.Programs))
			index[string(key)] = of
			reply.Programs = append(reply.Programs, p)
			peft = append(peft, stored)
		} else if !streams && !proto.Equal(peft[of], stored) {
			panic(mistake{message: fmt.Sprintf("%s: the program is that of another site, but not what PEFT stores", program.SiteName(at[i]))})
		}
		reply.ProgramOfSite = append(reply.ProgramOfSite, of)
	}
	if drawn = ""; !streams {
		reply.Peft = peftOf(b, sites, at, reply, peft)
	}
	return reply, nil
}

// build draws one program, with what PEFT stores of it, and checks it as a
// whole. It panics with a mistake.
func build(b Builder, s Site, site *protocol.Site, m *protocol.Model) (*protocol.Program, *protocol.PeftTensors) {
	g := newGraph(site)
	y := b.Build(g, s)
	if y.g != g {
		panic(mistake{message: fmt.Sprintf("%s: Build returned a node that is not of its graph", program.SiteName(site))})
	}
	p, stored := g.finish(y)
	typed, err := program.Check(p, site, m)
	if err == nil && stored != nil {
		_, err = program.CheckPeft(typed, stored)
	}
	if err != nil {
		panic(mistake{where: madeAt(b, s, site, y), message: err.Error()})
	}
	return p, stored
}

// madeAt is the line that made y if its shape is wrong, found by drawing once more;
// "" if it is right, or if that cannot be known.
func madeAt(b Builder, s Site, site *protocol.Site, y Node) (where string) {
	if slices.Equal(y.Shape(), []int{Tokens, s.Out}) {
		return ""
	}
	defer func() { _ = recover() }() // a Build that is not the same again
	g := newGraph(site)
	g.until = int(y.index)
	defer func() { where = g.where }()
	b.Build(g, s)
	return ""
}

// panicked is the error of a panic in a variant, with its stack as detail; site is
// the one that was drawn, or "".
func panicked(cause any, site string) error {
	const most = 16 << 10
	stack := debug.Stack()
	// Drop what leads from the panic to this function.
	if _, after, ok := bytes.Cut(stack, []byte("\npanic(")); ok {
		if lines := bytes.SplitN(after, []byte("\n"), 3); len(lines) == 3 {
			stack = lines[2]
		}
	}
	stack = stack[:min(len(stack), most)]
	message := fmt.Sprintf("panic: %v", cause)
	if site != "" {
		message += " (at " + site + ")"
	}
	st := status.New(codes.Internal, message)
	if with, err := st.WithDetails(&errdetails.DebugInfo{Detail: string(stack)}); err == nil {
		st = with
	}
	return st.Err()
}

// sitesOf translates sites.
func sitesOf(m *protocol.Model, at []*protocol.Site) []Site {
	model := Model{
		Family: m.GetFamily(), Dim: int(m.GetDim()), Depth: int(m.GetDepth()),
		Heads: int(m.GetHeads()), MLP: int(m.GetMlp()),
	}
	sites := make([]Site, len(at))
	var maxIn, maxOut int
	for i, s := range at {
		sites[i] = Site{
			Name: s.GetName(), Block: int(s.GetBlock()), Kind: s.GetKind(),
			In: int(s.GetIn()), Out: int(s.GetOut()), Bias: s.GetBias(), Model: model,
		}
		maxIn, maxOut = max(maxIn, sites[i].In), max(maxOut, sites[i].Out)
	}
	for i := range sites {
		sites[i].MaxIn, sites[i].MaxOut = maxIn, maxOut
	}
	return sites
}

// check collects the problems of all sites, each once; one that every site has
// is about no site in particular. asking hears of the site that is looked at.
func check(b Builder, sites []Site, asking func(i int)) []*protocol.Problem {
	c, ok := b.(Checker)
	if !ok {
		return nil
	}
	var found []*protocol.Problem
	count := map[Problem]int{}
	at := map[Problem]*protocol.Problem{}
	for i, s := range sites {
		asking(i)
		for _, p := range c.Check(s) {
			if count[p]++; count[p] == 1 {
				at[p] = &protocol.Problem{Param: p.Param, Message: p.Message, Hint: p.Hint, Site: int32(i)}
				found = append(found, at[p])
			}
			if count[p] == len(sites) {
				at[p].Site = -1
			}
		}
	}
	return found
}

// decode fills a T from JSON. Every parameter needs a field and every field of
// a struct a parameter: a schema and a type that have drifted apart would
// otherwise train with a zero.
func decode[T any](params string) (T, error) {
	var v T
	if strings.TrimSpace(params) == "" {
		params = "{}"
	}
	d := json.NewDecoder(strings.NewReader(params))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("the parameters %s do not fit %T: %s", params, v, strings.TrimPrefix(err.Error(), "json: "))
	}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return v, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(params), &given); err != nil {
		return v, fmt.Errorf("reading the parameters %s: %w", params, err)
	}
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, strings.ToLower(name))
	}
	var missing []string
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if !f.IsExported() || f.Anonymous || name == "-" || strings.Contains(options, "omitempty") {
			continue
		}
		if !slices.Contains(names, strings.ToLower(name)) {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		return v, fmt.Errorf("no parameter for %s of %T: give #Params a field with a default, or tag it omitempty", strings.Join(missing, ", "), v)
	}
	return v, nil
}
