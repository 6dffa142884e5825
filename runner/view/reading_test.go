package view

import (
	"errors"
	"strings"
	"testing"
)

// What is said during a reading is not behind its line, and an error stays.
func TestNothingIsBehindALineThatIsDrawnOver(t *testing.T) {
	v, out := terminal(40)
	v.passing.draw(v, "reading the data: 5 of 2,000 files, and more than fits")
	v.Warn("one is damaged")
	v.passing.draw(v, "reading the data: 9 of 2,000 files")
	out.WriteString("^C") // which the terminal shows
	v.Error(errors.New("interrupted"))
	v.passing.draw(v, "reading the data: 12 of 2,000 files")
	if got, want := strings.Join(screen(t, out.String()), "\n"), "warning: one is damaged\nerror: interrupted\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
