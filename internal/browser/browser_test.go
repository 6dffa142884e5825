package browser_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/browser"
)

const page = `<!doctype html><title>t</title><link rel="icon" href="data:,">
<button id="b" onclick="this.textContent='clicked'">click</button><input id="i">
<style>body{color:rgb(1, 1, 1)} @media (prefers-color-scheme: dark){body{color:rgb(2, 2, 2)}}</style>`

func TestBrowser(t *testing.T) {
	b := browser.Start(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(page))
	}))
	defer server.Close()
	tab := b.Open(server.URL, browser.Screen{Width: 400})
	tab.Click("#b")
	if got := tab.String("document.querySelector('#b').textContent"); got != "clicked" {
		t.Errorf("after a click the button says %q", got)
	}
	tab.Key("Tab")
	if got := tab.String("document.activeElement.id"); got != "i" {
		t.Errorf("Tab leads from the button to %q", got)
	}
	tab.Eval("document.querySelector('#b').textContent = 'click'; document.querySelector('#b').focus()", nil)
	tab.Key("Enter")
	if got := tab.String("document.querySelector('#b').textContent"); got != "clicked" {
		t.Errorf("after Enter the button says %q", got)
	}
	if got := tab.String("innerWidth"); got != "400" {
		t.Errorf("the page is %s pixels wide", got)
	}
	color := "getComputedStyle(document.body).color"
	light := tab.String(color)
	tab.Show(browser.Screen{Dark: true})
	if dark := tab.String(color); light != "rgb(1, 1, 1)" || dark != "rgb(2, 2, 2)" {
		t.Errorf("the page is %s, and %s in the dark", light, dark)
	}
	if f := tab.Faults(); len(f) > 0 {
		t.Errorf("a page without faults has %q", f)
	}
	if shot := tab.Screenshot(); !strings.HasPrefix(string(shot), "\x89PNG") {
		t.Errorf("the screenshot is no PNG")
	}
	if pdf := tab.PDF(); !strings.HasPrefix(string(pdf), "%PDF") {
		t.Errorf("the print is no PDF")
	}
	tab.Eval("setTimeout(() => { console.error('bad'); throw new Error('worse') }); fetch('/missing')", nil)
	tab.Wait("performance.getEntriesByType('resource').length > 0")
	for _, want := range []string{"bad", "worse", "404"} {
		if !strings.Contains(strings.Join(tab.Faults(), "\n"), want) {
			t.Errorf("%q is not among the faults %q", want, tab.Faults())
		}
	}
	if !slices.Contains(tab.Requests(), server.URL+"/missing") {
		t.Errorf("the requests are %q", tab.Requests())
	}
}
