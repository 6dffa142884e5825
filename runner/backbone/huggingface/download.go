package huggingface

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/cache"
)

const (
	attempts      = 5           // of a request, when the server or the network fails
	longestWait   = time.Minute // that a server may ask for
	reportEvery   = 5 * time.Second
	hopsAtMost    = 5 // redirects inside the hub, of a renamed repository
	etagIsSHA256  = 2 * sha256.Size
	etagIsGitSHA1 = 2 * sha1.Size
)

// File is one to download.
type File struct {
	Name string // "model.safetensors"
	// Optional ones may be missing in the repository.
	Optional bool
}

// Fetch brings files of a model into the cache unless they are there, and
// returns the snapshot's directory and commit. It may be interrupted at any
// time and called by several processes at once. progress is told what happens,
// a line at a time.
func (c *Client) Fetch(ctx context.Context, m Model, files []File, progress func(string)) (dir, commit string, err error) {
	if c.Cache == "" {
		return "", "", &Error{Model: m, File: "files", Reason: "there is no cache to put them into", Cure: "set HF_HOME to a directory you can write to"}
	}
	if c.Offline {
		return "", "", &Error{Model: m, File: "files", Reason: "downloads are switched off", Cure: "unset HF_HUB_OFFLINE"}
	}
	root := filepath.Join(c.Cache, m.folder())
	revision := m.Revision
	for _, f := range files {
		at := m
		at.Revision = revision
		b, err := c.head(ctx, at, f.Name)
		var gone *Error
		if f.Optional && errors.As(err, &gone) && errors.Is(err, fs.ErrNotExist) {
			if gone.commit != "" {
				// Python's tools then know without asking. Nothing else needs it.
				_ = replacefile.Write(filepath.Join(root, ".no_exist", gone.commit, filepath.FromSlash(f.Name)), nil)
			}
			continue
		}
		if err != nil {
			return "", "", err
		}
		if commit == "" {
			// All files are of the commit that the first one is of, also when
			// somebody pushes meanwhile.
			commit, revision = b.commit, b.commit
		}
		link := filepath.Join(root, "snapshots", commit, filepath.FromSlash(f.Name))
		if _, err := os.Stat(link); err == nil {
			continue // also where the cache has files in place of links
		}
		if err := c.blob(ctx, at, f.Name, root, b, progress); err != nil {
			return "", "", err
		}
		if err := linkTo(link, filepath.Join(root, "blobs", b.etag)); err != nil {
			return "", "", fmt.Errorf("putting %s of %s into the cache: %w", f.Name, m, err)
		}
	}
	if m.Revision != commit {
		// Last, so that a branch never names a snapshot that lacks files.
		ref := filepath.Join(root, "refs", filepath.FromSlash(m.Revision))
		// The cache may be one that can only be read.
		if had, err := os.ReadFile(ref); err != nil || string(had) != commit {
			if err := replacefile.Write(ref, []byte(commit)); err != nil {
				return "", "", fmt.Errorf("recording the commit of %s: %w", m, err)
			}
		}
	}
	return filepath.Join(root, "snapshots", commit), commit, nil
}

// blob is a file's content as the server announces it.
type blob struct {
	etag   string // SHA-256 or git's SHA-1 of the content, or an opaque name
	size   int64  // -1: unknown
	commit string
	url    string // of the content
}

// head asks what a file is, without its content.
func (c *Client) head(ctx context.Context, m Model, file string) (*blob, error) {
	at := fmt.Sprintf("%s/%s/resolve/%s/%s", c.Endpoint, m.Repo, url.PathEscape(m.Revision), file)
	for range hopsAtMost {
		resp, err := c.do(ctx, m, file, func() (*http.Request, error) { return http.NewRequestWithContext(ctx, http.MethodHead, at, nil) })
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		location := resp.Header.Get("Location")
		commit := resp.Header.Get("X-Repo-Commit")
		if resp.StatusCode/100 == 3 {
			next, err := resp.Request.URL.Parse(location)
			if err == nil && (c.ours(next) || origin(next) == origin(resp.Request.URL)) {
				// A renamed repository, a mirror, a cache of the hub's own.
				at = next.String()
				continue
			}
			// Redirects to where contents are stored say what they are, and are
			// followed when the content is read.
			if err != nil || commit == "" {
				return nil, &Error{Model: m, File: file, Reason: "the server redirects to " + strconv.Quote(location)}
			}
		}
		if resp.StatusCode >= 400 {
			return nil, c.refusal(m, file, resp)
		}
		b := &blob{commit: commit, size: resp.ContentLength, url: at}
		b.etag = resp.Header.Get("X-Linked-Etag")
		if b.etag == "" {
			b.etag = resp.Header.Get("ETag")
		}
		b.etag = strings.Trim(strings.TrimPrefix(b.etag, "W/"), `"`)
		if n, err := strconv.ParseInt(resp.Header.Get("X-Linked-Size"), 10, 64); err == nil {
			b.size = n
		} else if resp.StatusCode/100 == 3 {
			b.size = -1 // the length is that of the redirect
		}
		if !commitRule.MatchString(b.commit) || b.etag == "" || strings.ContainsAny(b.etag, `/\`) || !filepath.IsLocal(b.etag) {
			return nil, &Error{
				Model: m, File: file, Reason: c.Endpoint + " does not answer as the hub does (no commit or no ETag)",
				Cure: "check HF_ENDPOINT and proxies",
			}
		}
		return b, nil
	}
	return nil, &Error{Model: m, File: file, Reason: "the server redirects in a circle"}
}

// refusal turns the hub's status and X-Error-Code into words.
func (c *Client) refusal(m Model, file string, resp *http.Response) error {
	e := &Error{Model: m, File: file}
	token := "set HF_TOKEN to an access token (https://huggingface.co/settings/tokens)"
	if c.Token != "" {
		token = "check that the token in " + c.tokenFrom() + " is valid and may read it"
	}
	message := resp.Header.Get("X-Error-Message")
	switch code := resp.Header.Get("X-Error-Code"); {
	case message == "Invalid credentials in Authorization header":
		// Also for public models.
		e.Reason, e.Cure = "the token is not valid", "renew the one in "+c.tokenFrom()+", or remove it if the model is public"
	case message == "Access to this resource is disabled.":
		e.Reason = "access to it is disabled on the hub"
	case code == "EntryNotFound":
		e.Reason, e.Err = "the repository has no such file", fs.ErrNotExist
		if commit := resp.Header.Get("X-Repo-Commit"); commitRule.MatchString(commit) {
			e.commit = commit
		}
	case code == "RevisionNotFound":
		e.Reason, e.Cure = "there is no branch, tag or commit "+strconv.Quote(m.Revision), "look at "+c.Endpoint+"/"+m.Repo+"/commits"
	case code == "GatedRepo":
		e.Reason, e.Cure = "access is granted on request only", "ask for it at "+c.Endpoint+"/"+m.Repo+", then "+token
	case code == "RepoNotFound", resp.StatusCode == http.StatusUnauthorized:
		// The hub does not tell private from missing.
		e.Reason, e.Cure = "there is no such repository, or it is private", "check the name; if it is private "+token
	case resp.StatusCode == http.StatusForbidden:
		e.Reason, e.Cure = "access is denied", token
	case resp.StatusCode == http.StatusNotFound:
		e.Reason, e.Err = "not found at "+c.Endpoint, fs.ErrNotExist
	default:
		e.Reason = "the server answers " + resp.Status
	}
	return e
}

func (c *Client) tokenFrom() string { return cmp.Or(c.TokenFrom, "HF_TOKEN") }

// do makes a request, again after a pause when the network breaks or the
// server is overloaded. Redirects are not followed. Statuses below 500 but 429
// are the caller's.
func (c *Client) do(ctx context.Context, m Model, file string, request func() (*http.Request, error)) (*http.Response, error) {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	} else {
		client.Transport = c.transport()
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	pause := c.pause()
	var last error
	for attempt := range attempts {
		if attempt > 0 {
			if err := sleep(ctx, pause); err != nil {
				return nil, err
			}
			pause *= 2
		}
		req, err := request()
		if err != nil {
			return nil, &Error{Model: m, File: file, Reason: "the address is not one", Cure: "check HF_ENDPOINT", Err: err}
		}
		req.Header.Set("User-Agent", "loralab")
		// What is compressed on its way has another length than is announced.
		req.Header.Set("Accept-Encoding", "identity")
		if c.Token != "" && c.ours(req.URL) {
			req.Header.Set("Authorization", "Bearer "+c.Token)
		}
		resp, err := client.Do(req)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			last = err
			var dns *net.DNSError
			if errors.As(err, &dns) && dns.IsNotFound || errors.Is(err, unix.ECONNREFUSED) {
				break // will not come back in seconds
			}
			continue
		}
		if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			return resp, nil
		}
		resp.Body.Close()
		last = fmt.Errorf("the server answers %s", resp.Status)
		if wait := asked(resp.Header); wait > pause {
			pause = min(wait, longestWait)
		}
	}
	return nil, &Error{
		Model: m, File: file, Reason: c.Endpoint + " cannot be reached", Err: last,
		Cure: "check the network (HTTPS_PROXY for a proxy, HF_ENDPOINT for a mirror)",
	}
}

// rateLimit is the header of a server that limits requests: "api";r=0;t=55 is
// none left for 55 seconds.
var rateLimit = regexp.MustCompile(`r=0;\s*t=(\d+)`)

// asked is how long a server asks to wait before the next request.
func asked(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if m := rateLimit.FindStringSubmatch(h.Get("RateLimit")); m != nil {
		text = m[1]
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// ours reports whether a URL is the hub's own, or that of a mirror which is
// asked in its place: the token goes nowhere else.
func (c *Client) ours(u *url.URL) bool {
	for _, hub := range []string{c.Endpoint, defaultEndpoint, "https://hf.co"} {
		if hub, err := url.Parse(hub); err == nil && origin(hub) == origin(u) {
			return true
		}
	}
	return false
}

// origin is scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

func (c *Client) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the environment's proxies
	t.ResponseHeaderTimeout = c.timeout()
	t.DialContext = (&net.Dialer{Timeout: c.timeout()}).DialContext
	return t
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 10 * time.Second
}

func (c *Client) pause() time.Duration {
	if c.Pause > 0 {
		return c.Pause
	}
	return time.Second / 2
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// blob makes sure that the content is in the cache.
func (c *Client) blob(ctx context.Context, m Model, file, root string, b *blob, progress func(string)) error {
	path := filepath.Join(root, "blobs", b.etag)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	locks := filepath.Join(c.Cache, ".locks", m.folder())
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.MkdirAll(locks, 0o777)); err != nil {
		return fmt.Errorf("making the Hugging Face cache: %w", err)
	}
	unlock, err := cache.Lock(ctx, filepath.Join(locks, b.etag+".lock"), func() {
		progress("waiting for another process that downloads " + file + " of " + m.String())
	})
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil { // by the process that held the lock
		return nil
	}
	if b.size > 0 {
		if err := cache.Require(root, file+" of "+m.String(), uint64(b.size)); err != nil {
			return err
		}
	}
	part := path + ".incomplete"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return fmt.Errorf("writing into the Hugging Face cache: %w", err)
	}
	defer f.Close()
	fail := func(reason, cure string, err error) error {
		return &Error{Model: m, File: file, Reason: reason, Cure: cure, Err: err}
	}
	t := &transfer{client: c, model: m, file: file, blob: b, out: f, progress: progress}
	if err := t.run(ctx); err != nil {
		return err
	}
	if err := verify(f, b); err != nil {
		// What came is of no use as a beginning of the next try either.
		return fail("what came is damaged", "run it again; if that does not help, a proxy or mirror alters files",
			errors.Join(err, os.Remove(part)))
	}
	if err := errors.Join(f.Sync(), os.Rename(part, path)); err != nil {
		return fail("writing failed", "", err)
	}
	return nil
}

// transfer is one content on its way.
type transfer struct {
	client   *Client
	model    Model
	file     string
	blob     *blob
	out      *os.File
	progress func(string)
}

// run appends to the file until the content is whole. A connection that breaks
// is made anew, as long as each brings something.
func (t *transfer) run(ctx context.Context) error {
	at, err := t.out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if t.blob.size >= 0 && at > t.blob.size { // not of this content
		at = 0
	}
	what := t.file + " of " + t.model.String()
	announce := "downloading " + what
	if t.blob.size > 0 {
		announce += " (" + cache.Bytes(uint64(t.blob.size)) + ")"
	}
	if at > 0 {
		announce += ", going on at " + cache.Bytes(uint64(at))
	}
	t.progress(announce)
	idle := 0
	for t.blob.size < 0 || at < t.blob.size {
		n, whole, err := t.part(ctx, at)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		at = n.at
		if whole {
			break
		}
		var final *Error
		if errors.As(err, &final) {
			return err
		}
		if idle++; n.came > 0 {
			idle = 0
		}
		if idle == attempts {
			return &Error{
				Model: t.model, File: t.file, Reason: "the connection breaks again and again",
				Cure: "run it again; it goes on where it stopped", Err: err,
			}
		}
		if idle > 0 {
			if err := sleep(ctx, t.client.pause()<<idle); err != nil {
				return err
			}
		}
	}
	return nil
}

type reached struct {
	at   int64 // length of the file
	came int64 // of it by this part
}

// part reads from byte at on until the content or the connection ends.
func (t *transfer) part(ctx context.Context, at int64) (r reached, whole bool, err error) {
	r.at = at
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := t.get(ctx, at)
	if err != nil {
		return r, false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK: // from the beginning, whatever was asked for
		at = 0
	case http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != at {
			return r, false, &Error{Model: t.model, File: t.file, Reason: fmt.Sprintf("the server sends %q where byte %d was asked for", resp.Header.Get("Content-Range"), at)}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		// Ours is as long as what the server has, or longer: begin anew.
		r.at = 0
		return r, false, fmt.Errorf("the server answers %s", resp.Status)
	default:
		return r, false, t.client.refusal(t.model, t.file, resp)
	}
	if err := t.out.Truncate(at); err != nil {
		return r, false, err
	}
	if _, err := t.out.Seek(at, io.SeekStart); err != nil {
		return r, false, err
	}
	r.at = at
	// A server that falls silent is left: the timer ends the request.
	silent := time.AfterFunc(t.client.timeout(), cancel)
	defer silent.Stop()
	next := time.Now().Add(reportEvery)
	buffer := make([]byte, 1<<18)
	for {
		n, err := resp.Body.Read(buffer)
		silent.Reset(t.client.timeout())
		if n > 0 {
			if _, err := t.out.Write(buffer[:n]); err != nil {
				reason := "writing failed"
				if errors.Is(err, unix.ENOSPC) {
					reason = "the disk is full"
				}
				return r, false, &Error{Model: t.model, File: t.file, Reason: reason, Cure: "make room, or set HF_HOME to a directory on a larger disk", Err: err}
			}
			r.at += int64(n)
			r.came += int64(n)
		}
		if now := time.Now(); now.After(next) && t.blob.size > 0 {
			t.progress(fmt.Sprintf("  %s of %s", cache.Bytes(uint64(r.at)), cache.Bytes(uint64(t.blob.size))))
			next = now.Add(reportEvery)
		}
		if err == io.EOF {
			return r, t.blob.size < 0 || r.at == t.blob.size, nil
		}
		if err != nil {
			return r, false, err
		}
	}
}

// get asks for the content from byte at on, following redirects to where it is
// stored; only the hub itself is told the token.
func (t *transfer) get(ctx context.Context, at int64) (*http.Response, error) {
	from := t.blob.url
	for range 2 * hopsAtMost {
		resp, err := t.client.do(ctx, t.model, t.file, func() (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
			if err == nil && at > 0 {
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-", at))
			}
			return req, err
		})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 3 {
			return resp, nil
		}
		resp.Body.Close()
		next, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
		if err != nil || next.Scheme != "https" && next.Scheme != resp.Request.URL.Scheme {
			return nil, &Error{Model: t.model, File: t.file, Reason: "the server redirects to " + strconv.Quote(resp.Header.Get("Location"))}
		}
		from = next.String()
	}
	return nil, &Error{Model: t.model, File: t.file, Reason: "the server redirects in a circle"}
}

// verify compares content with the sum that its ETag is. Other ETags say
// nothing but the length can be told.
func verify(f *os.File, b *blob) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if b.size >= 0 && info.Size() != b.size {
		return fmt.Errorf("it has %d bytes, not %d", info.Size(), b.size)
	}
	var sum hash.Hash
	switch {
	case len(b.etag) == etagIsSHA256 && isHex(b.etag):
		sum = sha256.New()
	case len(b.etag) == etagIsGitSHA1 && isHex(b.etag):
		sum = sha1.New()
		fmt.Fprintf(sum, "blob %d\x00", info.Size())
	default:
		return nil
	}
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, info.Size())); err != nil {
		return fmt.Errorf("reading it back: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.etag {
		return fmt.Errorf("its sum is %s, announced was %s", got, b.etag)
	}
	return nil
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

// linkTo makes the relative link of a snapshot, in one step.
func linkTo(link, blob string) error {
	target, err := filepath.Rel(filepath.Dir(link), blob)
	if err != nil {
		return err
	}
	return replacefile.Link(target, link)
}
