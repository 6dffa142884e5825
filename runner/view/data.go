package view

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/runner/experiment"
)

// DataCheck is what is wrong with images and masks.
type DataCheck struct {
	Parts    []experiment.Part
	Problems []data.Problem
	Repeated []data.Problem // images that are trained on, in other parts
	Remarks  []string       // what stops nothing but may not be meant
	Counts   []DataStats    // of parts of published data sets
}

// mostProblems keeps a folder of wrong masks from filling the screen.
const mostProblems = 100

// DataChecked lists what is wrong with images and masks.
func (v *View) DataChecked(c DataCheck) {
	list := func(mark string, problems []data.Problem) {
		for i, p := range problems {
			if i == mostProblems {
				v.Say("%s and %s more; --json lists all", mark, amount(uint64(len(problems)-i)))
				break
			}
			v.Say("%s %s: %s", mark, relative("", p.File), p.Message)
		}
	}
	list(v.bad.Render("✗"), c.Problems)
	list(v.warn.Render("!"), c.Repeated)
	for _, remark := range c.Remarks {
		v.Say("%s %s", v.warn.Render("!"), remark)
	}
	var parts []string
	for _, p := range c.Parts {
		parts = append(parts, fmt.Sprintf("%s %s", partName(p, c.Parts), amount(uint64(p.Split.GetCount()))))
	}
	verdict := v.good.Render("ok")
	if n := len(c.Problems); n > 0 {
		verdict = v.bad.Render(count(n, "problem"))
	}
	if n := len(c.Repeated); n > 0 {
		verdict += ", " + v.warn.Render(count(n, "image")+" in two parts")
	}
	if n := len(c.Remarks); n > 0 {
		verdict += ", " + v.warn.Render(count(n, "remark"))
	}
	text := fmt.Sprintf("%s, images: %s", verdict, strings.Join(parts, ", "))
	if len(c.Parts) > 0 && c.Parts[0].Layout != "" {
		text += "; laid out as " + c.Parts[0].Layout
	}
	v.Say("%s", text)
	for _, s := range c.Counts {
		v.Say("  %s: %s", partName(s.Part, c.Parts), classCount(s))
	}
}

// classCount is how many classes a part shows, and how much of it has none.
func classCount(s DataStats) string {
	shown, pixels := 0, s.Stats.Ignored+s.Stats.Classless
	for class, n := range s.Stats.Shown {
		pixels += s.Stats.Pixels[class]
		if n > 0 {
			shown++
		}
	}
	share := func(n uint64) string {
		return fmt.Sprintf("%.1f %% of the pixels", 100*float64(n)/float64(max(1, pixels)))
	}
	text := fmt.Sprintf("%d of %d classes shown", shown, len(s.Stats.Shown))
	if n := s.Stats.Ignored; n > 0 {
		text += ", " + share(n) + " ignored"
		if void := s.Part.Laid.Void; void != "" && s.Part.Experiment == "" {
			text += " (" + void + ")"
		}
	}
	if n := s.Stats.Classless; n > 0 {
		text += fmt.Sprintf(", %s of none of the classes that are scored", share(n))
	}
	return text
}

// partName is what a part is called; the cell, or the fold, is named where others have
// a part of the same name.
func partName(p experiment.Part, among []experiment.Part) string {
	var of []string
	others := func(differ func(q experiment.Part) bool) bool {
		return slices.ContainsFunc(among, func(q experiment.Part) bool { return q.Name == p.Name && differ(q) })
	}
	if others(func(q experiment.Part) bool { return q.Cell != p.Cell }) {
		of = append(of, p.Cell)
	}
	if others(func(q experiment.Part) bool { return q.Fold != p.Fold }) {
		of = append(of, "fold "+p.Fold.String())
	}
	if len(of) == 0 {
		return p.Name
	}
	return fmt.Sprintf("%s (%s)", p.Name, strings.Join(of, ", "))
}

type dataPart struct {
	Name   string    `json:"name"`
	Cell   string    `json:"cell,omitempty"`
	Fold   name.Fold `json:"fold,omitzero"`
	Layout string    `json:"layout,omitempty"`
	Images uint32    `json:"images"`
	Digest string    `json:"digest"`
}

func dataPartOf(p experiment.Part) dataPart {
	return dataPart{p.Name, p.Cell, p.Fold, p.Layout, p.Split.GetCount(), p.Split.GetDigest()}
}

// DataCheckedJSON is DataChecked for programs.
func (v *View) DataCheckedJSON(c DataCheck) error {
	type problem struct {
		File    string `json:"file"`
		Value   *int   `json:"value,omitempty"` // of a mask, without a class
		Message string `json:"message"`
	}
	list := func(from []data.Problem) []problem {
		out := []problem{}
		for _, p := range from {
			item := problem{File: p.File, Message: p.Message}
			if p.Value >= 0 {
				item.Value = &p.Value
			}
			out = append(out, item)
		}
		return out
	}
	parts := []dataPart{}
	for _, p := range c.Parts {
		parts = append(parts, dataPartOf(p))
	}
	return v.JSON(struct {
		OK       bool       `json:"ok"`
		Parts    []dataPart `json:"parts"`
		Problems []problem  `json:"problems"`
		Repeated []problem  `json:"repeated"`
		Remarks  []string   `json:"remarks"`
	}{len(c.Problems) == 0, parts, list(c.Problems), list(c.Repeated), append([]string{}, c.Remarks...)})
}

// DataStats are counts over a part.
type DataStats struct {
	Part  experiment.Part
	Stats data.Stats
}

// DataCounted shows counts over images and classes.
func (v *View) DataCounted(all []DataStats) {
	var parts []experiment.Part
	for _, s := range all {
		parts = append(parts, s.Part)
	}
	for i, s := range all {
		if i > 0 {
			v.Say("")
		}
		sizes := ""
		for k, size := range s.Stats.Sizes {
			if k == 3 {
				sizes += fmt.Sprintf(" and %d other sizes", len(s.Stats.Sizes)-k)
				break
			}
			if k > 0 {
				sizes += ", "
			}
			sizes += fmt.Sprintf("%d×%d", size.Width, size.Height)
			if len(s.Stats.Sizes) > 1 {
				sizes += fmt.Sprintf(" (%d)", size.Images)
			}
		}
		v.Say("%s  %s, %s", v.bold.Render(partName(s.Part, parts)), count(s.Stats.Images, "image"), sizes)
		if n := s.Stats.Unread; n > 0 {
			v.Say("  %s", v.warn.Render(fmt.Sprintf("%d of them cannot be read and are not counted; see runner data check", n)))
		}
		t := table{columns: slices.Concat(texts("CLASS"), numbers("PIXELS", "SHARE", "IMAGES"), texts("")), indent: 2}
		for class, name := range s.Part.Data.GetClasses() {
			word := ""
			switch share := s.Stats.Fraction(class); {
			case s.Stats.Pixels[class] == 0:
				word = v.warn.Render("absent")
			case share < data.Rare:
				word = v.warn.Render("rare")
			}
			t.add(name, amount(s.Stats.Pixels[class]), fmt.Sprintf("%.2f %%", 100*s.Stats.Fraction(class)), fmt.Sprint(s.Stats.Shown[class]), word)
		}
		for _, rest := range []struct {
			name   string
			pixels uint64
		}{{"(ignored)", s.Stats.Ignored}, {"(no class)", s.Stats.Classless}} {
			if rest.pixels > 0 {
				t.add(v.dim.Render(rest.name), amount(rest.pixels), "", "", "")
			}
		}
		v.table(t)
	}
}

// DataCountedJSON is DataCounted for programs.
func (v *View) DataCountedJSON(all []DataStats) error {
	type size struct {
		Width  int `json:"width"`
		Height int `json:"height"`
		Images int `json:"images"`
	}
	type class struct {
		Name     string  `json:"name"`
		Pixels   uint64  `json:"pixels"`
		Fraction float64 `json:"fraction"`
		Images   int     `json:"images"`
		Rare     bool    `json:"rare"`
	}
	type item struct {
		dataPart
		Unread    int     `json:"unread"`
		Sizes     []size  `json:"sizes"`
		Classes   []class `json:"classes"`
		Ignored   uint64  `json:"ignored"`
		Classless uint64  `json:"classless"`
	}
	items := []item{}
	for _, s := range all {
		i := item{dataPart: dataPartOf(s.Part), Unread: s.Stats.Unread, Sizes: []size{}, Classes: []class{}, Ignored: s.Stats.Ignored, Classless: s.Stats.Classless}
		for _, z := range s.Stats.Sizes {
			i.Sizes = append(i.Sizes, size{z.Width, z.Height, z.Images})
		}
		for c, name := range s.Part.Data.GetClasses() {
			share := s.Stats.Fraction(c)
			i.Classes = append(i.Classes, class{name, s.Stats.Pixels[c], share, s.Stats.Shown[c], share < data.Rare})
		}
		items = append(items, i)
	}
	return v.JSON(map[string]any{"parts": items})
}

// DataShown is a picture of images and masks.
type DataShown struct {
	Part   experiment.Part
	File   string
	Images []string // names, from above
}

// DataShown says where a picture is and what its colors mean.
func (v *View) DataShown(s DataShown) {
	v.Say("%s of %s in %s, as image | mask | both", count(len(s.Images), "image"), s.Part.Name, v.bold.Render(s.File))
	v.Say("  %s", some(s.Images, 8))
	t := table{columns: texts("CLASS", "COLOR"), indent: 2}
	for class, name := range s.Part.Data.GetClasses() {
		t.add(name, hexColor(byte(class)))
	}
	t.add(v.dim.Render("(ignored)"), hexColor(raster.Ignored))
	v.table(t)
}

func hexColor(class byte) string {
	c := data.ClassColor(class)
	return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
}

// DataShownJSON is DataShown for programs.
func (v *View) DataShownJSON(s DataShown) error {
	type class struct {
		Name  string `json:"name"`
		Color string `json:"color"`
	}
	classes := []class{}
	for c, name := range s.Part.Data.GetClasses() {
		classes = append(classes, class{name, hexColor(byte(c))})
	}
	file, err := filepath.Abs(s.File)
	if err != nil {
		return err
	}
	return v.JSON(struct {
		File    string   `json:"file"`
		Part    string   `json:"part"`
		Images  []string `json:"images"`
		Classes []class  `json:"classes"`
	}{file, s.Part.Name, s.Images, classes})
}

// DataSplit is how data is divided.
type DataSplit struct {
	Parts []experiment.Part
	File  string // the list; "" if none was written
}

// DataSplit shows the parts of the data, with what identifies them.
func (v *View) DataSplit(s DataSplit) {
	t := table{columns: slices.Concat(texts("PART"), numbers("IMAGES"), texts("DIGEST"))}
	for _, p := range s.Parts {
		t.add(partName(p, s.Parts), amount(uint64(p.Split.GetCount())), p.Split.GetDigest())
	}
	v.table(t)
	if s.File != "" {
		v.Say("list of the images in %s", s.File)
	}
}

// DataSplitJSON is DataSplit for programs.
func (v *View) DataSplitJSON(s DataSplit) error {
	parts := []dataPart{}
	for _, p := range s.Parts {
		parts = append(parts, dataPartOf(p))
	}
	return v.JSON(struct {
		Parts []dataPart `json:"parts"`
		File  string     `json:"file,omitempty"`
	}{parts, s.File})
}
