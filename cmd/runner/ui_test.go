package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

var served = regexp.MustCompile(`(http://127\.0\.0\.1:[0-9]+/)\?token=([0-9a-f]+)`)

// shown FILE PATH PATTERN waits until what is served at a path of the address in a file
// matches. The path "events" has a state in each event; "stop" and "resume" are actions,
// of the process that works and of all runs.
func shown(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: shown FILE PATH PATTERN")
	}
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	m := served.FindStringSubmatch(string(text))
	if m == nil {
		ts.Fatalf("%s has no address", args[0])
	}
	pattern, err := regexp.Compile(args[2])
	ts.Check(err)
	ask := func(method, path string) *http.Response {
		req, err := http.NewRequest(method, m[1]+path, nil)
		ts.Check(err)
		req.Header.Set("X-Loralab-Token", m[2])
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		return resp
	}
	event := func(wanted *regexp.Regexp) string {
		resp := ask("GET", "events")
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for {
			line, err := lines.ReadString('\n')
			ts.Check(err)
			if strings.HasPrefix(line, "data: ") && wanted.MatchString(line) {
				return line
			}
		}
	}
	content := func(resp *http.Response) string {
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		ts.Check(err)
		return string(text)
	}
	switch args[1] {
	case "events":
		event(pattern)
	case "stop":
		holder := regexp.MustCompile(`"pid":([0-9]+)`)
		pid := holder.FindStringSubmatch(event(holder))[1]
		if _, err := strconv.Atoi(pid); err != nil {
			ts.Fatalf("the process is %q", pid)
		}
		if got := content(ask("POST", "actions/stop?pid="+pid)); !pattern.MatchString(got) {
			ts.Fatalf("stopping said %q", got)
		}
	case "resume":
		if got := content(ask("POST", "actions/resume")); !pattern.MatchString(got) {
			ts.Fatalf("resuming said %q", got)
		}
	default:
		// A page is renewed while somebody watches.
		resp := ask("GET", "events")
		defer resp.Body.Close()
		until(ts, args[1]+" matches "+args[2], func() bool { return pattern.MatchString(content(ask("GET", args[1]))) })
	}
}
