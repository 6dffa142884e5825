package view

import (
	"fmt"
	"time"
)

// Readings are told once reading has taken so long, then this often where lines
// cannot be drawn over.
const (
	readingAfter = time.Second
	readingEvery = 10 * time.Second
)

// Reading shows how many files of a data set were read, of those that have to
// be.
func (v *View) Reading() func(done, of int) {
	var began, told time.Time
	drawn := false
	return func(done, of int) {
		now := time.Now()
		if done == 1 || began.IsZero() {
			began, told = now, now
		}
		text := fmt.Sprintf("reading the data: %s of %s files", amount(uint64(done)), amount(uint64(of)))
		switch {
		case now.Sub(began) < readingAfter:
		case v.liveErr && done == of:
			printf(v.err, "%s", clearLine())
			drawn = false
		case v.liveErr && (!drawn || now.Sub(told) >= redrawEvery):
			printf(v.err, "%s%s", clearLine(), text)
			told, drawn = now, true
		case !v.liveErr && now.Sub(told) >= readingEvery:
			printLine(v.err, text)
			told = now
		}
	}
}

// clearLine empties the line of the cursor, and goes to its beginning.
func clearLine() string { return order("", 'G') + order("", 'K') }
