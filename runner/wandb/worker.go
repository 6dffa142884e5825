package wandb

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// worker sends files, artifacts and alerts in a goroutine of its own, one after the
// other, so that a large file does not hold up rows.
type worker struct {
	u       *uploader
	results chan mediaResult
	ended   chan struct{}

	mu    sync.Mutex
	queue []job
	open  int // jobs whose result was not taken up
	more  chan struct{}

	sent map[string]string // MD5 of files that the server has, by path
}

// job is one thing to send: a file, an artifact or an alert.
type job struct {
	path     string
	artifact *wandblog.Artifact
	alert    *wandblog.Alert
	number   int // of the alert in the log
}

// mediaResult is what became of a job.
type mediaResult struct {
	what     string // for people
	err      error
	path     string // of a file that was sent
	digest   string
	artifact string // client ID of an artifact that was sent
	alert    int
}

var (
	// errLocal says that a file cannot be read on this machine.
	errLocal = errors.New("the file cannot be read")
	// errStorage says that a file was not taken by the place that the server names for it.
	errStorage = errors.New("the storage does not take it")
)

func newWorker(u *uploader) *worker {
	w := &worker{u: u, results: make(chan mediaResult, 1), ended: make(chan struct{}), more: make(chan struct{}, 1), sent: map[string]string{}}
	for path, digest := range u.has.Files {
		w.sent[path] = digest
	}
	return w
}

func (w *worker) start(ctx context.Context) { go w.run(ctx) }

// wait waits for the goroutine, whose context is done.
func (w *worker) wait() { <-w.ended }

func (w *worker) add(j job) {
	w.mu.Lock()
	w.queue = append(w.queue, j)
	w.open++
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// busy reports whether there are jobs whose result is not known.
func (w *worker) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open > 0
}

// taken says that a result was taken up.
func (w *worker) taken() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
}

// next takes files that wait together, or one other job.
func (w *worker) next() []job {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.queue) && n < 100 && w.queue[n].path != "" {
		n++
	}
	if n == 0 && len(w.queue) > 0 {
		n = 1
	}
	jobs := w.queue[:n:n]
	w.queue = w.queue[n:]
	return jobs
}

func (w *worker) run(ctx context.Context) {
	defer close(w.ended)
	for {
		jobs := w.next()
		if len(jobs) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-w.more:
			}
			continue
		}
		for r := range w.do(ctx, jobs) {
			select {
			case <-ctx.Done():
				return
			case w.results <- r:
			}
		}
	}
}

// do works on jobs and yields one result for each.
func (w *worker) do(ctx context.Context, jobs []job) iter.Seq[mediaResult] {
	return func(yield func(mediaResult) bool) {
		switch j := jobs[0]; {
		case j.artifact != nil:
			err := w.artifact(ctx, j.artifact)
			yield(mediaResult{what: "the artifact " + j.artifact.Name, err: err, artifact: j.artifact.ClientID})
		case j.alert != nil:
			err := w.alert(ctx, j.alert)
			yield(mediaResult{what: fmt.Sprintf("the alert %q", j.alert.Title), err: err, alert: j.number})
		default:
			w.files(ctx, jobs, yield)
		}
	}
}

// opened is a file that is read to be sent.
type opened struct {
	path, digest string
	size         int64
}

// unreadable leaves the path out of an error: what names the file comes before it.
func unreadable(err error) error {
	if at := new(fs.PathError); errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("%w: %w", errLocal, err)
}

func open(path string) (*opened, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	sum := md5.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return nil, unreadable(err)
	}
	return &opened{path, base64.StdEncoding.EncodeToString(sum.Sum(nil)), size}, nil
}

func (o *opened) reader() (io.ReadCloser, error) {
	f, err := os.Open(o.path)
	if err != nil {
		return nil, unreadable(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, o.size), f}, nil
}

// files sends files of the run. One that was sent with the same content is left out.
func (w *worker) files(ctx context.Context, jobs []job, yield func(mediaResult) bool) {
	var names []string
	found := map[string]*opened{}
	for _, j := range jobs {
		r := mediaResult{what: "the file " + j.path}
		var o *opened
		if filepath.IsLocal(filepath.FromSlash(j.path)) {
			o, r.err = open(filepath.Join(filepath.Dir(w.u.path), "files", filepath.FromSlash(j.path)))
		} else {
			r.err = fmt.Errorf("%w: its name leads out of the run", errLocal)
		}
		if r.err == nil && w.sent[j.path] != o.digest && found[j.path] == nil {
			found[j.path] = o
			names = append(names, j.path)
			continue // its result comes below
		}
		if !yield(r) {
			return
		}
	}
	if len(names) == 0 {
		return
	}
	var answer filesAnswer
	err := w.u.api.graphql(ctx, "CreateRunFiles", mutationFiles, map[string]any{
		"entity": w.u.has.Entity, "project": w.u.has.Project, "run": w.u.has.Run, "files": names,
	}, &answer)
	created := answer.CreateRunFiles
	if err == nil && len(created.Files) != len(names) {
		err = &ServerError{Request: called["CreateRunFiles"], Status: http.StatusBadRequest, Message: fmt.Sprintf("%d places for %d files", len(created.Files), len(names))}
	}
	for i, name := range names {
		r := mediaResult{what: "the file " + name, err: err}
		if err == nil {
			o := found[name]
			r.err = w.u.api.put(ctx, "the file", created.Files[i].UploadURL, created.UploadHeaders, o.reader, o.size)
			if r.err == nil {
				w.sent[name] = o.digest
				r.path, r.digest = name, o.digest
			}
		}
		if !yield(r) {
			return
		}
	}
}

func (w *worker) alert(ctx context.Context, a *wandblog.Alert) error {
	return w.u.api.graphql(ctx, "NotifyScriptableRunAlert", mutationAlert, map[string]any{
		"entityName": w.u.has.Entity, "projectName": w.u.has.Project, "runName": w.u.has.Run,
		"title": a.Title, "text": a.Text, "severity": cmpOr(a.Level, "INFO"), "waitDuration": a.Wait,
	}, &struct{}{})
}

// artifact makes an artifact on the server, sends its files and its manifest, and commits
// it. Until then nobody sees it, and all can be done again.
func (w *worker) artifact(ctx context.Context, a *wandblog.Artifact) error {
	if a.Manifest == nil {
		return fmt.Errorf("%w: the log has no list of its files", errLocal)
	}
	has := w.u.has
	aliases := []map[string]any{}
	for _, alias := range a.Aliases {
		aliases = append(aliases, map[string]any{"artifactCollectionName": a.Name, "alias": alias})
	}
	tags := []map[string]any{}
	for _, tag := range a.Tags {
		tags = append(tags, map[string]any{"tagName": tag})
	}
	input := map[string]any{
		"entityName": has.Entity, "projectName": has.Project, "runName": has.Run,
		"artifactTypeName": a.Type, "artifactCollectionName": a.Name, "digest": a.Digest, "digestAlgorithm": "MANIFEST_MD5",
		"aliases": aliases, "tags": tags, "description": a.Description, "enableDigestDeduplication": true,
		"clientID": a.ClientID, "sequenceClientID": a.SequenceClientID,
	}
	if a.Metadata != "" {
		input["metadata"] = a.Metadata
	}
	var created artifactAnswer
	if err := w.u.api.graphql(ctx, "CreateArtifact", mutationArtifact, map[string]any{"input": input}, &created); err != nil {
		return err
	}
	id := created.CreateArtifact.Artifact.ID
	if created.CreateArtifact.Artifact.State == "COMMITTED" {
		return nil // the server has one of the same content
	}
	manifest := func(digest string, upload bool) (manifestAnswer, error) {
		var answer manifestAnswer
		err := w.u.api.graphql(ctx, "CreateArtifactManifest", mutationManifest, map[string]any{
			"artifactID": id, "baseArtifactID": nil, "name": "wandb_manifest.json", "digest": digest,
			"entityName": has.Entity, "projectName": has.Project, "runName": has.Run, "manifestType": "FULL", "includeUpload": upload,
		}, &answer)
		return answer, err
	}
	made, err := manifest("", false)
	if err != nil {
		return err
	}
	contents := map[string]any{}
	for from := 0; from < len(a.Manifest.Contents); from += 100 {
		part := a.Manifest.Contents[from:min(from+100, len(a.Manifest.Contents))]
		if err := w.artifactFiles(ctx, id, made.CreateArtifactManifest.ArtifactManifest.ID, part); err != nil {
			return err
		}
		for _, c := range part {
			contents[c.Path] = map[string]any{"digest": c.Digest, "size": c.Size, "birthArtifactID": id}
			if c.Ref != "" {
				contents[c.Path] = map[string]any{"digest": c.Digest, "size": c.Size, "ref": c.Ref}
			}
		}
	}
	text, err := json.Marshal(map[string]any{
		"version": 1, "storagePolicy": storagePolicy, "storagePolicyConfig": map[string]any{"storageLayout": "V2"}, "contents": contents,
	})
	if err != nil {
		return err
	}
	placed, err := manifest(md5Of(text), true)
	if err != nil {
		return err
	}
	file := placed.CreateArtifactManifest.ArtifactManifest.File
	err = w.u.api.put(ctx, "the list of files", file.UploadURL, file.UploadHeaders, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	}, int64(len(text)))
	if err != nil {
		return err
	}
	return w.u.api.graphql(ctx, "CommitArtifact", mutationCommit, map[string]any{"artifactID": id}, &struct{}{})
}

// artifactFiles sends files of an artifact.
func (w *worker) artifactFiles(ctx context.Context, id, manifest string, contents []*wandblog.Content) error {
	var specs []map[string]any
	var found []*opened
	for _, c := range contents {
		if c.Ref != "" {
			continue // a file elsewhere
		}
		o, err := open(w.local(c.LocalPath))
		if err != nil {
			return err
		}
		if o.digest != c.Digest {
			return fmt.Errorf("%w: %s has changed since it was logged", errLocal, c.Path)
		}
		found = append(found, o)
		specs = append(specs, map[string]any{"artifactID": id, "artifactManifestID": manifest, "name": c.Path, "md5": c.Digest})
	}
	if len(specs) == 0 {
		return nil
	}
	var answer artifactFilesAnswer
	err := w.u.api.graphql(ctx, "CreateArtifactFiles", mutationArtifactFiles, map[string]any{
		"input": map[string]any{"storageLayout": "V2", "artifactFiles": specs},
	}, &answer)
	if err != nil {
		return err
	}
	edges := answer.CreateArtifactFiles.Files.Edges
	if len(edges) != len(specs) {
		return &ServerError{Request: called["CreateArtifactFiles"], Status: http.StatusBadRequest, Message: fmt.Sprintf("%d places for %d files", len(edges), len(specs))}
	}
	for i, e := range edges {
		if e.Node.UploadURL == nil {
			continue // the server has it
		}
		if err := w.u.api.put(ctx, "a file of the artifact", *e.Node.UploadURL, e.Node.UploadHeaders, found[i].reader, found[i].size); err != nil {
			return err
		}
	}
	return nil
}

// local is where a file of an artifact is: a directory of a run may have been moved.
func (w *worker) local(path string) string {
	if _, err := os.Stat(path); err == nil {
		return path
	}
	for _, folder := range []string{"artifacts", "files"} {
		if _, rest, found := strings.Cut(filepath.ToSlash(path), "/"+folder+"/"); found {
			return filepath.Join(filepath.Dir(w.u.path), folder, filepath.FromSlash(rest))
		}
	}
	return path
}
