package view

import (
	"time"

	"github.com/loralab/loralab/runner/stylize"
)

// Stylized is what runner data stylize has made.
type Stylized struct {
	Written []stylize.Written `json:"written"`
	Sheet   string            `json:"sheet,omitempty"` // file
}

// Stylized says where domains are.
func (v *View) Stylized(s Stylized) {
	for _, w := range s.Written {
		mark := v.good.Render("+")
		if w.There {
			mark = v.dim.Render("=")
		}
		v.Say("%s %s  %s", mark, v.bold.Render(w.Dir), count(w.Images, "image"))
	}
	if s.Sheet != "" {
		v.Say("%s %s", v.good.Render("+"), v.bold.Render(s.Sheet))
	}
}

// Counting shows how far something is, on a terminal in one line that is drawn
// over and gone in the end; elsewhere nothing.
func (v *View) Counting() func(what string, done, of int) {
	var drew time.Time
	return func(what string, done, of int) {
		if !v.live || done < of && time.Since(drew) < redrawEvery {
			return
		}
		drew = time.Now()
		printf(v.progress, "%s", clearLine())
		if done < of {
			printf(v.progress, "%s %d of %d", what, done, of)
		}
	}
}
