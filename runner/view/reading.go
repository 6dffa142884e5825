package view

import (
	"fmt"
	"sync"
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
			v.passing.clear(v)
			drawn = false
		case v.liveErr && (!drawn || now.Sub(told) >= redrawEvery):
			v.passing.draw(v, text)
			told, drawn = now, true
		case !v.liveErr && now.Sub(told) >= readingEvery:
			printLine(v.err, text)
			told = now
		}
	}
}

// passing is a line on standard error that is drawn over, and that whatever is said next
// takes the place of.
type passing struct {
	mu    sync.Mutex
	drawn bool
	ended bool // by an error, which must not be drawn over
}

func (p *passing) draw(v *View, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		printf(v.err, "%s%s", clearLine(), clip(text, max(v.width-1, 0)))
		p.drawn = true
	}
}

func (p *passing) clear(v *View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		printf(v.err, "%s", clearLine())
		p.drawn = false
	}
}

// end clears the line for good.
func (p *passing) end(v *View) {
	p.clear(v)
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
}

// clearLine empties the line of the cursor, and goes to its beginning.
func clearLine() string { return order("", 'G') + order("", 'K') }
