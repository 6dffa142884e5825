package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// found is a run as its directory says, and as the index remembers it.
type found struct {
	dir    string // below runs/, "e/0123456789ab"
	stamp  string // of the files that it was read from
	run    *Run
	names  []Label // oldest first
	worker string  // that the record names
	// record is nil where the directory has none that can be read.
	record *record
	// unfolded says that a cluster did what the record does not say yet.
	unfolded bool
}

// scan reads all run directories below runs. Those whose files have not changed
// since known was made are not read again.
func scan(root string, runs *os.Root, known map[string]*found) (all []*found, asked map[string]*Asked, notes []string, err error) {
	asked = map[string]*Asked{}
	entries, err := fs.ReadDir(runs.FS(), ".")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("looking for run directories: %w", err)
	}
	type runDir struct {
		parent *os.Root
		dir    string
	}
	var dirs []runDir
	var links []*found
	for _, e := range entries {
		if !isElement(e.Name()) {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			notes = append(notes, fmt.Sprintf("runs/%s is a link and is left out: only runs/ itself may lead elsewhere", e.Name()))
		}
		if !e.IsDir() {
			continue
		}
		parent, err := runs.OpenRoot(e.Name())
		if err == nil {
			defer parent.Close()
			var below []fs.DirEntry
			below, err = fs.ReadDir(parent.FS(), ".")
			for _, b := range below {
				if len(b.Name()) != 12 || !isHex(b.Name()) {
					continue
				}
				switch dir := path.Join(e.Name(), b.Name()); {
				case b.IsDir():
					dirs = append(dirs, runDir{parent, dir})
				case b.Type()&fs.ModeSymlink != 0:
					f := nameless(root, dir)
					f.run.elsewhere("")
					links = append(links, f)
				}
			}
		}
		if absent(err) {
			continue // removed while we look
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("runs/%s is left out: %v", e.Name(), err))
			continue
		}
		switch a, err := readAsked(parent); {
		case err == nil:
			asked[e.Name()] = a
		case !absent(err):
			notes = append(notes, fmt.Sprintf("runs/%s/%s is left out: %v; the next apply of the experiment writes it again", e.Name(), askedFile, err))
		}
	}
	all = make([]*found, len(dirs))
	cluster := arrays(runs)
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(dirs))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(dirs); i += workers {
				p := dirs[i]
				all[i] = look(root, p.parent, p.dir, known[p.dir], cluster)
			}
		})
	}
	wg.Wait()
	all = slices.DeleteFunc(append(all, links...), func(f *found) bool { return f == nil })
	all, copies := unique(all)
	return all, asked, append(notes, copies...), nil
}

// unique leaves out copies of a run: one directory speaks for it.
func unique(all []*found) ([]*found, []string) {
	var notes []string
	first := map[string]*found{}
	// The one where it was made; else the first by name.
	home := func(f *found) bool { return len(f.names) > 0 && path.Dir(f.dir) == f.names[0].Experiment }
	for _, f := range all {
		if other := first[f.run.ID]; other == nil || home(f) && !home(other) {
			first[f.run.ID] = f
		}
	}
	kept := all[:0:0]
	for _, f := range all {
		if of := first[f.run.ID]; of == f {
			kept = append(kept, f)
		} else {
			notes = append(notes, fmt.Sprintf("runs/%s is a copy of runs/%s and is left out", f.dir, of.dir))
		}
	}
	return kept, notes
}

// look reads one run directory, nil where nothing was begun in it. Of parent,
// dir names the last element. Cluster says that there may be generations of one.
func look(root string, parent *os.Root, dir string, known *found, cluster bool) *found {
	at, err := parent.OpenRoot(path.Base(dir))
	if absent(err) {
		return nil
	}
	if err != nil {
		f := nameless(root, dir)
		f.run.damaged("", err, false)
		return f
	}
	defer at.Close()
	stamp, any := stampOf(at)
	if !any {
		return nil
	}
	if known != nil && known.stamp == stamp {
		known.run.root = root
		progress(at, known.run)
		if cluster {
			known.overlay(at)
		}
		return known
	}
	f := read(root, at, dir, known)
	if f != nil {
		f.stamp = stamp
		progress(at, f.run)
		if cluster {
			f.overlay(at)
		}
	}
	return f
}

// nameless is a run of which only the directory is known.
func nameless(root, dir string) *found {
	experiment, id := path.Split(dir)
	run := &Run{
		ID: id, Experiment: strings.TrimSuffix(experiment, "/"), Cell: "damaged-" + id, State: Stopped,
		Dir: "runs/" + dir, Evaluations: map[string]*spec.Evaluated{}, root: root,
	}
	return &found{dir: dir, run: run, names: []Label{{Experiment: run.Experiment, Cell: run.Cell, Run: id}}}
}

// read makes the record of a run from its directory. Known is what the index
// remembers of it, which counts where the record cannot be read.
func read(root string, at *os.Root, dir string, known *found) *found {
	r, err := readRecord(at)
	var f *found
	switch {
	case err == nil:
		f = r.found(root, dir)
	case absent(err):
		// Of an earlier version, or copied without.
		if f, err = adopt(root, at, dir); absent(err) {
			return nil
		}
		if err != nil {
			f = nameless(root, dir)
			f.run.damaged(rundir.Request, err, false)
		}
	default:
		damage := err
		if known != nil && known.record != nil {
			f = known.record.found(root, dir)
			f.record = nil
			f.run.damaged(rundir.Record, damage, true)
		} else if f, err = adopt(root, at, dir); err != nil {
			f = nameless(root, dir)
			// Without a request nothing was begun.
			f.run.damaged(rundir.Record, damage, absent(err))
		} else {
			f.run.damaged(rundir.Record, damage, true)
		}
	}
	f.run.read(at)
	return f
}

// found is what a record says of a run.
func (r *record) found(root, dir string) *found {
	f := &found{dir: dir, worker: r.Worker, record: r, run: &Run{
		ID: r.ID, State: r.State, Step: r.Step, Steps: r.Steps, Attempts: r.Attempts, Reason: r.Reason, Dir: "runs/" + dir,
		Created: r.Created, Started: r.Started, Ended: r.Ended, Evaluations: map[string]*spec.Evaluated{},
		about: aboutSpec(r.Spec), root: root,
	}}
	f.run.Rungs, _ = r.rungs() // a record with others is not read
	for _, n := range r.Names {
		f.names = append(f.names, n.label(r.ID))
	}
	f.run.Experiment, f.run.Cell, f.run.Fold, f.run.Seed = r.Names[0].Experiment, r.Names[0].Cell, r.Names[0].Fold, r.Names[0].Seed
	return f
}

// adopt makes what a record would say from the request of a run.
func adopt(root string, at *os.Root, dir string) (*found, error) {
	request := &spec.RunRequest{}
	_, modified, err := readMessage(at, rundir.Request, request)
	if err != nil {
		return nil, err
	}
	id := request.GetId()
	if !isID(id) || rundir.Short(id) != path.Base(dir) {
		return nil, fmt.Errorf("it is of run %.12q, in the directory of run %s", id, path.Base(dir))
	}
	if err := determines(request.GetSpec(), id); err != nil {
		return nil, err
	}
	label, repeat := request.GetLabel(), spec.RepeatOf(request.GetSpec())
	r := &record{
		ID: id, State: Stopped, Attempts: 1, Created: modified,
		Names: []recordName{{label.GetExperiment(), label.GetCell(), repeat.Fold, repeat.Seed, modified, 0}},
	}
	if label.GetExperiment() == "" {
		r.Names[0].Experiment = path.Dir(dir)
	}
	if r.Spec, err = rundir.Marshal(request.GetSpec()); err != nil {
		return nil, err
	}
	summary := &spec.Summary{}
	if _, ended, err := readMessage(at, rundir.Result, summary); err == nil && summary.GetId() == id {
		r.State, r.Ended = Done, ended
	}
	f := r.found(root, dir)
	f.run.specJSON = r.Spec
	f.record = nil
	return f, nil
}

// read sets what the engine left: summary, evaluations, the step to resume at.
// The state stays: whether all was done that was asked is for the plan to say. Only
// a run that has lost its result is not done.
func (run *Run) read(at *os.Root) {
	run.readPlaces(at)
	summary := &spec.Summary{}
	text, ended, err := readMessage(at, rundir.Result, summary)
	if err == nil && strings.HasPrefix(summary.GetId(), run.ID) {
		err = rundir.Intact(text, summary, run.about.Revision)
	}
	switch {
	case absent(err):
		if run.State == Done {
			run.damaged(rundir.Result, errors.New("it is missing, and the run was done"), true)
		}
	case err != nil:
		run.damaged(rundir.Result, err, false)
	case !strings.HasPrefix(summary.GetId(), run.ID):
		run.damaged(rundir.Result, fmt.Errorf("it is of run %.12q", summary.GetId()), false)
	default:
		run.Summary, run.Step, run.Steps = summary, summary.GetSteps(), summary.GetSteps()
		if run.Ended.IsZero() {
			run.Ended = ended
		}
	}
	for _, name := range evaluations(at) {
		e := &spec.Evaluated{}
		text, _, err := readMessage(at, name, e)
		if err == nil && rundir.Evaluation(e.GetId()) != name {
			err = fmt.Errorf("it is of evaluation %.12q", e.GetId())
		}
		if err == nil {
			err = rundir.Intact(text, e, run.about.Revision)
		}
		if err == nil {
			// Nothing makes it again.
			if err = rundir.Belongs(e, run.ID); err != nil && run.damaged(name, err, true) {
				run.Damage.Do = "remove the file"
			}
		}
		if err != nil {
			run.damaged(name, err, true)
			continue
		}
		run.Evaluations[e.GetId()] = e
	}
	if run.Summary == nil {
		// What is there may be of other weights.
		run.Evaluations = map[string]*spec.Evaluated{}
		if run.State == Done {
			run.State = Stopped
		}
	}
	if run.Summary != nil || run.Damage != nil && !run.Damage.Again {
		return
	}
	last, file, err := resumable(at, run.State != Running && run.Step > 0)
	if err != nil {
		run.damaged(file, err, true)
	}
	run.Checkpoint = last.step
	// A runner that was killed may not have recorded it.
	if run.Steps == 0 {
		run.Steps = last.of
	}
	if run.State != Running {
		run.Step = run.Checkpoint
	}
}

// places are the directories in that of a run.
var places = []string{rundir.Checkpoints, rundir.Evaluations, rundir.Samples}

// readPlaces reports directories of a run that lead elsewhere. The engine does not
// write there.
func (run *Run) readPlaces(at *os.Root) {
	for _, name := range places {
		if info, err := at.Lstat(name); err == nil && !info.IsDir() {
			run.elsewhere(name)
			return
		}
	}
}

func (run *Run) elsewhere(name string) {
	if run.damaged(name, errors.New("it is no directory but a link or a file"), false) {
		run.Damage.Do = "put the directory itself there"
	}
}

// damaged notes that a file cannot be read. What nothing makes again counts
// before what the next apply makes again. It reports whether file counts.
func (run *Run) damaged(file string, err error, again bool) bool {
	if run.Damage != nil && (!run.Damage.Again || again) {
		return false
	}
	// The path is in File.
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	run.Damage = &Damage{File: path.Join(run.Dir, file), Why: err.Error(), Again: again}
	return true
}

// evaluations are the files with evaluations of a run, sorted.
func evaluations(at *os.Root) []string {
	var names []string
	entries, _ := fs.ReadDir(at.FS(), rundir.Evaluations)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, path.Join(rundir.Evaluations, e.Name()))
		}
	}
	return names
}

// resumable is the checkpoint that a training continues after, zero where it has
// none. Where its checkpoints do not belong together, it begins again, and the
// error says why and is of file. Begun says that there was a checkpoint once.
//
// The content of tensors is not read: the engine compares digests and says what it
// finds.
func resumable(at *os.Root, begun bool) (last checkpoint, file string, err error) {
	for {
		last, err := checkpointAt(at, rundir.Last)
		if err != nil && !absent(err) {
			return checkpoint{}, rundir.Last, err
		}
		if file, err = accompanied(at, last, begun); err == nil {
			return last, "", nil
		}
		// An engine may have replaced them meanwhile.
		if now, again := checkpointAt(at, rundir.Last); again == nil && now != last {
			continue
		}
		return checkpoint{}, file, err
	}
}

// checkpoint is what the metadata of one says, the zero value where there is none.
type checkpoint struct {
	step uint64
	of   uint64 // steps of the whole training; 0: not known
	seal string // of itself
	best string // seal of the best one that belongs to it; "": none
}

// accompanied reports why a training does not continue at last.
func accompanied(at *os.Root, last checkpoint, begun bool) (file string, err error) {
	missing := errors.New("it is missing, and the run has trained")
	if last == (checkpoint{}) {
		if _, err := at.Lstat(rundir.Best); begun || err == nil {
			return rundir.Last, missing
		}
		return "", nil
	}
	if last.best == "" {
		return "", nil
	}
	// It waits under another name until last is written.
	if next, err := checkpointAt(at, rundir.NextBest); err == nil && next.seal == last.best {
		return "", nil
	}
	best, err := checkpointAt(at, rundir.Best)
	switch {
	case absent(err):
		return rundir.Best, missing
	case err == nil && best.seal != last.best:
		err = fmt.Errorf("it is not the one that was written with %s", rundir.Last)
	}
	return rundir.Best, err
}

// checkpointAt reads the metadata of a checkpoint.
func checkpointAt(at *os.Root, name string) (c checkpoint, err error) {
	info, err := at.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return c, err
	}
	// Not by its path, which another process may have changed: the project moved.
	f, err := at.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return c, err
	}
	defer f.Close()
	file, err := safetensors.Map(f)
	if err != nil {
		return c, err
	}
	defer file.Close()
	c.seal, c.best = file.Seal(), rundir.BestSealOf(file.Metadata())
	c.of, _ = strconv.ParseUint(file.Metadata()["steps"], 10, 64)
	c.step, err = rundir.StepOf(file.Metadata())
	return c, err
}

// progress sets the step of a run that is being trained: the last that its
// journal has.
func progress(at *os.Root, run *Run) {
	if run.State != Running || run.Summary != nil {
		return
	}
	lately(at, func(e *spec.Event) bool {
		step, ok := stepOf(e)
		if ok {
			run.Step = step
		}
		return ok
	})
}

// LastStep is the last step in the journal of a directory; nil where there is none.
func LastStep(at *os.Root) (step *spec.Step) {
	lately(at, func(e *spec.Event) bool {
		step = e.GetStep()
		return step != nil
	})
	return step
}

// lately calls take with what is at the end of the journal of a directory, the newest first,
// until it reports true.
func lately(at *os.Root, take func(*spec.Event) bool) {
	const tail = 8 << 10
	info, err := at.Lstat(rundir.Journal)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := at.OpenFile(rundir.Journal, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	text := make([]byte, min(tail, info.Size()))
	n, err := f.ReadAt(text, info.Size()-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	for _, line := range slices.Backward(bytes.Split(text[:n], []byte("\n"))) {
		event, err := rundir.UnmarshalEvent(line)
		if err == nil && take(event) { // it may be cut
			return
		}
	}
}

// stepOf is the step that an event is of, if it is of one.
func stepOf(e *spec.Event) (step uint64, ok bool) {
	switch e := e.GetEvent().(type) {
	case *spec.Event_Started:
		return e.Started.GetStep(), true
	case *spec.Event_Step:
		return e.Step.GetStep(), true
	case *spec.Event_Validation:
		return e.Validation.GetStep(), true
	case *spec.Event_Checkpoint:
		return e.Checkpoint.GetStep(), true
	}
	return 0, false
}

// readMessage reads a message from a file, and returns also the text and when it
// was written.
func readMessage(at *os.Root, name string, m proto.Message) (text []byte, modified time.Time, err error) {
	if text, err = readFile(at, name); err != nil {
		return nil, time.Time{}, err
	}
	if err := rundir.Unmarshal(text, m); err != nil {
		return nil, time.Time{}, err
	}
	info, err := at.Lstat(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	return text, info.ModTime().UTC().Truncate(time.Millisecond), nil
}

// stampOf says what the file system says of the files that a run is read from,
// and whether there is any run.
func stampOf(at *os.Root) (stamp string, any bool) {
	h := sha256.New()
	add := func(name string) bool {
		info, err := at.Lstat(name)
		if err != nil {
			fmt.Fprintf(h, "%s none\n", name)
			return false
		}
		s := filehash.StampOf(info)
		numbers := []int64{s.Size, s.Modified, s.Changed, int64(info.Mode())}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			numbers = append(numbers, int64(sys.Ino))
		}
		fmt.Fprintf(h, "%s ", name)
		_ = binary.Write(h, binary.LittleEndian, numbers) // hashes take all
		return true
	}
	for _, name := range places {
		if info, err := at.Lstat(name); err == nil {
			fmt.Fprintf(h, "%s %s\n", name, info.Mode().Type())
		}
	}
	any = add(rundir.Record)
	done := add(rundir.Result)
	if !any {
		any = add(rundir.Request)
	}
	if !done {
		add(rundir.Last)
	}
	for _, name := range evaluations(at) {
		add(name)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), any
}

// compareLabels orders labels by age.
func compareLabels(a, b Label) int {
	return cmp.Or(
		a.Since.Compare(b.Since), cmp.Compare(a.Position, b.Position), cmp.Compare(a.Experiment, b.Experiment),
		cmp.Compare(a.Cell, b.Cell), a.Repeat().Compare(b.Repeat()), cmp.Compare(a.Run, b.Run),
	)
}
