// Package program says what an adapter program means before anything runs it.
//
// A variant plug-in hands over a small graph of operations for each place it
// adapts. Whoever receives one (the runner on behalf of the user, the engine
// before it compiles it, the sdk while a plug-in builds it) asks this package:
// the operations are described in exactly one table, one row each, with arity,
// attributes, shape rule and behaviour in x. Check walks a program along that
// table and either returns it typed, or every mistake at once with site, node
// and what was expected.
//
// Shapes have one unknown, T, the number of tokens of the batch, written -1.
// No operation may mix tokens: an adapted layer, like the layer it replaces,
// acts on every token alone. That is what makes merging sound and results
// independent of how images are batched.
package program

import (
	"fmt"
	"math"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/protocol"
)

// What the parts of a program may not exceed; for the whole see MaxMemory.
const (
	Version     = 2       // of the op list: the newest that is known
	MaxNodes    = 4096    // nodes of a program
	MaxParams   = 256     // parameters of a program
	MaxElements = 1 << 28 // elements of a parameter, or of a node for one token
	MaxRank     = 8       // dimensions of a shape
	MaxBytes    = 4 << 20 // encoded program
	maxName     = 100     // bytes of a name
)

// T is the unknown number of tokens in a shape.
const T = -1

// DType is the element type of a value.
type DType int

const (
	Float DType = iota // in the precision of the engine
	Int64              // positions for GATHER and SCATTER
)

func (d DType) String() string {
	if d == Int64 {
		return "int64"
	}
	return "float"
}

// Linearity is how a value depends on x, outside training.
type Linearity int

const (
	Constant  Linearity = iota // does not depend on x
	Affine                     // F(x) = xA + c, token by token
	Nonlinear                  // anything else
)

func (l Linearity) String() string {
	return [...]string{"constant", "affine", "nonlinear"}[l]
}

// Source is a set of what a value is computed from.
type Source uint8

const (
	FromX       Source = 1 << iota // the input of the layer
	FromBase                       // the base layer or its W and b, trainable when the backbone is
	FromTrained                    // a trainable parameter
	FromRandom                     // dropout, random while training
)

// Value is what is known of a node before it runs.
type Value struct {
	Shape     []int64 // T (-1) at most once
	DType     DType
	Linearity Linearity
	From      Source // 0: can be computed once and kept

	// Of Int64 values: every position is in [0, bound), and none comes twice.
	bound    int64
	distinct bool
}

// Typed is a checked program.
type Typed struct {
	Program   *protocol.Program
	Site      *protocol.Site
	Shapes    [][]int64   // of each node, -1 = T
	DTypes    []DType     // of each node
	Linearity []Linearity // of each node, in x
	From      []Source    // of each node: what it is computed from
	Live      []bool      // whether the output or an aux scalar needs the node
	Params    map[string]*protocol.Param
	// TrainableCount is the number of trainable elements one site sees; those
	// of block and model scope are shared with other sites (see Trainable).
	TrainableCount int64
	// Warnings says what is legal but surely not meant: dead nodes and
	// parameters that are never used.
	Warnings []string
}

// Mergeable reports whether the output is affine in x, so that the adapter can
// be folded into W and b.
func (t *Typed) Mergeable() bool {
	return t.Linearity[t.Program.GetOutput()] != Nonlinear
}

// Bend names the first node on the way to the output that is not affine in x,
// "" if there is none.
func (t *Typed) Bend() string {
	for i, l := range t.Linearity {
		if n := t.Program.Nodes[i]; t.Live[i] && l == Nonlinear {
			return nodeText(i, OpName(n.GetOp()), n.GetName())
		}
	}
	return ""
}

// Trainable is the number of trainable elements in the given scope.
func (t *Typed) Trainable(scope protocol.Param_Scope) int64 {
	var n int64
	for _, p := range t.Program.GetParams() {
		if p.GetTrainable() && p.GetScope() == scope {
			n += elements(p.GetShape())
		}
	}
	return n
}

// VersionOf is the lowest version of the op list that has all that a program uses.
func VersionOf(p *protocol.Program) uint32 {
	v := uint32(1)
	for _, n := range p.GetNodes() {
		v = max(v, ops[n.GetOp()].since)
	}
	for _, q := range p.GetParams() {
		for i := q.GetInit(); i != nil; i = i.GetInner() {
			v = max(v, inits[i.GetKind()].since)
		}
	}
	return v
}

var (
	paramName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	// Printable ASCII without quotes and backslash: names end up in messages.
	nodeName = regexp.MustCompile(`^[ !#-&(-\[\]-~]*$`)
)

// Check types p at site s of model m and returns every mistake at once as
// Errors. m may be nil if the model is not known.
func Check(p *protocol.Program, s *protocol.Site, m *protocol.Model) (*Typed, error) {
	k := newChecker(s)
	if !k.start(p, m) {
		return nil, k.errs
	}
	t := &Typed{
		Program:   p,
		Site:      s,
		Shapes:    make([][]int64, len(p.Nodes)),
		DTypes:    make([]DType, len(p.Nodes)),
		Linearity: make([]Linearity, len(p.Nodes)),
		From:      make([]Source, len(p.Nodes)),
		Params:    k.params,
	}
	for _, q := range p.GetParams() {
		k.declare(q)
	}
	for _, n := range p.GetNodes() {
		k.node(n)
	}
	k.results(p)
	if v := VersionOf(p); v > p.GetVersion() {
		k.program("version %d of the op list is declared, but it uses what came with %d", p.GetVersion(), v)
	}
	if len(k.errs) == 0 {
		k.limits(p)
	}
	if len(k.errs) > 0 {
		return nil, k.errs
	}
	for i, v := range k.nodes {
		t.Shapes[i], t.DTypes[i], t.Linearity[i], t.From[i] = v.Shape, v.DType, v.Linearity, v.From
	}
	for _, q := range p.Params {
		if q.GetTrainable() {
			t.TrainableCount += elements(q.GetShape())
		}
	}
	t.Live = live(p)
	t.Warnings = idle(t)
	return t, nil
}

type checker struct {
	site   *protocol.Site
	params map[string]*protocol.Param
	given  map[string]*Value // of params; nil: declared, but wrong
	nodes  []*Value
	of     string // what is checked, if it is not the program: "PEFT"
	errs   Errors
}

func newChecker(s *protocol.Site) *checker {
	return &checker{site: s, params: map[string]*protocol.Param{}, given: map[string]*Value{}}
}

func (k *checker) fail(e *Error) {
	e.Site, e.Of = SiteName(k.site), k.of
	k.errs = append(k.errs, e)
}

func (k *checker) program(format string, args ...any) {
	k.fail(&Error{Node: -1, Message: fmt.Sprintf(format, args...)})
}

// start checks what everything else relies on and says whether to go on.
func (k *checker) start(p *protocol.Program, m *protocol.Model) bool {
	s := k.site
	switch {
	case s == nil:
		k.program("no site")
		return false
	case p == nil:
		k.program("no program")
		return false
	}
	if v := p.GetVersion(); v < 1 || v > Version {
		k.program("version %d of the op list, want 1 to %d: a newer loralab may know it; or build the plug-in with the sdk of this one", v, Version)
		return false
	}
	if n := proto.Size(p); n > MaxBytes {
		k.program("the program takes %d bytes, at most %d are allowed", n, MaxBytes)
		return false
	}
	if s.GetIn() == 0 || s.GetOut() == 0 {
		k.program("the site has size [%d, %d], want at least [1, 1]", s.GetOut(), s.GetIn())
	}
	if int64(s.GetIn())*int64(s.GetOut()) > MaxElements {
		k.program("the site has size [%d, %d], more than %d elements", s.GetOut(), s.GetIn(), MaxElements)
	}
	switch s.GetKind() {
	case protocol.Site_LINEAR, protocol.Site_PATCH:
	case protocol.Site_STREAM:
		if s.GetIn() != s.GetOut() {
			k.program("a stream has one width, but in is %d and out is %d", s.GetIn(), s.GetOut())
		}
		if s.GetBias() {
			k.program("a stream has no bias")
		}
	default:
		k.program("the site has unknown kind %d", s.GetKind())
	}
	if m != nil && s.GetKind() != protocol.Site_PATCH && m.GetDepth() > 0 && s.GetBlock() >= m.GetDepth() {
		k.program("the model has %d blocks, 0 to %d", m.GetDepth(), m.GetDepth()-1)
	}
	if n := len(p.GetNodes()); n == 0 {
		k.program("no nodes: the output has to be computed from x")
	} else if n > MaxNodes {
		k.program("%d nodes, at most %d are allowed", n, MaxNodes)
	}
	if n := len(p.GetParams()); n > MaxParams {
		k.program("%d parameters, at most %d are allowed", n, MaxParams)
	}
	return len(k.errs) == 0
}

// declare checks the next parameter.
func (k *checker) declare(q *protocol.Param) {
	name := q.GetName()
	e := func(format string, args ...any) {
		k.fail(&Error{Node: -1, Param: name, Message: fmt.Sprintf(format, args...)})
	}
	if !paramName.MatchString(name) || len(name) > maxName {
		k.program("a parameter has the name %s, want letters, digits and _ with a letter first, at most %d", clip(name), maxName)
		return
	}
	if k.params[name] != nil {
		e("declared twice")
		return
	}
	k.params[name] = q
	v, errs := declared(q, k.site)
	for _, msg := range errs {
		e("%s", msg)
	}
	k.given[name] = v
}

// declared is the value of a parameter, nil with reasons if it has mistakes.
func declared(q *protocol.Param, s *protocol.Site) (*Value, []string) {
	var errs []string
	e := func(format string, args ...any) { errs = append(errs, fmt.Sprintf(format, args...)) }
	if err := fixedShape(q.GetShape()); err != nil {
		return nil, []string{err.Error()}
	}
	switch q.GetScope() {
	case protocol.Param_SITE, protocol.Param_BLOCK, protocol.Param_MODEL:
	default:
		e("unknown scope %d, want SITE, BLOCK or MODEL", q.GetScope())
	}
	for _, f := range []struct {
		name string
		v    *float64
	}{{"lr_mult", q.LrMult}, {"decay_mult", q.DecayMult}} {
		if f.v != nil && (!finite(*f.v) || *f.v < 0) {
			e("%s is %v, want a finite number, at least 0", f.name, *f.v)
		}
		if f.v != nil && !q.GetTrainable() {
			e("%s without being trainable has no effect", f.name)
		}
	}
	if q.GetDerived() && q.GetTrainable() {
		e("derived, but trainable: its values change and have to be stored")
	}
	if q.GetStream() != "" && (!nodeName.MatchString(q.GetStream()) || len(q.GetStream()) > maxName) {
		e("stream %s, want printable ASCII, at most %d", clip(q.GetStream()), maxName)
	}
	dtype, initErrs := checkInit(q.GetInit(), q.GetShape(), s, q.GetScope())
	errs = append(errs, initErrs...)
	if dtype == Int64 && q.GetTrainable() {
		e("positions (%s) cannot be trained", q.GetInit().GetKind())
	}
	if len(errs) > 0 {
		return nil, errs
	}
	v := &Value{Shape: slices.Clone(q.GetShape()), DType: dtype}
	if q.GetTrainable() {
		v.From = FromTrained
	}
	if dtype == Int64 {
		v.bound, v.distinct = positions(q.GetInit(), s)
	}
	return v, nil
}

// node types the next node; a wrong one and what follows from it are nil.
func (k *checker) node(n *protocol.Node) {
	i := len(k.nodes)
	k.nodes = append(k.nodes, nil)
	e := func(format string, args ...any) {
		k.fail(&Error{Node: i, Op: OpName(n.GetOp()), Name: n.GetName(), Message: fmt.Sprintf(format, args...)})
	}
	if n == nil {
		e("missing")
		return
	}
	if len(n.GetName()) > maxName || !nodeName.MatchString(n.GetName()) {
		k.fail(&Error{Node: i, Op: OpName(n.GetOp()), Message: fmt.Sprintf("name %s, want printable ASCII, at most %d", clip(n.GetName()), maxName)})
	}
	in := make([]*Value, len(n.GetInputs()))
	known := true
	for j, at := range n.GetInputs() {
		if int64(at) >= int64(i) {
			e("input %d is %%%d, want a node before %%%d", j, at, i)
			known = false
			continue
		}
		in[j] = k.nodes[at]
		known = known && in[j] != nil
	}
	if err := attributes(n); err != nil {
		e("%s", err)
		return
	}
	if !known {
		return
	}
	var param *Value
	if n.GetOp() == protocol.Op_PARAM {
		var declared bool
		if param, declared = k.given[n.GetParam()]; !declared {
			e("no parameter %s is declared", clip(n.GetParam()))
			return
		}
		if param == nil {
			return
		}
	}
	v, err := infer(n, in, param, k.site)
	if err != nil {
		e("%s", err)
		return
	}
	k.nodes[i] = v
}

// results checks output and aux scalars.
func (k *checker) results(p *protocol.Program) {
	at := func(i uint32) (*Value, *Error) {
		n := p.GetNodes()[i]
		return k.nodes[i], &Error{Node: int(i), Op: OpName(n.GetOp()), Name: n.GetName()}
	}
	if i := p.GetOutput(); int(i) >= len(k.nodes) {
		k.program("the output is %%%d, but the last node is %%%d", i, len(k.nodes)-1)
	} else if v, e := at(i); v != nil {
		want := []int64{T, int64(k.site.GetOut())}
		switch {
		case v.DType != Float:
			e.Message = "the output is int64, want float " + ShapeText(want)
			k.fail(e)
		case !slices.Equal(v.Shape, want):
			e.Message = fmt.Sprintf("the output has shape %s, want %s", ShapeText(v.Shape), ShapeText(want))
			k.fail(e)
		}
	}
	for j, a := range p.GetAux() {
		if !paramName.MatchString(a.GetName()) || len(a.GetName()) > maxName {
			k.program("aux %d has the name %s, want letters, digits and _ with a letter first", j, clip(a.GetName()))
		}
		if !finite(a.GetWeight()) {
			k.program("aux %s has weight %v, want a finite number", clip(a.GetName()), a.GetWeight())
		}
		if int(a.GetNode()) >= len(k.nodes) {
			k.program("aux %s is %%%d, but the last node is %%%d", clip(a.GetName()), a.GetNode(), len(k.nodes)-1)
			continue
		}
		if v, e := at(a.GetNode()); v != nil && (v.DType != Float || slices.ContainsFunc(v.Shape, func(n int64) bool { return n != 1 })) {
			e.Message = fmt.Sprintf("aux %s has shape %s, want a scalar: sum over all dimensions", clip(a.GetName()), ShapeText(v.Shape))
			k.fail(e)
		}
	}
}

// live marks the nodes that the output and the aux scalars need.
func live(p *protocol.Program) []bool {
	roots := []uint32{p.GetOutput()}
	for _, a := range p.GetAux() {
		roots = append(roots, a.GetNode())
	}
	return Needed(p.GetNodes(), roots...)
}

func idle(t *Typed) []string {
	var w []string
	used := map[string]bool{}
	for i, n := range t.Program.GetNodes() {
		if !t.Live[i] {
			w = append(w, fmt.Sprintf("%s: %s is never used", SiteName(t.Site), nodeText(i, OpName(n.GetOp()), n.GetName())))
		} else if n.GetOp() == protocol.Op_PARAM {
			used[n.GetParam()] = true
		}
	}
	for _, q := range t.Program.GetParams() {
		if !used[q.GetName()] {
			w = append(w, fmt.Sprintf("%s: parameter %s is never used", SiteName(t.Site), q.GetName()))
		}
	}
	return w
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// elements is the number of elements for one token.
func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		if d != T {
			n *= d
		}
	}
	return n
}

// bounded checks rank and number of elements without overflowing.
func bounded(shape []int64) error {
	if len(shape) > MaxRank {
		return fmt.Errorf("%d dimensions, at most %d are allowed", len(shape), MaxRank)
	}
	n := int64(1)
	for _, d := range shape {
		if d == T {
			continue
		}
		if d > MaxElements || n > MaxElements/max(d, 1) {
			return fmt.Errorf("shape %s has more than %d elements", ShapeText(shape), MaxElements)
		}
		n *= d
	}
	return nil
}

// fixedShape checks a shape without T.
func fixedShape(shape []int64) error {
	for _, d := range shape {
		if d < 1 {
			return fmt.Errorf("shape %s, want every dimension at least 1", rawShape(shape))
		}
	}
	return bounded(shape)
}
