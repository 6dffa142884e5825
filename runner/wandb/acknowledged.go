package wandb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
)

// acknowledged is what a server has of a log. It is kept next to the log, so that
// sending can stop at any moment and continue later without a row twice.
//
// A request that is under way when the process is killed may have arrived or not.
// Its lines are counted in Sending before it is sent: afterwards the server has them or
// lacks them, and sending the same lines again to the same places changes nothing.
type acknowledged struct {
	Server  string `json:"server"`
	Entity  string `json:"entity"`
	Project string `json:"project"`
	Run     string `json:"run"`

	Base    lines `json:"base"`    // lines that the server had before those of this log
	Lines   lines `json:"lines"`   // lines of this log that it has acknowledged
	Sending lines `json:"sending"` // lines of the request under way

	// Of a log that repeats what the server has from elsewhere, these are left out.
	AfterStep  *int64  `json:"after_step,omitempty"`  // rows up to this step
	AfterTime  float64 `json:"after_time,omitempty"`  // system metrics up to this time
	SkipOutput int     `json:"skip_output,omitempty"` // the number of first lines of console text

	Files     map[string]string `json:"files,omitempty"`     // MD5 of files by path
	Unlisted  []string          `json:"unlisted,omitempty"`  // files that were sent and that no request has listed
	Artifacts map[string]bool   `json:"artifacts,omitempty"` // by client ID
	Alerts    int               `json:"alerts,omitempty"`    // the first ones of the log
	Complete  bool              `json:"complete,omitempty"`  // the end was acknowledged
}

// lines counts the lines of the three files that grow.
type lines struct {
	History int `json:"history"`
	Events  int `json:"events"`
	Output  int `json:"output"`
}

func (l lines) plus(m lines) lines {
	return lines{l.History + m.History, l.Events + m.Events, l.Output + m.Output}
}

func acknowledgedPath(log string) string { return log + ".acknowledged.json" }

func syncedPath(log string) string { return log + ".synced" }

// readAcknowledged is nil if nothing of a log was sent.
func readAcknowledged(log string) (*acknowledged, error) {
	content, err := os.ReadFile(acknowledgedPath(log))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	a := new(acknowledged)
	if err := json.Unmarshal(content, a); err != nil {
		return nil, fmt.Errorf("%s is not readable, so nothing says what of the run was sent: %w", shown(acknowledgedPath(log)), err)
	}
	return a, nil
}

func (a *acknowledged) write(log string) error {
	content, err := json.MarshalIndent(a, "", "\t")
	if err != nil {
		return err
	}
	return writeWhole(acknowledgedPath(log), bytes.NewReader(append(content, '\n')))
}

// fits says why what a server has of a run is not what this log and those before it
// have sent; nil if it is.
func (a *acknowledged) fits(b *bucket) error {
	least := a.Base.plus(a.Lines)
	if b == nil && least != (lines{}) {
		return fmt.Errorf("the server acknowledged %d rows of the run %s and does not have the run any more: it was deleted", least.History, a.Run)
	}
	return inRange(a.Run, b, least, least.plus(a.Sending))
}

// atLeast says why a server does not have what was sent with earlier logs.
func (a *acknowledged) atLeast(b *bucket) error {
	const any = math.MaxInt
	return inRange(a.Run, b, a.Base, lines{any, any, any})
}

func inRange(run string, b *bucket, least, most lines) error {
	if b == nil {
		b = new(bucket)
	}
	for _, c := range []struct {
		what             string
		has, least, most int
	}{
		{"rows", b.HistoryLineCount, least.History, most.History},
		{"lines of system metrics", b.EventsLineCount, least.Events, most.Events},
		{"lines of console text", b.LogLineCount, least.Output, most.Output},
	} {
		if c.has >= c.least && c.has <= c.most {
			continue
		}
		expected := strconv.Itoa(c.least)
		switch {
		case c.most == math.MaxInt:
			expected += " or more"
		case c.most > c.least:
			expected += fmt.Sprintf(" to %d", c.most)
		}
		return &CountError{Run: run, What: c.what, Has: c.has, Expected: expected, least: c.least}
	}
	return nil
}

// CountError says that a server has another number of lines of a run than was sent:
// something else has written to the run, or a part of it was removed. Sending more
// would lose or double rows.
type CountError struct {
	Run, What string
	Has       int
	Expected  string

	least int
}

func (e *CountError) Error() string {
	return fmt.Sprintf("the server has %d %s of the run %s, not %s: something else has written to it, so nothing more is sent", e.Has, e.What, e.Run, e.Expected)
}
