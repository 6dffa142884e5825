package wandb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// client speaks to a server of W&B. A request is repeated until it is answered, refused
// for good, or its context ends; each try reads the whole answer.
type client struct {
	settings Settings
	http     *http.Client
	// patience is how long a request waits for an answer; 0 is without end.
	patience time.Duration
	// answered says that the server has answered as one of W&B does.
	answered atomic.Bool

	// trouble is called with the error of a try that is repeated, with errSlow where an
	// answer takes long, and with nil after an answer.
	trouble func(error)
}

func newClient(s Settings, patience time.Duration, trouble func(error)) *client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	own := map[string]string{"http": s.HTTPProxy, "https": s.HTTPSProxy}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if proxy := own[r.URL.Scheme]; proxy != "" {
			return url.Parse(proxy)
		}
		return http.ProxyFromEnvironment(r)
	}
	return &client{
		settings: s, patience: patience, trouble: trouble,
		http: &http.Client{
			Transport: t,
			// The key is sent to no other place than the one that was named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// ServerError is an answer with which a server refuses a request.
type ServerError struct {
	Request string // what it refuses
	Status  int    // of HTTP
	Message string // what the server says, as one line
}

func (e *ServerError) Error() string {
	text := fmt.Sprintf("W&B refuses %s (%d)", e.Request, e.Status)
	if e.Status == http.StatusUnauthorized {
		text = "W&B does not accept the key (401)"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Status == http.StatusNotFound {
		text += "; is WANDB_BASE_URL right?"
	}
	return text
}

// status is that of a refused request; 0 for other errors.
func status(err error) int {
	if refused := new(ServerError); errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}

// IsDeleted reports whether a server refuses a run because one of its id was deleted.
// W&B gives no id a second time.
func IsDeleted(err error) bool {
	refused := new(ServerError)
	return errors.As(err, &refused) && strings.Contains(refused.Message, "deleted")
}

// AwayError says that a server has not answered for as long as Settings.Wait.
type AwayError struct {
	Server string
	For    time.Duration
	Why    error // of the last try
}

func (e *AwayError) Error() string {
	return fmt.Sprintf("%s has given no usable answer for %s (%v)", e.Server, inSeconds(e.For), e.Why)
}

func inSeconds(d time.Duration) string {
	return fmt.Sprintf("%g s", d.Round(100*time.Millisecond).Seconds())
}

func (e *AwayError) Unwrap() error { return e.Why }

// errForeign is the answer of something else than a server of W&B.
var errForeign = errors.New("its answer is not one of W&B")

// ForeignError says that the server at an address is not one of W&B.
type ForeignError struct{ Server string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a server of W&B: its answer is not one of W&B; is WANDB_BASE_URL right?", e.Server)
}

// hopeless reports whether an error is of the server or the key, so that nothing else
// can be sent either.
func hopeless(err error) bool {
	away, foreign := new(AwayError), new(ForeignError)
	return status(err) == http.StatusUnauthorized || errors.As(err, &away) || errors.As(err, &foreign) || errors.Is(err, errCertificate)
}

// errSlow says that a server takes long to answer. slowAnswer is after which time.
var errSlow = errors.New("no answer yet")

const slowAnswer = 5 * time.Second

// errCertificate is an error that no repetition changes.
var errCertificate = errors.New("the certificate of the server is not known")

// final are the statuses with which a request is not repeated.
var final = []int{400, 401, 403, 404, 409, 410, 413, 422, 501}

// request is one request that can be repeated.
type request struct {
	name    string // for errors: what is refused
	method  string
	url     string
	header  http.Header
	body    []byte                        // sent as it is in every try
	open    func() (io.ReadCloser, error) // or what is sent, of a size
	size    int64
	foreign bool // to a storage: without the key
	timeout time.Duration
	retries int                     // at most, 0 is without end
	repeat  []int                   // statuses that are repeated although they are final for others
	check   func(body []byte) error // an answer that it refuses is repeated
}

// send sends a request until it is answered.
func (c *client) send(ctx context.Context, r request) ([]byte, http.Header, error) {
	began := time.Now()
	slow := time.AfterFunc(slowAnswer, func() {
		if !r.foreign { // files may take long
			c.trouble(errSlow)
		}
	})
	defer slow.Stop()
	for try := 0; ; try++ {
		if left := c.patience - time.Since(began); c.patience > 0 && !r.foreign {
			r.timeout = min(r.timeout, max(left, time.Second))
		}
		body, header, err := c.once(ctx, r)
		if err == nil {
			if !r.foreign {
				c.answered.Store(true)
			}
			c.trouble(nil)
			return body, header, nil
		}
		slow.Stop() // the error says more
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		// One that has answered before may have a proxy in front of it that fails.
		if errors.Is(err, errForeign) && !c.answered.Load() {
			return nil, nil, &ForeignError{c.settings.BaseURL}
		}
		if errors.Is(err, errLocal) || errors.Is(err, errCertificate) {
			return nil, nil, err
		}
		refused := status(err)
		if refused > 0 && refused < 400 || slices.Contains(final, refused) && !slices.Contains(r.repeat, refused) || IsDeleted(err) {
			return nil, nil, err
		}
		if r.retries > 0 && try >= r.retries {
			return nil, nil, err
		}
		c.trouble(err)
		wait := float64(c.settings.RetryMin) * float64(uint64(1)<<min(try, 20)) * (1 + rand.Float64()/4)
		pause := time.Duration(min(wait, float64(c.settings.RetryMax)))
		if c.patience > 0 {
			pause = min(pause, c.patience-time.Since(began))
		}
		if after, ok := retryAfter(header); ok {
			pause = after
		}
		if since := time.Since(began); c.patience > 0 && (since >= c.patience || since+pause > c.patience+time.Second) {
			return nil, nil, &AwayError{c.settings.BaseURL, min(since, c.patience), err}
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// retryAfter is how long a server asks to wait, at most an hour.
func retryAfter(h http.Header) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 {
		return min(time.Duration(n*float64(time.Second)), time.Hour), true
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, time.Until(at)), time.Hour), true
	}
	return 0, false
}

// once is one try.
func (c *client) once(ctx context.Context, r request) ([]byte, http.Header, error) {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	var content io.Reader = bytes.NewReader(r.body)
	if r.open != nil {
		file, err := r.open()
		if err != nil {
			return nil, nil, err
		}
		defer file.Close()
		content = file
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, content)
	if err != nil {
		return nil, nil, errors.New("the server names a place to send to that is no URL")
	}
	if r.open != nil {
		if req.ContentLength = r.size; r.size == 0 {
			req.Body = http.NoBody
		}
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	for k, v := range c.settings.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", "loralab-wandb")
	if !r.foreign {
		req.Header.Set("Authorization", "Basic "+c.credentials())
	}
	answer, err := c.http.Do(req)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which may be signed
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no answer in " + inSeconds(r.timeout))
		}
		if unknown := new(tls.CertificateVerificationError); errors.As(err, &unknown) {
			return nil, nil, fmt.Errorf("%w (%s); SSL_CERT_FILE names a file with certificates of one's own", errCertificate, c.line(unknown.Err.Error()))
		}
		return nil, nil, errors.New(c.line(err.Error()))
	}
	defer answer.Body.Close()
	const limit = 64 << 20
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit))
	if answer.StatusCode >= 300 {
		return nil, answer.Header, &ServerError{Request: r.name, Status: answer.StatusCode, Message: c.line(messageOf(body, answer))}
	}
	if err == nil && r.check != nil {
		err = r.check(body)
	}
	if err != nil {
		if status(err) > 0 {
			return nil, answer.Header, err
		}
		if errors.Is(err, errForeign) {
			return nil, answer.Header, errForeign
		}
		return nil, answer.Header, errors.New("the answer is cut off")
	}
	return body, answer.Header, nil
}

func (c *client) credentials() string {
	return base64.StdEncoding.EncodeToString([]byte("api:" + c.settings.Key.secret))
}

// line is text of a server as one line of at most 300 letters, in which no key is.
func (c *client) line(text string) string {
	if secret := c.settings.Key.secret; secret != "" {
		text = strings.NewReplacer(secret, "(hidden)", c.credentials(), "(hidden)").Replace(text)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if letters := []rune(text); len(letters) > 300 {
		text = string(letters[:300]) + "…"
	}
	return strings.TrimSpace(text)
}

// messageOf is what a server says about an error.
func messageOf(body []byte, answer *http.Response) string {
	var said struct {
		Error  string
		Errors []struct{ Message string }
	}
	if json.Unmarshal(body, &said) == nil {
		if said.Error != "" {
			return said.Error
		}
		if len(said.Errors) > 0 {
			return said.Errors[0].Message
		}
	}
	if to := answer.Header.Get("Location"); answer.StatusCode < 400 && to != "" {
		return "the server is elsewhere; is WANDB_BASE_URL right?"
	}
	if strings.Contains(answer.Header.Get("Content-Type"), "html") {
		return http.StatusText(answer.StatusCode)
	}
	return string(body)
}

// graphql asks one question of the API. The answer's data is read into out.
func (c *client) graphql(ctx context.Context, name, query string, variables map[string]any, out any, repeat ...int) error {
	body, err := json.Marshal(map[string]any{"operationName": name, "query": query, "variables": variables})
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if c.settings.Username != "" {
		header.Set("X-Wandb-Username", c.settings.Username)
	}
	if c.settings.Email != "" {
		header.Set("X-Wandb-User-Email", c.settings.Email)
	}
	_, _, err = c.send(ctx, request{
		name: called[name], method: "POST", url: c.settings.BaseURL + "/graphql", header: header, body: body,
		timeout: min(30*time.Second, c.settings.Timeout), repeat: repeat,
		check: func(body []byte) error {
			var answer struct {
				Data   json.RawMessage
				Errors []struct{ Message string }
			}
			if err := parse(body, &answer); err != nil {
				return err
			}
			if len(answer.Errors) > 0 {
				return &ServerError{Request: called[name], Status: http.StatusBadRequest, Message: c.line(answer.Errors[0].Message)}
			}
			if answer.Data == nil || string(answer.Data) == "null" {
				return errForeign
			}
			return parse(answer.Data, out)
		},
	})
	return err
}

// parse reads an answer. One that ends too early was cut off; else what is not JSON of
// the form is errForeign.
func parse(body []byte, out any) error {
	err := json.Unmarshal(body, out)
	if wrong := new(json.SyntaxError); errors.As(err, &wrong) && wrong.Offset >= int64(len(body)) {
		return err
	}
	if err != nil {
		return errForeign
	}
	return nil
}

// put sends the content of a file to where the server wants it.
func (c *client) put(ctx context.Context, name, to string, headers []string, open func() (io.ReadCloser, error), size int64) error {
	header := http.Header{}
	for _, h := range headers {
		if k, v, found := strings.Cut(h, ":"); found {
			header.Set(strings.TrimSpace(k), strings.TrimSpace(v))
		}
	}
	if !strings.Contains(to, "://") { // a server of one's own may give a path
		base, err := url.Parse(c.settings.BaseURL)
		if err != nil {
			return err
		}
		at, err := base.Parse(to)
		if err != nil {
			return errors.New("the server names a place to send to that is no URL")
		}
		to = at.String()
	}
	_, _, err := c.send(ctx, request{
		name: name, method: "PUT", url: to, header: header, open: open, size: size, foreign: true, retries: 20,
		timeout: c.settings.Timeout + time.Duration(size/100_000)*time.Second, // 100 kB/s are slow
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, errLocal) {
		err = fmt.Errorf("%w: %w", errStorage, err)
	}
	return err
}
