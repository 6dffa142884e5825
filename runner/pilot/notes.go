package pilot

import (
	"os"
	"path/filepath"
)

// notes are what workers have seen of the jobs of an array, so that not each of them looks at
// each job: a file with a byte for each job, which all of them read and write. Who writes has
// no lock, and who reads may read what was there a minute ago, so a note saves a look and
// decides nothing. One that says that a job is over is true for ever; one that says that
// somebody has it may be out of date, and workers without work look there from time to time.
type notes struct {
	path  string
	seen  []verdict
	fresh map[int]bool // that are not written yet
	since int          // what was learned since the file was read
	// Files counts how often the file was read and written.
	Files int
}

const notesFile = "notes"

// The bytes of the file.
const noteTaken, noteOver = 't', 'x'

const (
	// writeSome is how many notes a worker with work writes at once.
	writeSome = 4
	// readEvery is after how much that a worker has learned itself it reads the file again.
	readEvery = 16
)

func newNotes(dir string, jobs int) *notes {
	return &notes{path: filepath.Join(dir, notesFile), seen: make([]verdict, jobs), fresh: map[int]bool{}, since: readEvery}
}

// old reports whether the file is to be read again.
func (n *notes) old() bool { return n.since >= readEvery }

// read takes up what others have seen. Without a file nothing is known.
func (n *notes) read() {
	n.Files++
	n.since = 0
	text, err := os.ReadFile(n.path)
	if err != nil {
		return
	}
	for i := range n.seen {
		switch {
		case n.seen[i] == isOver || n.seen[i] == isAbsent || n.fresh[i]:
		case i < len(text) && text[i] == noteOver:
			n.seen[i] = isOver
		case i < len(text) && text[i] == noteTaken:
			n.seen[i] = isTaken
		default:
			n.seen[i] = isFree
		}
	}
}

// learn takes up what the worker has seen of a job.
func (n *notes) learn(job int, what verdict) {
	n.since++
	if n.seen[job] != what && n.seen[job] != isOver {
		n.seen[job] = what
		n.fresh[job] = true
		if what == isAbsent { // which is of this node
			delete(n.fresh, job)
		}
	}
}

// write writes what is new, if that is so much.
func (n *notes) write(least int) {
	if len(n.fresh) < max(least, 1) {
		return
	}
	n.Files++
	f, err := os.OpenFile(n.path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return // others look for themselves
	}
	defer f.Close()
	for job := range n.fresh {
		note := byte(0)
		switch n.seen[job] {
		case isTaken:
			note = noteTaken
		case isOver:
			note = noteOver
		}
		if _, err := f.WriteAt([]byte{note}, int64(job)); err != nil {
			return
		}
	}
	clear(n.fresh)
}

// taken are up to most jobs that somebody has, from a job on and around.
func (n *notes) taken(from, most int) map[int]bool {
	all := map[int]bool{}
	for i := range n.seen {
		if job := (from + i) % len(n.seen); n.seen[job] == isTaken && len(all) < most {
			all[job] = true
		}
	}
	return all
}
