package experiment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// config is one cell as the schema describes it. Cells share the sections that
// they agree in: none is changed once it is read.
type config struct {
	About    string          `json:"about"`
	Backbone *backboneConfig `json:"backbone"`
	Adapter  *adapterConfig  `json:"adapter"`
	Head     *headConfig     `json:"head"`
	Data     *dataConfig     `json:"data"`
	Loss     *lossConfig     `json:"loss"`
	Optim    *optimConfig    `json:"optim"`
	Train    *trainConfig    `json:"train"`
	Seeds    []uint64        `json:"seeds"`
	Evaluate *evaluateConfig `json:"evaluate"`
	Report   *reportConfig   `json:"report"`
}

// sections are the parts of an experiment that cells may replace;
// configSections all parts of a configuration.
var (
	sections       = []string{"backbone", "adapter", "head", "data", "loss", "optim", "train"}
	configSections = append(slices.Clone(sections), "evaluate", "report")
)

// take has a section in common with another configuration.
func (c *config) take(section string, from *config) {
	switch section {
	case "backbone":
		c.Backbone = from.Backbone
	case "adapter":
		c.Adapter = from.Adapter
	case "head":
		c.Head = from.Head
	case "data":
		c.Data = from.Data
	case "loss":
		c.Loss = from.Loss
	case "optim":
		c.Optim = from.Optim
	case "train":
		c.Train = from.Train
	case "evaluate":
		c.Evaluate = from.Evaluate
	case "report":
		c.Report = from.Report
	}
}

type lossConfig map[string]float64

type reportConfig struct {
	Metric string `json:"metric"`
}

type backboneConfig struct {
	Model  string       `json:"model"`
	Depth  uint32       `json:"depth"` // 0: all
	Freeze freezeConfig `json:"freeze"`
}

type adapterConfig struct {
	Variant string          `json:"variant"`
	From    string          `json:"from"`
	Params  json.RawMessage `json:"params"`
	Targets []string        `json:"targets"`
	Blocks  blocks          `json:"blocks"`
}

type headConfig struct {
	Kind    string  `json:"kind"`
	Hidden  uint32  `json:"hidden"`
	Norm    bool    `json:"norm"`
	Dropout float64 `json:"dropout"`
}

type dataConfig struct {
	Source     string            `json:"source"`
	Size       size              `json:"size"`
	Classes    []string          `json:"classes"`
	Remap      map[string]string `json:"remap"`
	Ignore     *uint32           `json:"ignore"`
	Split      splitConfig       `json:"split"`
	Limit      limitConfig       `json:"limit"`
	Normalize  *normalizeConfig  `json:"normalize"`
	Procedural proceduralConfig  `json:"procedural"`
}

type splitConfig struct {
	Seed  uint64  `json:"seed"`
	Train float64 `json:"train"`
	Val   float64 `json:"val"`
	Test  float64 `json:"test"`
}

type limitConfig struct {
	Seed  uint64 `json:"seed"`
	Train uint32 `json:"train"` // 0: all
	Val   uint32 `json:"val"`
	Test  uint32 `json:"test"`
}

type normalizeConfig struct {
	Mean []float64 `json:"mean"`
	Std  []float64 `json:"std"`
}

type proceduralConfig struct {
	Seed  uint64 `json:"seed"`
	Train uint32 `json:"train"`
	Val   uint32 `json:"val"`
	Test  uint32 `json:"test"`
	Style string `json:"style"`
	Size  uint32 `json:"size"`
}

type optimConfig struct {
	Kind string `json:"kind"`
	LR   struct {
		Backbone float64 `json:"backbone"`
		Adapter  float64 `json:"adapter"`
		Head     float64 `json:"head"`
	} `json:"lr"`
	WeightDecay float64    `json:"weightDecay"`
	Betas       [2]float64 `json:"betas"`
	Eps         float64    `json:"eps"`
	Clip        float64    `json:"clip"`
	Schedule    struct {
		Kind   string  `json:"kind"`
		Warmup float64 `json:"warmup"`
		Floor  float64 `json:"floor"`
	} `json:"schedule"`
}

type trainConfig struct {
	Epochs    uint32 `json:"epochs"`
	Batch     uint32 `json:"batch"`
	Precision string `json:"precision"`
	MaxSteps  uint32 `json:"maxSteps"`
	Monitor   string `json:"monitor"`
	EvalEvery uint32 `json:"evalEvery"`
}

type evaluateConfig struct {
	Checkpoint string  `json:"checkpoint"`
	Domains    domains `json:"domains"`
}

type domainConfig struct {
	Source  string            `json:"source"`
	Classes []string          `json:"classes"`
	Remap   map[string]string `json:"remap"`
	Ignore  *uint32           `json:"ignore"`
	Limit   uint32            `json:"limit"`
	Seed    uint64            `json:"seed"`
	Style   string            `json:"style"`
}

// domains keeps the order of the file.
type domains []domain

type domain struct {
	name string
	domainConfig
}

func (d *domains) UnmarshalJSON(b []byte) error {
	return eachMember(b, func(name string, value json.RawMessage) error {
		*d = append(*d, domain{name: name})
		return json.Unmarshal(value, &(*d)[len(*d)-1].domainConfig)
	})
}

// eachMember calls do for the members of a JSON object in their order.
func eachMember(b []byte, do func(name string, value json.RawMessage) error) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if err := do(fmt.Sprint(name), value); err != nil {
			return err
		}
	}
	return nil
}

// size is height and width; in JSON one number if they are alike.
type size [2]uint32

func (s *size) UnmarshalJSON(b []byte) error {
	var both uint32
	if json.Unmarshal(b, &both) == nil {
		*s = size{both, both}
		return nil
	}
	return json.Unmarshal(b, (*[2]uint32)(s))
}

// blocks is "all", "8..11" or a list.
type blocks struct {
	all         bool
	list        []uint32 // if not from a range
	first, last uint32   // of a range
}

func (s *blocks) UnmarshalJSON(b []byte) error {
	*s = blocks{}
	var text string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, &s.list)
	}
	if text == "all" {
		s.all = true
		return nil
	}
	from, to, _ := strings.Cut(text, "..")
	first, err := strconv.ParseUint(from, 10, 32)
	if err != nil {
		return err
	}
	last, err := strconv.ParseUint(to, 10, 32)
	if err != nil {
		return err
	}
	s.first, s.last = uint32(first), uint32(last)
	return nil
}

// of lists the blocks of a backbone with so many, ascending. The message is
// empty if all is well.
func (s blocks) of(depth uint32) (list []uint32, message, hint string) {
	hint = fmt.Sprintf("the backbone uses %d blocks, 0..%d", depth, depth-1)
	switch {
	case s.all:
		for b := range depth {
			list = append(list, b)
		}
	case s.list != nil:
		list = slices.Sorted(slices.Values(s.list))
		if i := len(list) - 1; list[i] >= depth {
			return nil, fmt.Sprintf("there is no block %d", list[i]), hint
		}
		for i := 1; i < len(list); i++ {
			if list[i] == list[i-1] {
				return nil, fmt.Sprintf("block %d is listed twice", list[i]), ""
			}
		}
	case s.first > s.last:
		return nil, fmt.Sprintf("the range %d..%d is empty", s.first, s.last), fmt.Sprintf("did you mean \"%d..%d\"?", s.last, s.first)
	case s.last >= depth:
		return nil, fmt.Sprintf("there is no block %d", s.last), hint
	default:
		for b := s.first; b <= s.last; b++ {
			list = append(list, b)
		}
	}
	return list, "", ""
}

// freezeConfig is "all", "none", or the blocks that are frozen.
type freezeConfig struct {
	kind   string // all | none | blocks
	blocks blocks
}

func (f *freezeConfig) UnmarshalJSON(b []byte) error {
	*f = freezeConfig{}
	if json.Unmarshal(b, &f.kind) == nil {
		return nil
	}
	f.kind = "blocks"
	return json.Unmarshal(b, &struct{ Blocks *blocks }{&f.blocks})
}

// training is what becomes of the classes of the masks.
type training struct {
	classes []string         // as trained
	values  map[uint32]int32 // value of a mask -> index of the class; -1: ignored
}

const ignored = "ignore" // in remap

// train merges classes. The caller has checked the names.
func mergeClasses(classes []string, remap map[string]string, ignore *uint32) training {
	t := training{values: map[uint32]int32{}}
	for _, c := range classes {
		if to, ok := remap[c]; !ok || to == c {
			t.classes = append(t.classes, c)
		}
	}
	for value, c := range classes {
		if to, ok := remap[c]; ok {
			c = to
		}
		t.values[uint32(value)] = int32(slices.Index(t.classes, c)) // -1 for ignore
	}
	if ignore != nil {
		t.values[*ignore] = -1
	}
	return t
}
