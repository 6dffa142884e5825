package huggingface

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// server behaves like the hub: small files are served by it, with git's SHA-1
// as ETag; large ones are on another host, reached by a redirect that carries
// commit, size and SHA-256.
type server struct {
	*httptest.Server
	storage *httptest.Server

	mu       sync.Mutex
	files    map[string]string // small
	large    map[string]string
	breakAt  int  // the storage breaks off each answer after so many bytes
	damage   bool // and sends other bytes than announced
	busy     int  // so many 503 first
	noRanges bool
	cached   bool // small files are reached by a redirect inside the hub
	badToken bool // whatever token is sent
	requests []string
}

func newServer(t *testing.T) *server {
	s := &server{files: map[string]string{}, large: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.hub))
	s.storage = httptest.NewServer(http.HandlerFunc(s.store))
	t.Cleanup(s.Close)
	t.Cleanup(s.storage.Close)
	return s
}

func (s *server) hub(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	if s.busy > 0 {
		s.busy--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	deny := func(status int, code string) {
		w.Header().Set("X-Error-Code", code)
		w.WriteHeader(status)
	}
	repo, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/resolve/")
	revision, file, _ := strings.Cut(rest, "/")
	revision, _ = url.PathUnescape(revision)
	switch {
	case s.badToken && r.Header.Get("Authorization") != "":
		w.Header().Set("X-Error-Message", "Invalid credentials in Authorization header")
		w.WriteHeader(http.StatusUnauthorized)
		return
	case repo == "org/disabled":
		w.Header().Set("X-Error-Message", "Access to this resource is disabled.")
		w.WriteHeader(http.StatusForbidden)
		return
	case repo == "old/name":
		http.Redirect(w, r, "/org/model/resolve/"+rest, http.StatusTemporaryRedirect)
		return
	case !ok || repo != "org/model" && repo != "org/gated":
		deny(http.StatusUnauthorized, "RepoNotFound")
		return
	case repo == "org/gated" && r.Header.Get("Authorization") != "Bearer secret":
		deny(http.StatusForbidden, "GatedRepo")
		return
	case revision != "main" && revision != "v1" && revision != "feature/x" && revision != commit:
		deny(http.StatusNotFound, "RevisionNotFound")
		return
	}
	if small, ok := s.files[file]; ok {
		if s.cached && r.URL.Query().Get("cached") == "" {
			w.Header().Set("X-Repo-Commit", commit)
			w.Header().Set("Location", r.URL.EscapedPath()+"?cached=1")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(small), small))
		w.Header().Set("X-Repo-Commit", commit)
		w.Header().Set("ETag", `W/"`+hex.EncodeToString(sum[:])+`"`)
		http.ServeContent(w, r, file, time.Time{}, strings.NewReader(small))
		return
	}
	if large, ok := s.large[file]; ok {
		sum := sha256.Sum256([]byte(large))
		w.Header().Set("X-Repo-Commit", commit)
		w.Header().Set("X-Linked-Etag", `"`+hex.EncodeToString(sum[:])+`"`)
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(large)))
		// The hub stores large files as chunks; who asks without knowing of it is
		// sent to a bridge that puts them together.
		w.Header().Set("X-Xet-Hash", hex.EncodeToString(sum[:]))
		w.Header().Set("Link", `<https://huggingface.co/api/models/org/model/xet-read-token/`+commit+`>; rel="xet-auth"`)
		http.Redirect(w, r, s.storage.URL+"/"+file+"?signature=x", http.StatusFound)
		return
	}
	w.Header().Set("X-Repo-Commit", commit)
	deny(http.StatusNotFound, "EntryNotFound")
}

func (s *server) store(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, "storage "+r.Header.Get("Range"))
	if r.Header.Get("Authorization") != "" {
		w.WriteHeader(http.StatusBadRequest) // a token that went astray
		return
	}
	content := s.large[strings.TrimPrefix(r.URL.Path, "/")]
	if s.damage {
		content = strings.Repeat("?", len(content))
	}
	from := 0
	if h := r.Header.Get("Range"); h != "" && !s.noRanges {
		fmt.Sscanf(h, "bytes=%d-", &from)
		if from >= len(content) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	rest := content[from:]
	if s.breakAt > 0 && len(rest) > s.breakAt {
		io.WriteString(w, rest[:s.breakAt])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler) // the connection ends in the middle
	}
	io.WriteString(w, rest)
}

func (s *server) client(t *testing.T) *Client {
	return &Client{Cache: t.TempDir(), Endpoint: s.URL, Pause: time.Millisecond, Timeout: 5 * time.Second}
}

var wanted = []File{{Name: "config.json"}, {Name: "preprocessor_config.json", Optional: true}, {Name: "model.safetensors"}}

func mustParse(t *testing.T, name string) Model {
	t.Helper()
	m, ok := Parse(name)
	if !ok {
		t.Fatalf("%s is refused", name)
	}
	return m
}

func quiet(string) {}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The layout is that of huggingface_hub, so that Python finds what we fetch.
func TestFetch(t *testing.T) {
	s := newServer(t)
	s.files["config.json"], s.large["model.safetensors"] = "{}", strings.Repeat("weights ", 1000)
	c := s.client(t)
	for i, name := range []string{"org/model", "org/model@feature/x", "org/model@" + commit, "old/name"} {
		s.cached = i > 0
		m := mustParse(t, name)
		if _, _, ok := c.Snapshot(m); ok && name == "org/model" {
			t.Fatal("there before it is fetched")
		}
		dir, at, err := c.Fetch(t.Context(), m, wanted, quiet)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		root := filepath.Join(c.Cache, "models--"+strings.ReplaceAll(m.Repo, "/", "--"))
		if want := filepath.Join(root, "snapshots", commit); dir != want || at != commit {
			t.Errorf("%s: %s at %s, want %s", name, dir, at, want)
		}
		if found, found2, ok := c.Snapshot(m); !ok || found != dir || found2 != commit {
			t.Errorf("%s: not found again: %s %s", name, found, found2)
		}
		if read(t, filepath.Join(dir, "config.json")) != "{}" || read(t, filepath.Join(dir, "model.safetensors")) != s.large["model.safetensors"] {
			t.Errorf("%s: other content", name)
		}
		sum := sha256.Sum256([]byte(s.large["model.safetensors"]))
		target, err := os.Readlink(filepath.Join(dir, "model.safetensors"))
		if want := "../../blobs/" + hex.EncodeToString(sum[:]); err != nil || target != want {
			t.Errorf("%s: links to %s, want %s", name, target, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "preprocessor_config.json")); err == nil {
			t.Errorf("%s: a file that the repository lacks", name)
		}
		if _, err := os.Stat(filepath.Join(root, ".no_exist", commit, "preprocessor_config.json")); err != nil {
			t.Errorf("%s: it is not noted that there is none: %v", name, err)
		}
	}
	root := filepath.Join(c.Cache, "models--org--model")
	if ref := read(t, filepath.Join(root, "refs", "feature", "x")); ref != commit {
		t.Errorf("refs/feature/x is %q", ref)
	}
	left, err := filepath.Glob(filepath.Join(root, "*", "*.incomplete"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if got := fmt.Sprint(c.Models()); got != "[old/name org/model]" {
		t.Errorf("the cache holds %s", got)
	}
	// What is there is not asked for again but for its commit.
	s.requests = nil
	if _, _, err := c.Fetch(t.Context(), mustParse(t, "org/model"), wanted, quiet); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.requests, ", "); strings.Contains(got, "GET") || strings.Contains(got, "storage") {
		t.Errorf("asked for %s", got)
	}
}

// A connection that breaks is made anew where it stopped, within a call and
// over calls; a server without ranges begins again.
func TestResume(t *testing.T) {
	s := newServer(t)
	s.large["model.safetensors"] = strings.Repeat("0123456789", 1000)
	s.breakAt = 3000
	c, m, files := s.client(t), mustParse(t, "org/model"), wanted[2:]
	dir, _, err := c.Fetch(t.Context(), m, files, quiet)
	if err != nil || read(t, filepath.Join(dir, "model.safetensors")) != s.large["model.safetensors"] {
		t.Fatalf("after breaks: %v", err)
	}
	if got := strings.Join(s.requests, "|"); !strings.HasSuffix(got, "storage |GET /org/model/resolve/main/model.safetensors|storage bytes=3000-|"+
		"GET /org/model/resolve/main/model.safetensors|storage bytes=6000-|GET /org/model/resolve/main/model.safetensors|storage bytes=9000-") {
		t.Errorf("requests %s", got)
	}

	s.breakAt, s.requests = 0, nil
	sum := sha256.Sum256([]byte(s.large["model.safetensors"]))
	for name, part := range map[string]string{
		"half":            s.large["model.safetensors"][:5000],
		"longer than all": s.large["model.safetensors"] + "more",
		"whole":           s.large["model.safetensors"],
	} {
		c := s.client(t)
		blobs := filepath.Join(c.Cache, m.folder(), "blobs")
		if err := errors.Join(os.MkdirAll(blobs, 0o777),
			os.WriteFile(filepath.Join(blobs, hex.EncodeToString(sum[:])+".incomplete"), []byte(part), 0o666)); err != nil {
			t.Fatal(err)
		}
		for _, s.noRanges = range []bool{false, true} {
			dir, _, err := c.Fetch(t.Context(), m, files, quiet)
			if err != nil || read(t, filepath.Join(dir, "model.safetensors")) != s.large["model.safetensors"] {
				t.Errorf("%s, without ranges %v: %v", name, s.noRanges, err)
			}
			if err := os.RemoveAll(filepath.Join(c.Cache, m.folder(), "snapshots")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Two processes fetch at once: one downloads, both have it.
func TestTogether(t *testing.T) {
	s := newServer(t)
	s.large["model.safetensors"] = strings.Repeat("x", 1<<20)
	dir, m := t.TempDir(), mustParse(t, "org/model")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := &Client{Cache: dir, Endpoint: s.URL, Pause: time.Millisecond}
			if _, _, err := c.Fetch(context.Background(), m, wanted[2:], quiet); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(strings.Join(s.requests, "\n"), "storage"); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
}

// What goes wrong is told with its cure, and nothing half is left in use.
func TestFailures(t *testing.T) {
	s := newServer(t)
	s.files["config.json"], s.large["model.safetensors"] = "{}", "weights"
	closed := httptest.NewServer(nil)
	closed.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }))
	defer plain.Close()
	for _, c := range []struct {
		name, model, want string
		change            func(*Client)
	}{
		{"no repository", "org/other", "no such repository, or it is private", nil},
		{"with a token", "org/other", "check that the token in HF_TOKEN", func(c *Client) { c.Token = "wrong" }},
		{"gated", "org/gated", "ask for it at " + s.URL + "/org/gated, then set HF_TOKEN", nil},
		{"no revision", "org/model@v7", `no branch, tag or commit "v7"`, nil},
		{"offline", "org/model", "unset HF_HUB_OFFLINE", func(c *Client) { c.Offline = true }},
		{"no cache", "org/model", "set HF_HOME", func(c *Client) { c.Cache = "" }},
		{"no server", "org/model", "HTTPS_PROXY for a proxy", func(c *Client) { c.Endpoint = closed.URL }},
		{"another server", "org/model", "does not answer as the hub does", func(c *Client) { c.Endpoint = plain.URL }},
		{"damaged", "org/model", "what came is damaged", func(*Client) { s.damage = true }},
		{"token", "org/model", "renew the one in HF_TOKEN, or remove it", func(c *Client) { s.badToken, c.Token = true, "old" }},
		{"token of a file", "org/model", "renew the one in /home/me/token, or", func(c *Client) { c.Token, c.TokenFrom = "old", "/home/me/token" }},
		{"disabled", "org/disabled", "disabled on the hub", func(*Client) { s.badToken = false }},
		{"overloaded", "org/model", "503", func(*Client) { s.damage, s.busy = false, attempts }},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := s.client(t)
			if c.change != nil {
				c.change(client)
			}
			m := mustParse(t, c.model)
			_, _, err := client.Fetch(t.Context(), m, wanted, quiet)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, _, ok := client.Snapshot(m); ok && c.name != "damaged" {
				t.Error("a snapshot is left")
			}
			if dir, _, ok := client.Snapshot(m); ok {
				if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err == nil {
					t.Error("the damaged file is in use")
				}
			}
		})
	}
	s.busy = 2 // comes back
	if _, _, err := s.client(t).Fetch(t.Context(), mustParse(t, "org/model"), wanted, quiet); err != nil {
		t.Error(err)
	}
	c := s.client(t)
	c.Token = "secret"
	if _, _, err := c.Fetch(t.Context(), mustParse(t, "org/gated"), wanted, quiet); err != nil {
		t.Errorf("with its token: %v", err)
	}
	missing := s.client(t)
	_, _, err := missing.Fetch(t.Context(), mustParse(t, "org/model"), []File{{Name: "other.bin"}}, quiet)
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

// A download that is cancelled stops at once and goes on later.
func TestCancelled(t *testing.T) {
	s := newServer(t)
	s.large["model.safetensors"] = strings.Repeat("x", 100)
	ctx, cancel := context.WithCancel(t.Context())
	c := s.client(t)
	_, _, err := c.Fetch(ctx, mustParse(t, "org/model"), wanted[2:], func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, _, err := c.Fetch(t.Context(), mustParse(t, "org/model"), wanted[2:], quiet); err != nil {
		t.Error(err)
	}
}

// A proxy of the environment is used.
func TestProxy(t *testing.T) {
	s := newServer(t)
	s.files["config.json"] = "{}"
	var through []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through = append(through, r.URL.String())
		s.Config.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	// The environment is read once in a process, and never for localhost; so
	// the transport is made as transport() does, with the proxy put in.
	c := s.client(t)
	c.Endpoint = "http://hub.example"
	transport := c.transport()
	if transport.Proxy == nil {
		t.Fatal("no proxy is asked for")
	}
	transport.Proxy = http.ProxyURL(at)
	c.HTTP = &http.Client{Transport: transport}
	if _, _, err := c.Fetch(t.Context(), mustParse(t, "org/model"), wanted[:1], quiet); err != nil || len(through) != 2 {
		t.Errorf("through the proxy went %v: %v", through, err)
	}
}

func TestDefault(t *testing.T) {
	for _, name := range []string{
		"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_TOKEN",
		"HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUGGING_FACE_HUB_TOKEN",
		"HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DOWNLOAD_TIMEOUT",
	} {
		t.Setenv(name, "")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, c := range []struct{ name, value, want string }{
		{"HOME", home, filepath.Join(home, ".cache/huggingface/hub")},
		{"XDG_CACHE_HOME", "/c", "/c/huggingface/hub"},
		{"HF_HOME", filepath.Join(home, "h"), filepath.Join(home, "h/hub")},
		{"HF_HOME", "~/h", filepath.Join(home, "h/hub")},
		{"HUGGINGFACE_HUB_CACHE", "/old", "/old"},
		{"HF_HUB_CACHE", "$HOME/new-${NOT_SET}", home + "/new-${NOT_SET}"},
		{"HF_HUB_CACHE", "/new", "/new"},
	} { // each outranks those before it
		t.Setenv(c.name, c.value)
		if got := Default().Cache; got != c.want {
			t.Errorf("with %s: %s, want %s", c.name, got, c.want)
		}
	}
	if c := Default(); c.Offline || c.Token != "" || c.Endpoint != "https://huggingface.co" {
		t.Errorf("got %+v", c)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(home, "h"), 0o777), os.WriteFile(filepath.Join(home, "h", "token"), []byte("of the file\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if c := Default(); c.Token != "of the file" || c.TokenFrom != filepath.Join(home, "h", "token") {
		t.Errorf("token %q from %s", c.Token, c.TokenFrom)
	}
	t.Setenv("HUGGING_FACE_HUB_TOKEN", "of old")
	if c := Default(); c.Token != "of old" || c.TokenFrom != "HUGGING_FACE_HUB_TOKEN" {
		t.Errorf("token %q from %s", c.Token, c.TokenFrom)
	}
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
	if got := Default().Token; got != "" {
		t.Errorf("token %q", got)
	}
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")
	t.Setenv("HF_HUB_DOWNLOAD_TIMEOUT", "30")
	t.Setenv("HF_TOKEN", "of the environment")
	t.Setenv("HF_ENDPOINT", "https://mirror.example/")
	t.Setenv("TRANSFORMERS_OFFLINE", "yes")
	if c := Default(); !c.Offline || c.Token != "of the environment" || c.Endpoint != "https://mirror.example" || c.Timeout != 30*time.Second {
		t.Errorf("got %+v", c)
	}
	t.Setenv("HF_HUB_OFFLINE", "0") // outranks the other
	if Default().Offline {
		t.Error("offline")
	}
}

func TestParse(t *testing.T) {
	for name, want := range map[string]string{
		"google/vit-base-patch16-224": "google/vit-base-patch16-224 main",
		"a/b@v1.0":                    "a/b v1.0",
		"a/b@refs/pr/1":               "a/b refs/pr/1",
		"a/b@../x":                    "", "a": "", "a/b/c": "", "./a": "", "a/b@": "", "../a": "", "a/--b": "",
	} {
		m, ok := Parse(name)
		if got := m.Repo + " " + m.Revision; ok != (want != "") || ok && got != want {
			t.Errorf("%s: %v %v, want %q", name, m, ok, want)
		}
	}
}

// A cache that can only be read, and one with files in place of links, serve
// without being written to.
func TestCacheIsLeftAlone(t *testing.T) {
	s := newServer(t)
	s.files["config.json"], s.large["model.safetensors"] = "{}", "weights"
	c, m := s.client(t), mustParse(t, "org/model")
	dir, _, err := c.Fetch(t.Context(), m, wanted, quiet)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "model.safetensors")
	config := filepath.Join(dir, "config.json")
	if err := errors.Join(os.Remove(link), os.WriteFile(link, []byte("weights"), 0o666),
		os.Remove(config), os.WriteFile(config, []byte("{}"), 0o666),
		os.RemoveAll(filepath.Join(c.Cache, m.folder(), "blobs"))); err != nil {
		t.Fatal(err)
	}
	ref := filepath.Join(c.Cache, m.folder(), "refs", "main")
	before, err := os.Stat(ref)
	if err != nil {
		t.Fatal(err)
	}
	s.requests = nil
	if _, _, err := c.Fetch(t.Context(), m, wanted, quiet); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.requests, ", "); strings.Contains(got, "GET") {
		t.Errorf("asked for %s", got)
	}
	if after, err := os.Stat(ref); err != nil || !os.SameFile(before, after) {
		t.Errorf("the reference was written anew, %v", err)
	}
}

// A server that asks for patience gets it.
func TestAsked(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"Retry-After: 7":                           7 * time.Second,
		`RateLimit: "api";r=0;t=55`:                55 * time.Second,
		`RateLimit: "api";r=12;t=55`:               0,
		"Retry-After: Wed, 21 Oct 2015 07:28:00 Z": 0,
	} {
		name, value, _ := strings.Cut(header, ": ")
		h := http.Header{}
		h.Set(name, value)
		if got := asked(h); got != want {
			t.Errorf("%s: %v, want %v", header, got, want)
		}
	}
}
