package wandb

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Mode is what becomes of a run.
type Mode string

const (
	Online   Mode = "online"   // logged on disk, and sent while it runs
	Offline  Mode = "offline"  // logged on disk; Sync or `wandb sync` sends it later
	Disabled Mode = "disabled" // nothing is written and nothing is sent
)

// Key authenticates a user. It prints as "(hidden)"; nothing writes it to a file.
type Key struct{ secret string }

// NewKey is a key from its text.
func NewKey(secret string) Key { return Key{strings.TrimSpace(secret)} }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.secret == "" }

// Format prints no key, whatever the verb is.
func (k Key) Format(f fmt.State, _ rune) {
	text := "(hidden)"
	if k.IsZero() {
		text = "(none)"
	}
	_, _ = f.Write([]byte(text))
}

// MarshalText writes no key.
func (k Key) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(k)), nil }

// Settings describe a run and where it is sent. Fields that are zero are taken from
// the environment and from the settings files of the official client; see Environment.
type Settings struct {
	Mode    Mode   // Online by default
	Root    string // the folder with the directory wandb; by default $WANDB_DIR or the working directory
	BaseURL string // the server, with a path if it has one
	AppURL  string // the pages that people look at; worked out from BaseURL
	Key     Key

	Entity   string // user or team; by default that of the key
	Project  string // "uncategorized" by default
	ID       string // names the run on the server; random by default
	Name     string // what people see
	Group    string
	JobType  string
	Notes    string
	Tags     []string
	SweepID  string // only of a sweep that W&B manages
	Resume   Resume
	Start    time.Time // now by default; earlier for a run that is logged afterwards
	Host     string    // of the machine; its own name by default
	Username string
	Email    string
	Program  string   // what was started
	Args     []string // and with which arguments, without secrets
	Remote   string   // of git
	Commit   string

	SystemInterval time.Duration // between samples of system metrics; 0 is none

	Transmit  time.Duration // at most one request in this time, 15 s by default
	Heartbeat time.Duration // a sign of life after this time without a request, 30 s by default
	RetryMin  time.Duration // the first wait after a request that failed, 2 s by default
	RetryMax  time.Duration // the longest, 60 s by default
	Timeout   time.Duration // of one request except uploads, 180 s by default
	Wait      time.Duration // how long Sync waits for a server that does not answer, 60 s by default

	maxRequest int // bytes of lines after which a request is sent at once

	HTTPProxy, HTTPSProxy string            // for W&B alone; by default those of the environment
	Headers               map[string]string // added to every request

	// Getenv reads the environment; nil is os.Getenv. A function that returns ""
	// leaves environment, settings files and netrc out.
	Getenv func(string) string

	// Notice receives what a person should read, one line each: where the run is,
	// that the server is away, that it refuses something. It is called from one
	// goroutine at a time and must not block.
	Notice func(Notice)
}

// Resume says what happens if the server has a run of this id.
type Resume string

const (
	ResumeAllow Resume = "allow" // it continues
	ResumeMust  Resume = "must"  // it continues; without one nothing is sent
	ResumeNever Resume = "never" // nothing is sent
	ResumeAuto  Resume = "auto"  // as allow
)

// ErrNoKey says that there is no key for the server.
var ErrNoKey = errors.New("no key of W&B: set WANDB_API_KEY, or run `wandb login`")

const (
	publicURL  = "https://api.forge.coreweave.com"
	formerHost = "api.wandb.ai" // the same deployment, under its earlier name
)

// Environment returns the settings that the environment and the files of the official
// client give. What comes later in this list wins: $WANDB_CONFIG_DIR/settings (by default
// ~/.config/wandb/settings), ROOT/wandb/settings, the variables WANDB_*.
// The key comes from WANDB_API_KEY, from netrc or from a settings file that names
// the same server.
//
// An empty root is $WANDB_DIR or the working directory. A nil getenv is os.Getenv.
func Environment(root string, getenv func(string) string) (s Settings, err error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	home := getenv("HOME")
	if root == "" {
		root = getenv("WANDB_DIR")
	}
	s.Root = root
	configs := getenv("WANDB_CONFIG_DIR")
	if configs == "" && home != "" {
		configs = filepath.Join(home, ".config", "wandb")
	}
	var files []map[string]string
	for _, path := range []string{filepath.Join(configs, "settings"), filepath.Join(folderOf(root), "settings")} {
		if path == "settings" { // no folder of settings
			continue
		}
		values, err := readINI(path)
		if err != nil {
			return s, err
		}
		files = append(files, values)
	}
	// get is a setting: of the variable, else of the last file that has it.
	get := func(variable, key string) string {
		if v := getenv(variable); v != "" {
			return v
		}
		for i := len(files) - 1; i >= 0; i-- {
			if v := files[i][key]; v != "" {
				return v
			}
		}
		return ""
	}
	if s.Mode, err = ParseMode(get("WANDB_MODE", "mode")); err != nil {
		return s, err
	}
	if s.Resume, err = parseResume(get("WANDB_RESUME", "resume")); err != nil {
		return s, err
	}
	for _, f := range []struct {
		field         *string
		variable, key string
	}{
		{&s.BaseURL, "WANDB_BASE_URL", "base_url"},
		{&s.AppURL, "WANDB_APP_URL", "app_url"},
		{&s.Entity, "WANDB_ENTITY", "entity"},
		{&s.Project, "WANDB_PROJECT", "project"},
		{&s.ID, "WANDB_RUN_ID", "run_id"},
		{&s.Name, "WANDB_NAME", "run_name"},
		{&s.Group, "WANDB_RUN_GROUP", "run_group"},
		{&s.JobType, "WANDB_JOB_TYPE", "run_job_type"},
		{&s.Notes, "WANDB_NOTES", "run_notes"},
		{&s.SweepID, "WANDB_SWEEP_ID", "sweep_id"},
		{&s.Host, "WANDB_HOST", "host"},
		{&s.Username, "WANDB_USERNAME", "username"},
		{&s.Email, "WANDB_USER_EMAIL", "email"},
		{&s.HTTPProxy, "WANDB_HTTP_PROXY", "http_proxy"},
		{&s.HTTPSProxy, "WANDB_HTTPS_PROXY", "https_proxy"},
	} {
		*f.field = get(f.variable, f.key)
	}
	for _, tag := range strings.Split(get("WANDB_TAGS", "run_tags"), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			s.Tags = append(s.Tags, tag)
		}
	}
	for _, f := range []struct {
		field         *time.Duration
		variable, key string
	}{
		{&s.Transmit, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "x_file_stream_transmit_interval"},
		{&s.RetryMin, "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS", "x_file_stream_retry_wait_min_seconds"},
		{&s.RetryMax, "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS", "x_file_stream_retry_wait_max_seconds"},
		{&s.Timeout, "WANDB_X_FILE_STREAM_TIMEOUT_SECONDS", "x_file_stream_timeout_seconds"},
	} {
		if text := get(f.variable, f.key); text != "" {
			seconds, err := strconv.ParseFloat(text, 64)
			if err != nil || seconds <= 0 {
				return s, fmt.Errorf("%s is %q, not a number of seconds above 0", f.variable, text)
			}
			*f.field = time.Duration(seconds * float64(time.Second))
		}
	}
	if text := get("WANDB_X_EXTRA_HTTP_HEADERS", "x_extra_http_headers"); text != "" {
		if s.Headers, err = parseHeaders(text); err != nil {
			return s, fmt.Errorf("WANDB_X_EXTRA_HTTP_HEADERS: %w", err)
		}
	}
	if s.Mode == Disabled {
		return s, nil
	}
	if s.BaseURL == "" {
		s.BaseURL = publicURL
	}
	if s.BaseURL, err = checkURL(s.BaseURL); err != nil {
		return s, err
	}
	if s.Key, err = findKey(s.BaseURL, home, getenv); err != nil {
		return s, err
	}
	for i := len(files) - 1; i >= 0 && s.Key.IsZero(); i-- {
		base, err := checkURL(files[i]["base_url"])
		if files[i]["base_url"] == "" {
			base, err = publicURL, nil
		}
		if err == nil && base == s.BaseURL {
			s.Key = NewKey(files[i]["api_key"])
		}
	}
	return s, nil
}

// ParseMode is the mode that WANDB_MODE or a file names. "" stays "".
func ParseMode(text string) (Mode, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "":
		return "", nil
	case "online", "run", "shared": // shared has several writers; there is one here
		return Online, nil
	case "offline", "dryrun":
		return Offline, nil
	case "disabled":
		return Disabled, nil
	}
	return "", fmt.Errorf("the mode of W&B is %q, not online, offline or disabled (WANDB_MODE)", text)
}

func parseResume(text string) (Resume, error) {
	switch r := Resume(strings.ToLower(strings.TrimSpace(text))); r {
	case "", ResumeAllow, ResumeMust, ResumeNever, ResumeAuto:
		return r, nil
	case "true":
		return ResumeAuto, nil
	case "false":
		return "", nil
	}
	return "", fmt.Errorf("the resume of W&B is %q, not allow, must, never or auto (WANDB_RESUME)", text)
}

// checkURL is the URL of a server without a slash at its end.
func checkURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("the server of W&B is %q, not the URL of a web server: https://HOST (WANDB_BASE_URL)", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("the URL of the server of W&B has a user, a query or a fragment (WANDB_BASE_URL)")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.Host = strings.ToLower(u.Host)
	if text = u.String(); text == "https://"+formerHost || text == "https://forge.coreweave.com/api/wandb" {
		return publicURL, nil
	}
	return text, nil
}

// or fills what is zero from other settings.
func (s Settings) or(e Settings) Settings {
	s.Mode, s.Resume = cmpOr(s.Mode, e.Mode, Online), cmpOr(s.Resume, e.Resume)
	for _, f := range []struct {
		field *string
		other string
	}{
		{&s.Root, e.Root},
		{&s.BaseURL, e.BaseURL},
		{&s.AppURL, e.AppURL},
		{&s.Entity, e.Entity},
		{&s.Project, e.Project},
		{&s.ID, e.ID},
		{&s.Name, e.Name},
		{&s.Group, e.Group},
		{&s.JobType, e.JobType},
		{&s.Notes, e.Notes},
		{&s.SweepID, e.SweepID},
		{&s.Host, e.Host},
		{&s.Username, e.Username},
		{&s.Email, e.Email},
		{&s.HTTPProxy, e.HTTPProxy},
		{&s.HTTPSProxy, e.HTTPSProxy},
	} {
		*f.field = cmpOr(*f.field, f.other)
	}
	if s.Tags == nil {
		s.Tags = e.Tags
	}
	if s.Headers == nil {
		s.Headers = e.Headers
	}
	if s.Key.IsZero() {
		s.Key = e.Key
	}
	s.Transmit = cmpOr(s.Transmit, e.Transmit, 15*time.Second)
	s.Heartbeat = cmpOr(s.Heartbeat, e.Heartbeat, 30*time.Second)
	s.RetryMin = cmpOr(s.RetryMin, e.RetryMin, 2*time.Second)
	s.RetryMax = max(s.RetryMin, cmpOr(s.RetryMax, e.RetryMax, 60*time.Second))
	s.Timeout = cmpOr(s.Timeout, e.Timeout, 180*time.Second)
	s.Wait = cmpOr(s.Wait, e.Wait, time.Minute)
	s.maxRequest = cmpOr(s.maxRequest, defaultRequest)
	return s
}

func cmpOr[T comparable](values ...T) (zero T) {
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// resolved fills in what the environment says and checks the whole.
func (s Settings) resolved() (Settings, error) {
	if s.Getenv == nil {
		s.Getenv = os.Getenv
	}
	e, err := Environment(s.Root, func(name string) string {
		if name == "WANDB_BASE_URL" && s.BaseURL != "" {
			return s.BaseURL // the key is that of the server that is asked for
		}
		return s.Getenv(name)
	})
	if err != nil {
		return s, err
	}
	s = s.or(e)
	if s.Mode, err = ParseMode(string(s.Mode)); err != nil || s.Mode == Disabled {
		return s, err
	}
	if s.Resume, err = parseResume(string(s.Resume)); err != nil {
		return s, err
	}
	if s.BaseURL, err = checkURL(s.BaseURL); err != nil {
		return s, err
	}
	if err := errors.Join(checkName("project", s.Project), checkName("entity", s.Entity)); err != nil {
		return s, err
	}
	if s.Mode == Online {
		if s.Key.IsZero() {
			return s, ErrNoKey
		}
		if err := s.Key.check(); err != nil {
			return s, err
		}
	}
	if s.Root == "" {
		s.Root = "."
	}
	if s.Root, err = filepath.Abs(s.Root); err != nil {
		return s, err
	}
	if s.Start.IsZero() {
		s.Start = time.Now()
	}
	if s.Host == "" {
		s.Host, _ = os.Hostname()
	}
	if s.ID == "" {
		s.ID = NewID()
	}
	return s, CheckID(s.ID)
}

// Check says what is wrong with settings: a key or an id that no server takes, a URL that
// is none, the name of a project with a slash.
func (s Settings) Check() error {
	_, err := s.resolved()
	return err
}

// checkName says what is wrong with the name of a project or an entity.
func checkName(kind, name string) error {
	switch {
	case strings.ContainsAny(name, `/\#?%:`) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf(`the name of the %s of W&B is %q: it cannot have any of : / \ # ? %%`, kind, name)
	case strings.TrimSpace(name) != name || kind == "entity" && strings.Contains(name, " "):
		return fmt.Errorf("the name of the %s of W&B is %q: it has a space", kind, name)
	case len(name) > 128:
		return fmt.Errorf("the name of the %s of W&B has %d letters, more than 128", kind, len(name))
	}
	return nil
}

// folderOf is the directory in a root that holds runs.
func folderOf(root string) string {
	if hidden := filepath.Join(root, ".wandb"); isDir(hidden) {
		return hidden
	}
	return filepath.Join(root, "wandb")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// appURL is where people look at runs.
func (s Settings) appURL() string {
	switch {
	case s.AppURL != "":
		return strings.TrimRight(s.AppURL, "/")
	case s.BaseURL == publicURL:
		return "https://forge.coreweave.com/wandb"
	case strings.Contains(s.BaseURL, "://api.wandb."):
		return strings.Replace(s.BaseURL, "://api.", "://", 1)
	case strings.Contains(s.BaseURL, "://api."):
		return strings.Replace(s.BaseURL, "://api.", "://app.", 1)
	}
	return s.BaseURL
}

// runURL is the page of a run.
func (s Settings) runURL(entity, project, id string) string {
	return s.appURL() + "/" + url.PathEscape(entity) + "/" + url.PathEscape(project) + "/runs/" + url.PathEscape(id)
}

// shown is a path for people: from the working directory, if it is below that.
func shown(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
