package program

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/protocol"
)

// Placed is a set of programs put to their sites.
type Placed struct {
	Sites []*Typed // one for each site, in order
	// Trainable is the number of trainable elements, shared ones counted once.
	Trainable int64
	Warnings  []string
}

// ParamName is the name of a parameter in the model, by its scope, as files of
// weights have it: "blocks.6.query.lora_A", "blocks.6.A" of one shared in a
// block, "A" of one of the model.
func ParamName(site *protocol.Site, q *protocol.Param) string {
	block := "blocks." + strconv.Itoa(int(site.GetBlock())) + "."
	switch {
	case q.GetScope() == protocol.Param_MODEL:
		return q.GetName()
	case site.GetKind() == protocol.Site_PATCH:
		return site.GetName() + "." + q.GetName()
	case q.GetScope() == protocol.Param_BLOCK:
		return block + q.GetName()
	default:
		return block + site.GetName() + "." + q.GetName()
	}
}

// CheckAll checks the programs at all their sites, of[i] being the index of
// the program of sites[i], and that parameters shared by a block or the model
// are the same wherever they appear. All mistakes come back at once; one that
// many sites have in common is reported for the first of them.
func CheckAll(programs []*protocol.Program, sites []*protocol.Site, of []uint32, m *protocol.Model) (*Placed, error) {
	if len(of) != len(sites) {
		return nil, Errors{{Node: -1, Message: fmt.Sprintf("%d sites were given a program, want %d", len(of), len(sites))}}
	}
	// What Check looks at in a site, apart from where it is.
	type shape struct {
		program, in, out uint32
		kind             protocol.Site_Kind
		bias             bool
		outside          bool // of the model's blocks
	}
	type checked struct {
		typed *Typed
		err   error
	}
	seen := map[shape]checked{}
	used := map[uint32]bool{}
	placed := &Placed{Sites: make([]*Typed, len(sites))}
	var errs Errors
	for i, s := range sites {
		if int(of[i]) >= len(programs) {
			errs = append(errs, &Error{Site: SiteName(s), Node: -1, Message: fmt.Sprintf("program %d of %d", of[i], len(programs))})
			continue
		}
		used[of[i]] = true
		key := shape{of[i], s.GetIn(), s.GetOut(), s.GetKind(), s.GetBias(), s.GetBlock() >= m.GetDepth()}
		c, ok := seen[key]
		if !ok {
			c.typed, c.err = Check(programs[of[i]], s, m)
			seen[key] = c
			if c.err != nil {
				errs = append(errs, c.err.(Errors)...)
			} else {
				placed.Warnings = append(placed.Warnings, c.typed.Warnings...)
			}
		}
		if c.typed == nil {
			continue
		}
		t := *c.typed
		t.Site = s
		placed.Sites[i] = &t
	}
	for i := range programs {
		if !used[uint32(i)] {
			placed.Warnings = append(placed.Warnings, fmt.Sprintf("program %d belongs to no site", i))
		}
	}
	errs = append(errs, placed.share()...)
	if len(errs) > 0 {
		return nil, errs
	}
	return placed, nil
}

// share counts the trainable parameters and compares the shared ones.
func (p *Placed) share() Errors {
	type place struct {
		block uint32 // MODEL: 0
		patch bool   // in no block
		scope protocol.Param_Scope
		name  string
	}
	type owner struct {
		param *protocol.Param
		site  *protocol.Site
	}
	shared := map[place]owner{}
	differ := map[string]*Error{}
	for _, t := range p.Sites {
		if t == nil {
			continue
		}
		for _, q := range t.Program.GetParams() {
			n := int64(0)
			if q.GetTrainable() {
				n = elements(q.GetShape())
			}
			if q.GetScope() == protocol.Param_SITE {
				p.Trainable += n
				continue
			}
			at := place{scope: q.GetScope(), name: q.GetName()}
			if at.scope == protocol.Param_BLOCK {
				at.block, at.patch = t.Site.GetBlock(), t.Site.GetKind() == protocol.Site_PATCH
			}
			first, ok := shared[at]
			if !ok {
				shared[at] = owner{q, t.Site}
				p.Trainable += n
				continue
			}
			if first.param != q && !proto.Equal(first.param, q) && differ[q.GetName()] == nil {
				differ[q.GetName()] = &Error{
					Site: SiteName(t.Site), Node: -1, Param: q.GetName(),
					Message: fmt.Sprintf("shared with %s, but not the same there: %q against %q", SiteName(first.site), paramText(q), paramText(first.param)),
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(differ), func(a, b *Error) int { return cmp.Compare(a.Param, b.Param) })
}
