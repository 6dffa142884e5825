// Package claim decides who works on a run where no lock holds: on a cluster, whose
// nodes share a disk and nothing else.
//
// A run has generations, numbered from 1. They lie in the directory generations of the
// run directory:
//
//	0003.claim   who works on the run in the third generation
//	0003.end     how that generation ended
//	0003/        all that its worker writes, if it is one of a cluster; a run directory
//
// Claims and ends are decided by creation: a file is written under a temporary name and
// linked to its own, and of several that try, the first wins. To look whether a file is
// there saves work and decides nothing, because file systems show absent names for up to
// a minute after they were made elsewhere. A claim that is there stays for ever, or a
// stale listing would give its number away again.
//
// A generation ends once: its worker ends it, or the process that knows that the worker is over.
// A worker whose generation was ended by another has lost it, whatever it has computed:
// it writes into the directory of its generation alone, which nobody reads any more.
package claim

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Directory is the directory of generations in that of a run.
const Directory = "generations"

// Worker says who works on a run.
type Worker struct {
	// Array is the unique name of the array of jobs that a worker of a cluster is
	// of; "" for a process that holds locks, on the machine that has them.
	Array string `json:"array,omitempty"`
	// Element is the index in the array, and Restart how often the cluster has
	// restarted it.
	Element int `json:"element,omitempty"`
	Restart int `json:"restart,omitempty"`
	// Nonce is of the process: a cluster that loses its state gives an element of
	// the same count to two processes.
	Nonce string `json:"nonce"`
	// Lock is the file of runs/.workers of a process that holds locks.
	Lock    string    `json:"lock,omitempty"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since"`
	Command string    `json:"command,omitempty"`
}

// Local reports whether the worker is a process that holds locks.
func (w Worker) Local() bool { return w.Array == "" }

const nonceBytes = 8

// Nonce is a number that no other process has.
func Nonce() string {
	b := make([]byte, nonceBytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// How a generation ended.
type How string

const (
	Done    How = "done"    // all that was asked of the run is there
	Failed  How = "failed"  // for a reason of the run's own
	Stopped How = "stopped" // given back, to be continued
	Paused  How = "paused"  // at a rung of a search
	Broken  How = "broken"  // its worker is over
)

// End says how a generation ended.
type End struct {
	How    How    `json:"how"`
	Reason string `json:"reason,omitempty"` // one line
	Step   uint64 `json:"step"`             // of the last checkpoint
	Steps  uint64 `json:"steps,omitempty"`
	// Validation is of a paused generation: spec.Metrics at its step.
	Validation json.RawMessage `json:"validation,omitempty"`
	// By is the nonce of the process that wrote it.
	By   string    `json:"by"`
	When time.Time `json:"when"`
}

// State is the newest generation of a run; the zero value where there was none.
type State struct {
	Generation int
	Worker     Worker
	End        *End // nil: it has not ended
}

// Open reports whether somebody works on the run.
func (s State) Open() bool { return s.Generation > 0 && s.End == nil }

// Cluster reports whether the newest generation is of a worker of a cluster.
func (s State) Cluster() bool { return s.Generation > 0 && !s.Worker.Local() }

// Name is the directory of a generation, below that of the run.
func Name(generation int) string { return path.Join(Directory, number(generation)) }

func number(generation int) string { return fmt.Sprintf("%04d", generation) }

// Read is the newest generation of the run in a directory.
func Read(run *os.Root) (State, error) {
	s, err := read(run)
	if err != nil {
		return State{}, fmt.Errorf("reading who works on the run: %w", err)
	}
	return s, nil
}

func read(run *os.Root) (State, error) {
	names, err := list(run)
	if err != nil {
		return State{}, err
	}
	s, ended := State{}, false
	for _, name := range names {
		n, ok := claimOf(name)
		if ok && n > s.Generation {
			s.Generation = n
		}
	}
	if s.Generation == 0 {
		return s, nil
	}
	for _, name := range names {
		ended = ended || name == number(s.Generation)+endSuffix
	}
	if err := decode(run, number(s.Generation)+claimSuffix, &s.Worker); err != nil {
		return s, err
	}
	if !ended {
		return s, nil
	}
	end := End{}
	err = decode(run, number(s.Generation)+endSuffix, &end)
	if errors.Is(err, fs.ErrNotExist) {
		// A listing has it, and this machine still knows that it was absent: then it is
		// absent for a while.
		return s, nil
	}
	s.End = &end
	return s, err
}

const claimSuffix, endSuffix = ".claim", ".end"

func claimOf(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, claimSuffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0
}

// list is the names in the directory of generations.
func list(run *os.Root) ([]string, error) {
	d, err := run.Open(Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// most bounds what is read of a claim or an end.
const most = 1 << 20

func decode(run *os.Root, name string, into any) error {
	f, err := run.OpenFile(path.Join(Directory, name), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w", Directory, name, err)
	}
	return nil
}

// Take begins the generation after that of a state, for a worker. It reports false where
// another was faster.
func Take(run *os.Root, after State, w Worker) (State, bool, error) {
	s := State{Generation: after.Generation + 1, Worker: w}
	won, err := create(run, number(s.Generation)+claimSuffix, w.Nonce, w)
	if err != nil {
		return State{}, false, fmt.Errorf("claiming the run: %w", err)
	}
	return s, won, nil
}

// Finish ends a generation. It returns how the generation ended, and whether it was this
// end that counts.
func Finish(run *os.Root, generation int, e End) (End, bool, error) {
	name := number(generation) + endSuffix
	won, err := create(run, name, e.By, e)
	if err == nil && !won {
		was := End{}
		if err = decode(run, name, &was); err == nil {
			return was, false, nil
		}
	}
	if err != nil {
		return End{}, false, fmt.Errorf("ending the work on the run: %w", err)
	}
	return e, true, nil
}

// create is Create for a claim or an end.
func create(run *os.Root, name, by string, content any) (bool, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return false, err
	}
	name, text = path.Join(Directory, name), append(text, '\n')
	won, err := Create(run, name, by, text)
	if errors.Is(err, fs.ErrNotExist) {
		if err = run.Mkdir(Directory, 0o777); err == nil || errors.Is(err, fs.ErrExist) {
			won, err = Create(run, name, by, text)
		}
	}
	return won, err
}

// Create makes a file of a directory that nodes share. It is there whole or not at all, and
// of several processes that create it one succeeds: Create reports whether it was this one.
// No two processes have the same by, which is part of the name of a temporary file.
func Create(dir *os.Root, name, by string, text []byte) (bool, error) {
	temp := path.Join(path.Dir(name), "."+path.Base(name)+"."+by)
	_ = dir.Remove(temp) // of a call that failed
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return false, err
	}
	defer dir.Remove(temp)
	_, err = f.Write(text)
	// What a full disk has lost is known before the name is there.
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	err = dir.Link(temp, name)
	if err == nil {
		return true, nil
	}
	// NFS repeats a call whose answer was lost, and the second one finds the file of
	// the first: whose it is, the inode says.
	mine, e := dir.Lstat(temp)
	if e != nil {
		return false, errors.Join(err, e)
	}
	there, e := dir.Lstat(name)
	switch {
	case e == nil && os.SameFile(mine, there):
		return true, nil
	case errors.Is(err, fs.ErrExist):
		return false, nil
	}
	return false, err
}

// IsTemporary reports whether a file is one of Create that is not there yet, or that a killed
// process has left.
func IsTemporary(name string) bool {
	i := strings.LastIndexByte(name, '.')
	b, err := hex.DecodeString(name[i+1:])
	return i > 1 && name[0] == '.' && err == nil && len(b) == nonceBytes
}

// Sweep removes what processes of this machine have left of files that they were killed
// over. None may be at it: records are locked. What workers of a cluster have left stays,
// since one may be about to use it.
func Sweep(run *os.Root) {
	names, _ := list(run)
	for _, name := range names {
		if i := strings.LastIndexByte(name, '.'); name[0] == '.' && strings.Contains(name[i:], localMark) {
			_ = run.Remove(path.Join(Directory, name))
		}
	}
}

// localMark is in the names of files of runs/.workers, and in no Nonce.
const localMark = "-"

// EndOf is how a generation ended.
func EndOf(run *os.Root, generation int) (End, error) {
	e := End{}
	err := decode(run, number(generation)+endSuffix, &e)
	return e, err
}
