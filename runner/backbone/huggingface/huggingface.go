// Package huggingface is the part of huggingface_hub that a backbone needs:
// finding a model in the cache that Python's tools share, and downloading one
// into it so that they find it too.
//
// The cache is laid out as huggingface_hub documents it for other
// implementations ("Understand caching"):
//
//	models--org--name/refs/<branch or tag>        the commit it stands for
//	models--org--name/blobs/<etag>                contents, by SHA-256 or git's SHA-1
//	models--org--name/snapshots/<commit>/<file>   links to blobs, or the files
//	models--org--name/.no_exist/<commit>/<file>   empty: the commit has no such file
//	.locks/models--org--name/<etag>.lock          held while a blob is written
//
// A blob is there whole or not at all: a download goes to <etag>.incomplete,
// goes on there after an interruption, and is renamed when its sum is right.
package huggingface

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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
	// TokenFrom says where it is from, for messages; empty: HF_TOKEN.
	TokenFrom string
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
// HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_OFFLINE,
// HF_HUB_DOWNLOAD_TIMEOUT. Where there is no HF_TOKEN, the token is the one that
// `hf auth login` left.
func Default() *Client {
	c := &Client{
		Cache: cacheDir(), Endpoint: defaultEndpoint,
		Offline: isTrue(cmp.Or(os.Getenv("HF_HUB_OFFLINE"), os.Getenv("TRANSFORMERS_OFFLINE"))),
	}
	if e := strings.TrimRight(os.Getenv("HF_ENDPOINT"), "/"); e != "" {
		c.Endpoint = e
	}
	if !isTrue(os.Getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		c.Token, c.TokenFrom = token()
	}
	if n, err := strconv.Atoi(os.Getenv("HF_HUB_DOWNLOAD_TIMEOUT")); err == nil {
		c.Timeout = time.Duration(n) * time.Second
	}
	return c
}

const defaultEndpoint = "https://huggingface.co"

func isTrue(value string) bool {
	switch strings.ToUpper(value) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// token is what authorises, and where it is from; "" if there is none.
func token() (token, from string) {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if token := strings.TrimSpace(os.Getenv(name)); token != "" {
			return token, name
		}
	}
	path := expand(os.Getenv("HF_TOKEN_PATH"))
	if home := homeDir(); path == "" && home != "" {
		path = filepath.Join(home, "token")
	}
	text, err := os.ReadFile(path) // most have none
	if token := strings.TrimSpace(string(text)); err == nil && token != "" {
		return token, path
	}
	return "", ""
}

// expand puts the home directory in place of ~ at the beginning of a path, and
// variables of the environment in place of $NAME and ${NAME}.
func expand(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			path = home + path[1:]
		}
	}
	return os.Expand(path, func(name string) string {
		if value, ok := os.LookupEnv(name); ok {
			return value
		}
		return "${" + name + "}"
	})
}

// homeDir is where Hugging Face's tools keep everything, "" if unknown.
func homeDir() string {
	if home := expand(os.Getenv("HF_HOME")); home != "" {
		return home
	}
	base := expand(os.Getenv("XDG_CACHE_HOME"))
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
		if dir := expand(os.Getenv(name)); dir != "" {
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

// Folder is where the cache keeps a model.
func (c *Client) Folder(m Model) string { return filepath.Join(c.Cache, m.folder()) }

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
	commit       string // that lacks the file, "" if unknown
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
