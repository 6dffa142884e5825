package experiment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
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

// shareSection has a section in common with another configuration.
func (c *config) shareSection(section string, from *config) {
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

type lossConfig struct {
	CrossEntropy float64      `json:"crossEntropy"`
	Dice         float64      `json:"dice"`
	LogCoshDice  float64      `json:"logCoshDice"`
	Focal        float64      `json:"focal"`
	Lovasz       float64      `json:"lovasz"`
	Smoothing    float64      `json:"smoothing"`
	Gamma        float64      `json:"gamma"`
	ClassWeights classWeights `json:"classWeights"`
}

// classWeights are given by class, or by a way to count.
type classWeights struct {
	by string // "": none
	of map[string]float64
}

func (w *classWeights) UnmarshalJSON(b []byte) error {
	*w = classWeights{}
	if json.Unmarshal(b, &w.by) == nil {
		if w.by == "none" {
			w.by = ""
		}
		return nil
	}
	return json.Unmarshal(b, &w.of)
}

type reportConfig struct {
	Metric   string       `json:"metric"`
	Baseline string       `json:"baseline"` // "" for none
	Figure   figureConfig `json:"figure"`
}

type figureConfig struct {
	Width figureWidth `json:"width"`
}

// figureWidth is in inches; 0 is that of a page.
type figureWidth float64

func (w *figureWidth) UnmarshalJSON(b []byte) error {
	if at, named := map[string]figureWidth{`"page"`: 0, `"one column"`: 3.5, `"two columns"`: 7.16}[string(b)]; named {
		*w = at
		return nil
	}
	return json.Unmarshal(b, (*float64)(w))
}

type backboneConfig struct {
	Model    string       `json:"model"`
	Depth    uint32       `json:"depth"` // 0: all
	Freeze   freezeConfig `json:"freeze"`
	Norm     bool         `json:"finalNorm"`
	DropPath float64      `json:"dropPath"`
}

type adapterConfig struct {
	Variant string   `json:"variant"`
	From    string   `json:"from"`
	Params  *tree    `json:"-"` // as CUE has them, see assemble
	Targets []string `json:"targets"`
	Blocks  blocks   `json:"blocks"`
}

type headConfig struct {
	Kind    string  `json:"kind"`
	Hidden  uint32  `json:"hidden"`
	Norm    bool    `json:"norm"`
	Dropout float64 `json:"dropout"`
	Layers  uint32  `json:"layers"`
	Heads   uint32  `json:"heads"`
	Width   uint32  `json:"width"`
	Stages  uint32  `json:"stages"`
	Taps    *blocks `json:"taps"`
}

type dataConfig struct {
	Source     string            `json:"source"`
	Layout     string            `json:"layout"`
	Size       size              `json:"size"`
	Classes    []string          `json:"classes"`
	Remap      map[string]string `json:"remap"`
	Ignore     *uint32           `json:"ignore"`
	Colors     map[string]colors `json:"colors"`
	Split      splitConfig       `json:"split"`
	Fraction   float64           `json:"fraction"`
	Limit      limitConfig       `json:"limit"`
	Augment    []augmentConfig   `json:"augment"`
	Views      *viewsConfig      `json:"views"`
	Normalize  *normalizeConfig  `json:"normalize"`
	Procedural proceduralConfig  `json:"procedural"`

	// Of the test split as a domain.
	corruption *spec.Corruption
	look       *lookConfig
}

type viewsConfig struct {
	Count uint32    `json:"count"`
	Seed  splitSeed `json:"seed"`
}

type augmentConfig struct {
	Kind       string      `json:"kind"`
	P          *float64    `json:"p"`
	Range      *[2]float64 `json:"range"`
	ShortSide  *[2]float64 `json:"shortSide"`
	MaxClass   float64     `json:"maxClass"` // 0: 1
	Brightness *float64    `json:"brightness"`
	Contrast   *float64    `json:"contrast"`
	Saturation *float64    `json:"saturation"`
	Hue        *float64    `json:"hue"`
}

type splitConfig struct {
	Method   string    `json:"method"`
	Seed     splitSeed `json:"seed"`
	Train    float64   `json:"train"`
	Val      valShare  `json:"val"`
	Test     float64   `json:"test"`
	Group    string    `json:"group"` // separators; at most one of the two
	Stratify string    `json:"stratify"`
	From     string    `json:"from"`  // a list, in place of all above
	Folds    uint32    `json:"folds"` // 0: none
	Fold     foldList  `json:"fold"`  // "": all

	fold name.Fold // of a run
}

// foldList is folds that are listed, as JSON. It can be compared.
type foldList string

func (l *foldList) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '[' {
		b = fmt.Appendf(nil, "[%s]", b)
	}
	*l = foldList(b)
	return nil
}

// numbers are the folds that are listed.
func (l foldList) numbers() (list []uint32) {
	_ = json.Unmarshal([]byte(l), &list) // the schema has checked it
	return list
}

// folds are those that cells have runs of, in the order of the file: none without
// cross-validation.
func (s *splitConfig) folds() []uint32 {
	wrong := func(n uint32) bool { return n >= s.Folds } // which is reported
	if list := slices.DeleteFunc(s.Fold.numbers(), wrong); len(list) > 0 || s.Folds == 0 {
		return list
	}
	list := make([]uint32, s.Folds)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

// splitSeed is a number, or that of each run; views have one too.
type splitSeed struct {
	number uint64
	run    bool
}

func (s *splitSeed) UnmarshalJSON(b []byte) error {
	*s = splitSeed{run: string(b) == `"run"`}
	if s.run {
		return nil
	}
	return json.Unmarshal(b, &s.number)
}

// valShare is the fraction that is validated on, or 0 if that is what is tested on.
type valShare float64

func (s *valShare) UnmarshalJSON(b []byte) error {
	if string(b) == `"test"` {
		*s = 0
		return nil
	}
	return json.Unmarshal(b, (*float64)(s))
}

// of is the configuration of the data for a run.
func (d *dataConfig) of(r name.Repeat) *dataConfig {
	if !d.Split.Seed.run && d.Split.Folds == 0 {
		return d
	}
	own := *d
	own.Split.fold = r.Fold
	if d.Split.Seed.run {
		own.Split.Seed = splitSeed{number: r.Seed}
	}
	return &own
}

// repeats are the runs that a cell has with these seeds: by fold, then by seed.
func (d *dataConfig) repeats(seeds []uint64) (list []name.Repeat) {
	folds := []name.Fold{{}}
	if d.Split.Folds > 0 {
		folds = nil
		for _, n := range d.Split.folds() {
			folds = append(folds, name.NewFold(n))
		}
	}
	for _, fold := range folds {
		for _, seed := range seeds {
			list = append(list, name.Repeat{Fold: fold, Seed: seed})
		}
	}
	return list
}

// each lists the configurations of the data that runs with these seeds have.
func (d *dataConfig) each(seeds []uint64) (list []*dataConfig) {
	if !d.Split.Seed.run {
		seeds = seeds[:min(1, len(seeds))] // all seeds divide alike
		if d.Split.Folds == 0 {
			return []*dataConfig{d}
		}
	}
	for _, r := range d.repeats(seeds) {
		list = append(list, d.of(r))
	}
	return list
}

// likeOriginal reports whether the source is divided as the original project
// does it.
func (s *splitConfig) likeOriginal() bool { return s.Method == "original" }

// cut divides files into fractions.
func (s *splitConfig) cut(f data.Files, fractions ...float64) []data.Files {
	switch {
	case s.Group != "":
		return f.SplitGroups(s.Seed.number, s.Group, fractions...)
	case s.Stratify != "":
		return f.SplitStrata(s.Seed.number, s.Stratify, fractions...)
	}
	return f.Split(s.Seed.number, fractions...)
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
	Groups       []groupConfig `json:"groups"`
	WeightDecay  float64       `json:"weightDecay"`
	DecayVectors bool          `json:"decayVectors"`
	Forget       bool          `json:"forgetAtUnfreezing"`
	Momentum     float64       `json:"momentum"`
	Nesterov     bool          `json:"nesterov"`
	Betas        [2]float64    `json:"betas"`
	Eps          float64       `json:"eps"`
	Clip         float64       `json:"clip"`
	Schedule     struct {
		Kind        string    `json:"kind"`
		Warmup      float64   `json:"warmup"`
		WarmupSteps uint32    `json:"warmupSteps"` // 0: Warmup
		Floor       float64   `json:"floor"`
		Power       float64   `json:"power"`
		Milestones  []float64 `json:"milestones"`
		Gamma       float64   `json:"gamma"`
		Decay       float64   `json:"decay"`
		Lagging     bool      `json:"lagging"`
	} `json:"schedule"`
}

type trainConfig struct {
	Epochs     uint32  `json:"epochs"`
	Steps      uint32  `json:"steps"` // 0: Epochs
	Batch      uint32  `json:"batch"`
	Precision  string  `json:"precision"`
	MaxSteps   uint32  `json:"maxSteps"`
	Monitor    string  `json:"monitor"`
	EvalEvery  uint32  `json:"evalEvery"`
	EvalSteps  uint32  `json:"evalSteps"` // 0: EvalEvery
	Validate   string  `json:"validate"`
	Accumulate uint32  `json:"accumulate"`
	EMA        float64 `json:"ema"`
	Patience   uint32  `json:"patience"`
	MinDelta   float64 `json:"minDelta"`

	Deterministic bool `json:"deterministic"`
}

type groupConfig struct {
	Pattern     string   `json:"pattern"`
	LR          *float64 `json:"lr"`
	WeightDecay *float64 `json:"weightDecay"`
	Frozen      bool     `json:"frozen"`
	Until       uint32   `json:"until"`
	LayerDecay  *float64 `json:"layerDecay"`
}

type evaluateConfig struct {
	Checkpoint  string             `json:"checkpoint"`
	Precision   string             `json:"precision"` // "": that of training
	Resolution  string             `json:"resolution"`
	Window      *windowConfig      `json:"window"`
	TTA         *testTimeConfig    `json:"tta"`
	Strength    []float64          `json:"strength"`
	Ensemble    string             `json:"ensemble"` // "": none
	Domains     domains            `json:"domains"`
	Corruptions *corruptionsConfig `json:"corruptions"`
	Styles      looks              `json:"styles"`
}

type windowConfig struct {
	Stride size  `json:"stride"`
	Scale  scale `json:"scale"`
}

type testTimeConfig struct {
	Flip   bool      `json:"flip"`
	Scales []float64 `json:"scales"`
}

// scale is a factor; 0, in JSON "fit", is as large as it takes.
type scale float64

func (s *scale) UnmarshalJSON(b []byte) error {
	if string(b) == `"fit"` {
		*s = 0
		return nil
	}
	return json.Unmarshal(b, (*float64)(s))
}

type corruptionsConfig struct {
	Kinds      []string `json:"kinds"`
	Severities []int    `json:"severities"`
	Seed       uint64   `json:"seed"`
}

type lookConfig struct {
	Kind     string  `json:"kind"`
	Images   string  `json:"images"`
	Weights  string  `json:"weights"`
	Strength float64 `json:"strength"`
	Seed     uint64  `json:"seed"`
}

// name is what the look is taken from.
func (l *lookConfig) name() string { return cmp.Or(l.Weights, l.Images) }

// looks keeps the order of the file.
type looks []namedLook

type namedLook struct {
	name string
	lookConfig
}

func (l *looks) UnmarshalJSON(b []byte) error {
	return eachMember(b, func(label string, value json.RawMessage) error {
		var c lookConfig
		err := json.Unmarshal(value, &c)
		*l = append(*l, namedLook{label, c})
		return err
	})
}

type domainConfig struct {
	Source  string            `json:"source"`
	Classes []string          `json:"classes"`
	Remap   map[string]string `json:"remap"`
	Colors  map[string]colors `json:"colors"`
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
	return eachMember(b, func(label string, value json.RawMessage) error {
		*d = append(*d, domain{name: label})
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

func (s size) String() string {
	if s[0] == s[1] {
		return fmt.Sprint(s[0])
	}
	return fmt.Sprintf("[%d, %d]", s[0], s[1])
}

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
	hint = fmt.Sprintf("the backbone uses %s, 0..%d", plural.Of(depth, "block"), depth-1)
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

// freezeConfig is "all", "none", the blocks that are frozen, or the epoch up to
// which all are.
type freezeConfig struct {
	kind   string // all | none | blocks | until
	blocks blocks
	until  uint32
}

func (f *freezeConfig) UnmarshalJSON(b []byte) error {
	*f = freezeConfig{}
	if json.Unmarshal(b, &f.kind) == nil {
		return nil
	}
	f.kind = "blocks"
	err := json.Unmarshal(b, &struct {
		Blocks *blocks
		Until  *uint32
	}{&f.blocks, &f.until})
	if f.until > 0 {
		f.kind = "until"
	}
	return err
}

const ignored = "ignore" // in remap

// colors are one or several, 0xRRGGBB.
type colors []uint32

func (c *colors) UnmarshalJSON(b []byte) error {
	var one color
	if one.UnmarshalJSON(b) == nil {
		*c = colors{uint32(one)}
		return nil
	}
	var several []color
	if err := json.Unmarshal(b, &several); err != nil {
		return err
	}
	*c = make(colors, len(several))
	for i, packed := range several {
		(*c)[i] = uint32(packed)
	}
	return nil
}

// color is "#rrggbb" or [red, green, blue]; the schema has checked the numbers.
type color uint32

func (c *color) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		v, err := strconv.ParseUint(strings.TrimPrefix(text, "#"), 16, 24)
		*c = color(v)
		return err
	}
	var rgb []uint32
	if err := json.Unmarshal(b, &rgb); err != nil {
		return err
	}
	if len(rgb) != 3 {
		return fmt.Errorf("a color of %d numbers", len(rgb))
	}
	*c = color(rgb[0]<<16 | rgb[1]<<8 | rgb[2])
	return nil
}
