// Package huggingface is the part of huggingface_hub that a backbone needs:
// finding a model in the cache that Python's tools share, and downloading one
// into it so that they find it too.
//
// The cache is laid out as huggingface_hub documents it for other
// implementations ("Understand caching"):
//
//	models--org--name/refs/<branch or tag>        the commit it stands for
//	models--org--name/blobs/<etag>                contents, by SHA-256 or git's SHA-1
//	models--org--name/snapshots/<commit>/<file>   links to blobs
//	.locks/models--org--name/<etag>.lock          held while a blob is written
//
// A blob is there whole or not at all: a download goes to <etag>.incomplete,
// goes on there after an interruption, and is renamed when its sum is right.
package huggingface

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Client looks into one cache and asks one server.
type Client struct {
	// Cache is the directory; empty: there is none.
	Cache string
	// Endpoint is the server, "https://huggingface.co".
	Endpoint string
	// Token authorises downloads of gated and private models; may be empty.
	Token string
	// Offline forbids downloads.
	Offline bool
	// HTTP makes the requests; nil: a client that honours HTTPS_PROXY and
	// NO_PROXY.
	HTTP *http.Client
	// Timeout is how long the server may stay silent; 0: ten seconds.
	Timeout time.Duration
	// Pause before the first retry, doubled each time; 0: half a second.
	Pause time.Duration
}

// Default is the client that the environment describes, with the variables and
// defaults of huggingface_hub: HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN,
// HF_TOKEN_PATH, HF_HUB_OFFLINE.
func Default() *Client {
	c := &Client{Cache: cacheDir(), Endpoint: "https://huggingface.co", Token: strings.TrimSpace(os.Getenv("HF_TOKEN"))}
	if e := strings.TrimRight(os.Getenv("HF_ENDPOINT"), "/"); e != "" {
		c.Endpoint = e
	}
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		switch strings.ToUpper(os.Getenv(name)) {
		case "1", "ON", "YES", "TRUE":
			c.Offline = true
		}
	}
	if c.Token == "" {
		path := os.Getenv("HF_TOKEN_PATH")
		if home := homeDir(); path == "" && home != "" {
			path = filepath.Join(home, "token")
		}
		if text, err := os.ReadFile(path); err == nil { // most have none
			c.Token = strings.TrimSpace(string(text))
		}
	}
	return c
}

// homeDir is where Hugging Face's tools keep everything, "" if unknown.
func homeDir() string {
	if home := os.Getenv("HF_HOME"); home != "" {
		return home
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		base = filepath.Join(user, ".cache")
	}
	return filepath.Join(base, "huggingface")
}

func cacheDir() string {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return dir
		}
	}
	if home := homeDir(); home != "" {
		return filepath.Join(home, "hub")
	}
	return ""
}

// Model is a repository at a revision.
type Model struct {
	Repo     string // "google/vit-base-patch16-224"
	Revision string // branch, tag or commit; "main" unless given
}

var repoRule = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$`)

// Parse reads "org/name" or "org/name@revision".
func Parse(name string) (Model, bool) {
	repo, revision, given := strings.Cut(name, "@")
	if !given {
		revision = "main"
	}
	if !repoRule.MatchString(repo) || !filepath.IsLocal(revision) || strings.Contains(repo, "--") {
		return Model{}, false
	}
	return Model{Repo: repo, Revision: revision}, true
}

func (m Model) String() string {
	if m.Revision == "main" {
		return m.Repo
	}
	return m.Repo + "@" + m.Revision
}

func (m Model) folder() string { return "models--" + strings.ReplaceAll(m.Repo, "/", "--") }

var commitRule = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Snapshot is the directory of a model's files in the cache, and the commit
// they are of. ok is false where the cache lacks it. It asks no server.
func (c *Client) Snapshot(m Model) (dir, commit string, ok bool) {
	if c.Cache == "" {
		return "", "", false
	}
	root := filepath.Join(c.Cache, m.folder())
	commit = m.Revision
	if text, err := os.ReadFile(filepath.Join(root, "refs", filepath.FromSlash(m.Revision))); err == nil {
		commit = strings.TrimSpace(string(text))
	}
	if !filepath.IsLocal(commit) {
		return "", "", false
	}
	dir = filepath.Join(root, "snapshots", commit)
	info, err := os.Stat(dir)
	return dir, commit, err == nil && info.IsDir()
}

// Models lists the repositories whose branch main is in the cache, by name.
func (c *Client) Models() []Model {
	if c.Cache == "" {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(globEscape(c.Cache), "models--*", "refs", "main"))
	if err != nil {
		return nil
	}
	var models []Model
	for _, path := range found { // sorted by Glob
		folder := filepath.Base(filepath.Dir(filepath.Dir(path)))
		name := strings.Replace(strings.TrimPrefix(folder, "models--"), "--", "/", 1)
		if m, ok := Parse(name); ok {
			models = append(models, m)
		}
	}
	return models
}

// globEscape makes a path match itself alone.
func globEscape(path string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(path, `\$0`)
}

// Error is a download that failed, with what to do about it.
type Error struct {
	Model Model
	File  string
	// Reason ends a sentence about the model; Cure is what to do, may be "".
	Reason, Cure string
	Err          error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("downloading %s of %s: %s", e.File, e.Model, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Cure != "" {
		text += ": " + e.Cure
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }
