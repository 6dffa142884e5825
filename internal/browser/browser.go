// Package browser drives a headless Chromium, for tests of pages: it opens a page,
// presses keys, clicks, and says what the page asked for and complained of.
//
// Chromium is the package of the distribution (chromium, or $LORALAB_CHROMIUM); nothing
// is downloaded. The DevTools protocol runs over two pipes, which end with the process
// that opened them: no port is open, and no browser outlives its test.
package browser

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Path is the Chromium of this machine, "" if it has none.
func Path() string {
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	if own := os.Getenv("LORALAB_CHROMIUM"); own != "" {
		names = []string{own}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Browser is a Chromium in progress.
type Browser struct {
	t    testing.TB
	out  io.Writer
	mu   sync.Mutex
	next int
	// calls are waiting for their answers, tabs for their events.
	calls map[int]chan answer
	tabs  map[string]*Tab
	ended chan struct{} // closed when the pipe has ended
}

type message struct {
	ID      int    `json:"id,omitempty"`
	Method  string `json:"method,omitempty"`
	Session string `json:"sessionId,omitempty"`
	Params  any    `json:"params,omitempty"`
}

type answer struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Session string          `json:"sessionId"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// patience bounds every wait: a busy machine is slow, and only a hang needs it.
const patience = 10 * time.Minute

// Start starts a browser that ends with the test. Where there is no Chromium the test
// fails if $CI is true, and is skipped otherwise.
func Start(t testing.TB) *Browser {
	t.Helper()
	b := &Browser{t: t, calls: map[int]chan answer{}, tabs: map[string]*Tab{}, ended: make(chan struct{})}
	path := Path()
	if path == "" {
		b.missing("pages are not tested, because there is no chromium (Debian: apt-get install --no-install-recommends chromium)")
	}
	in, toBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromBrowser, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	c := exec.Command(path,
		"--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "--no-first-run",
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb", "--mute-audio", "about:blank")
	c.ExtraFiles = []*os.File{in, out} // 3 and 4, as the protocol has it
	c.Stderr = &complaints
	if err := c.Start(); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	in.Close()
	out.Close()
	b.out = toBrowser
	go b.listen(fromBrowser)
	t.Cleanup(func() {
		toBrowser.Close() // which ends it
		wait := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		defer wait.Stop()
		_ = c.Wait()
		<-b.ended
		fromBrowser.Close()
		for line := range strings.Lines(complaints.String()) {
			if t.Failed() && !strings.Contains(line, "/dbus/") {
				t.Log("chromium: " + strings.TrimSpace(line))
			}
		}
	})
	return b
}

// missing ends the test, which is a failure in continuous integration.
func (b *Browser) missing(what string) {
	b.t.Helper()
	if os.Getenv("CI") == "true" {
		b.t.Fatal(what)
	}
	b.t.Skip("SKIPPED: " + what)
}

// listen hands out what the browser says, until it ends.
func (b *Browser) listen(from io.Reader) {
	defer close(b.ended)
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(text[:len(text)-1], &a) != nil {
			continue
		}
		b.mu.Lock()
		if a.ID > 0 {
			if c := b.calls[a.ID]; c != nil {
				delete(b.calls, a.ID)
				c <- a
			}
		} else if tab := b.tabs[a.Session]; tab != nil {
			tab.heard(a)
		}
		b.mu.Unlock()
	}
}

// call asks the browser, or a tab by its session, and decodes the answer into result
// if that is not nil.
func (b *Browser) call(session, method string, params, result any) error {
	c := make(chan answer, 1)
	b.mu.Lock()
	b.next++
	m := message{ID: b.next, Method: method, Session: session, Params: params}
	b.calls[m.ID] = c
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a := <-c:
		if a.Error != nil {
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-b.ended:
		return fmt.Errorf("%s: the browser has ended", method)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer in %s", method, patience)
	}
}

// Tab is one page.
type Tab struct {
	b       *Browser
	session string

	// Guarded by b.mu.
	faults   []string
	requests []string
	loaded   int
}

// A Screen is what a page is shown on.
type Screen struct {
	Width, Height int // CSS pixels; 0: 1280 and 800
	Dark          bool
	Print         bool
}

// Open opens a page and waits until it is loaded.
func (b *Browser) Open(url string, on Screen) *Tab {
	b.t.Helper()
	var target struct{ TargetID string }
	var attached struct{ SessionID string }
	b.must(b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target))
	b.must(b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached))
	tab := &Tab{b: b, session: attached.SessionID}
	b.mu.Lock()
	b.tabs[tab.session] = tab
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.must(tab.call(domain+".enable", nil, nil))
	}
	tab.Show(on)
	tab.Go(url)
	return tab
}

func (b *Browser) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
}

func (t *Tab) call(method string, params, result any) error {
	return t.b.call(t.session, method, params, result)
}

// heard takes an event. The browser's lock is held.
func (t *Tab) heard(a answer) {
	switch a.Method {
	case "Page.loadEventFired":
		t.loaded++
	case "Network.requestWillBeSent":
		var p struct {
			Request struct{ URL string }
		}
		if json.Unmarshal(a.Params, &p) == nil {
			t.requests = append(t.requests, p.Request.URL)
		}
	case "Runtime.exceptionThrown":
		var p struct {
			ExceptionDetails struct {
				Text      string
				Exception struct{ Description string }
			}
		}
		_ = json.Unmarshal(a.Params, &p)
		t.faults = append(t.faults, strings.TrimSpace(p.ExceptionDetails.Text+" "+p.ExceptionDetails.Exception.Description))
	case "Runtime.consoleAPICalled":
		var p struct {
			Type string
			Args []struct {
				Value       any
				Description string
			}
		}
		if json.Unmarshal(a.Params, &p) == nil && (p.Type == "error" || p.Type == "warning" || p.Type == "assert") {
			t.faults = append(t.faults, fmt.Sprintf("console.%s: %v", p.Type, p.Args))
		}
	case "Log.entryAdded":
		var p struct {
			Entry struct{ Level, Text, URL string }
		}
		if json.Unmarshal(a.Params, &p) == nil && (p.Entry.Level == "error" || p.Entry.Level == "warning") {
			t.faults = append(t.faults, strings.TrimSpace(p.Entry.Text+" "+p.Entry.URL))
		}
	}
}

// Go goes to a page and waits until it is loaded.
func (t *Tab) Go(url string) {
	t.b.t.Helper()
	t.b.mu.Lock()
	before := t.loaded
	t.b.mu.Unlock()
	var went struct{ ErrorText string }
	t.b.must(t.call("Page.navigate", map[string]any{"url": url}, &went))
	if went.ErrorText != "" {
		t.b.t.Fatalf("opening %s: %s", url, went.ErrorText)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		t.b.mu.Lock()
		loaded := t.loaded > before
		t.b.mu.Unlock()
		if loaded {
			return
		}
		if time.Now().After(deadline) {
			t.b.t.Fatalf("%s is not loaded after %s", url, patience)
		}
	}
}

// Show changes the screen.
func (t *Tab) Show(on Screen) {
	t.b.t.Helper()
	if on.Width == 0 {
		on.Width = 1280
	}
	if on.Height == 0 {
		on.Height = 800
	}
	scheme, media := "light", ""
	if on.Dark {
		scheme = "dark"
	}
	if on.Print {
		media = "print"
	}
	t.b.must(t.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": on.Width, "height": on.Height, "deviceScaleFactor": 1, "mobile": false,
	}, nil))
	t.b.must(t.call("Emulation.setEmulatedMedia", map[string]any{
		// Nothing scrolls while a test presses something.
		"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}},
	}, nil))
}

// Eval evaluates an expression in the page, waits for it if it is a promise, and
// decodes its value, unless into is nil.
func (t *Tab) Eval(expression string, into any) {
	t.b.t.Helper()
	if err := t.eval(expression, into); err != nil {
		t.b.t.Fatalf("%s: %v", expression, err)
	}
}

func (t *Tab) eval(expression string, into any) error {
	var r struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := t.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r); err != nil {
		return err
	}
	if r.ExceptionDetails != nil {
		return errors.New(r.ExceptionDetails.Text + " " + r.ExceptionDetails.Exception.Description)
	}
	if into == nil {
		return nil
	}
	if len(r.Result.Value) == 0 {
		return errors.New("it has no value")
	}
	return json.Unmarshal(r.Result.Value, into)
}

// String is the value of an expression, as text.
func (t *Tab) String(expression string) string {
	t.b.t.Helper()
	var text string
	t.Eval("String("+expression+")", &text)
	return text
}

// Wait waits until an expression is true.
func (t *Tab) Wait(expression string) {
	t.b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var ok bool
		t.Eval("Boolean("+expression+")", &ok)
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.b.t.Fatalf("not after %s: %s", patience, expression)
		}
	}
}

// Click clicks the middle of the element that a CSS selector finds. It waits until the
// element stays where it is for two frames and nothing covers it: charts that are drawn
// later move what follows them, and a press that misses is no fault of the page.
func (t *Tab) Click(selector string) {
	t.b.t.Helper()
	quoted, _ := json.Marshal(selector)
	place := fmt.Sprintf(`(async () => {
		const e = document.querySelector(%s), frame = () => new Promise(requestAnimationFrame);
		if (!e) throw new Error("there is no " + %s);
		e.scrollIntoView({block: "center", behavior: "instant"});
		const before = e.getBoundingClientRect();
		await frame();
		await frame();
		const r = e.getBoundingClientRect(), x = r.left + r.width/2, y = r.top + r.height/2;
		return {X: x, Y: y, Still: r.left === before.left && r.top === before.top && e.contains(document.elementFromPoint(x, y))};
	})()`, quoted, quoted)
	var at struct {
		X, Y  float64
		Still bool
	}
	for deadline := time.Now().Add(patience); !at.Still; {
		if time.Now().After(deadline) {
			t.b.t.Fatalf("%s moves or is covered for %s", selector, patience)
		}
		t.Eval(place, &at)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		t.b.must(t.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil))
	}
}

// keys that have a name, with the text that they write and their codes.
var keys = map[string]struct {
	text string
	code int
}{
	"Tab": {"", 9}, "Enter": {"\r", 13}, " ": {" ", 32}, "Escape": {"", 27}, "Home": {"", 36}, "End": {"", 35},
	"ArrowLeft": {"", 37}, "ArrowUp": {"", 38}, "ArrowRight": {"", 39}, "ArrowDown": {"", 40},
}

// Key presses a key: Tab, Enter, " ", Escape, Home, End or an arrow.
func (t *Tab) Key(name string) {
	t.b.t.Helper()
	k, ok := keys[name]
	if !ok {
		t.b.t.Fatalf("there is no key %q", name)
	}
	down := map[string]any{"type": "keyDown", "key": name, "code": strings.ReplaceAll(name, " ", "Space"), "windowsVirtualKeyCode": k.code, "text": k.text}
	if k.text == "" {
		down["type"] = "rawKeyDown"
	}
	t.b.must(t.call("Input.dispatchKeyEvent", down, nil))
	down["type"], down["text"] = "keyUp", ""
	t.b.must(t.call("Input.dispatchKeyEvent", down, nil))
}

// Faults are the exceptions, errors and warnings of the page so far, those about its
// Content-Security-Policy among them.
func (t *Tab) Faults() []string {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	return append([]string{}, t.faults...)
}

// Requests are the addresses that the page has asked for so far, its own among them.
func (t *Tab) Requests() []string {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	return append([]string{}, t.requests...)
}

// Screenshot is the whole page as PNG.
func (t *Tab) Screenshot() []byte {
	t.b.t.Helper()
	return t.base64("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})
}

// PDF is the page printed on A4.
func (t *Tab) PDF() []byte {
	t.b.t.Helper()
	return t.base64("Page.printToPDF", map[string]any{"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false})
}

func (t *Tab) base64(method string, params any) []byte {
	t.b.t.Helper()
	var r struct{ Data string }
	t.b.must(t.call(method, params, &r))
	content, err := base64.StdEncoding.DecodeString(r.Data)
	t.b.must(err)
	return content
}
