package pilot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/store"
)

// While no apply watches an array, its workers without work take turns at asking the
// scheduler what lives, so that runs of workers that are over are given to others. A file
// says when somebody asked last, and which claims were of workers that are over.

const turnFile = "turn.json"

// turn is the content of the file: generations by the directories of their runs.
type turn struct {
	Overdue map[string]int `json:"overdue,omitempty"`
}

// lastTurn is the last turn, and its age by the clock of the disk.
func lastTurn(dir string) (turn, time.Duration, error) {
	t := turn{}
	path := filepath.Join(dir, turnFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return t, time.Duration(1<<63 - 1), nil
	}
	var text []byte
	if err == nil {
		// Read after it was looked at: what it says is as old, or newer.
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return t, 0, fmt.Errorf("looking when the scheduler was asked: %w", err)
	}
	if json.Unmarshal(text, &t) != nil {
		t = turn{}
	}
	fresh, err := freshTime(filepath.Join(dir, "beats"))
	return t, fresh.Sub(info.ModTime()), err
}

func writeTurn(dir string, t turn) error {
	text, err := json.Marshal(t)
	if err == nil {
		err = replacefile.Write(filepath.Join(dir, turnFile), text)
	}
	if err != nil {
		return fmt.Errorf("recording that the scheduler was asked: %w", err)
	}
	return nil
}

// relieve asks the scheduler what lives, if it is time, and breaks the claims of workers of
// the array that were over in the turn before as well.
func (w *Worker) relieve(ctx context.Context) error {
	if w.Scheduler == nil {
		return nil
	}
	before, age, err := lastTurn(w.dir)
	if err != nil || age < w.timing.Turn {
		return err
	}
	if err := writeTurn(w.dir, before); err != nil { // for those that are about to ask
		return err
	}
	elements, err := w.Scheduler.Poll(ctx, []*Array{w.array})
	if err != nil {
		// Nothing is known.
		return writeTurn(w.dir, turn{})
	}
	by := byPlace(elements)
	now := turn{Overdue: map[string]int{}}
	for i := range w.array.Slices {
		first, end := w.array.part(i)
		var jobs []saved
		for at := first; at < end; at++ {
			if w.notes.seen[at] != isTaken {
				continue
			}
			if jobs == nil {
				if jobs, err = w.read.slice(i); err != nil {
					return err
				}
				w.Reads++
			}
			generation, err := w.overdue(jobs[at-first], by, before)
			if err != nil {
				return err
			}
			switch {
			case generation == 0:
			case before.Overdue[jobs[at-first].Dir] == generation:
				w.notes.learn(at, isFree)
			default:
				now.Overdue[jobs[at-first].Dir] = generation
			}
		}
	}
	w.notes.write(1)
	return writeTurn(w.dir, now)
}

// overdue is the generation of a run whose worker is over, 0 if it is not. One that was so
// in the turn before is broken.
func (w *Worker) overdue(s saved, by map[place]Element, before turn) (int, error) {
	at, err := store.OpenRun(w.array.Root, s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", s.Dir, err)
	}
	defer at.Close()
	w.Looks++
	state, err := claim.Read(at)
	if err != nil || !state.Open() || state.Worker.Array != w.array.Name || !isGone(by, state.Worker) {
		return 0, err
	}
	if before.Overdue[s.Dir] != state.Generation {
		return state.Generation, nil
	}
	e := by[place{state.Worker.Array, state.Worker.Element}]
	return state.Generation, breakClaim(at, state.Generation, cmp.Or(e.Reason, wordless), w.me.Nonce)
}

// isGone reports whether a worker is over, going by what a scheduler lists.
func isGone(by map[place]Element, w claim.Worker) bool {
	e, listed := by[place{w.Array, w.Element}]
	return !listed || e.Life == Over || e.Restart > w.Restart
}

// wordless is the reason of a worker of which nobody knows why it ended.
const wordless = "its worker ended without a word"

// breakClaim ends a generation whose worker is over.
func breakClaim(at *os.Root, generation int, reason, by string) error {
	_, _, err := claim.Finish(at, generation, claim.End{How: claim.Broken, Reason: reason, Step: claim.Step(at, generation), By: by, When: now()})
	return err
}
