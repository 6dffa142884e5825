package live

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loralab/loralab/runner/page"
)

//go:embed live.js
var script string

// Server serves a project to browsers on this machine.
type Server struct {
	Options
	listener net.Listener
	token    string
	hosts    []string
	hub      *hub
}

// Listen prepares a server on a port of the loopback interface, 0 for any that is free.
// No other machine reaches it.
func Listen(o Options, port int) (*Server, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listening on port %d of this machine: %w", port, err)
	}
	s := &Server{Options: o, listener: l, hub: &hub{changed: make(chan struct{}), arrived: make(chan struct{}, 1)}}
	_, chosen, _ := net.SplitHostPort(l.Addr().String())
	for _, name := range []string{"127.0.0.1", "localhost"} {
		s.hosts = append(s.hosts, net.JoinHostPort(name, chosen))
	}
	if o.Actions != nil {
		secret := make([]byte, 16)
		_, _ = rand.Read(secret) // it never fails
		s.token = hex.EncodeToString(secret)
	}
	return s, nil
}

// URL is where the page is. With actions it has the token that they need.
func (s *Server) URL() string {
	address := "http://" + s.hosts[0] + "/"
	if s.token != "" {
		address += "?token=" + s.token
	}
	return address
}

// Serve serves until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watcher{Options: s.Options, hub: s.hub, tails: map[string]*tail{}, shown: unknown}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		w.watch(ctx)
	}()
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() {
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), 300*time.Millisecond)
		defer done()
		if h.Shutdown(grace) != nil {
			_ = h.Close()
		}
	})
	err := h.Serve(s.listener)
	cancel()
	stop()
	<-watched
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the page: %w", err)
}

// policy lets a page run and load what this server sends, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	text := func(kind, content string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			_, _ = w.Write([]byte(content))
		}
	}
	mux.HandleFunc("GET /{$}", s.shell)
	mux.HandleFunc("GET /page.css", text("text/css", page.Style()))
	mux.HandleFunc("GET /page.js", text("text/javascript", page.Script()))
	mux.HandleFunc("GET /live.js", text("text/javascript", script))
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /body", func(w http.ResponseWriter, _ *http.Request) {
		s.hub.mu.Lock()
		body := s.hub.body
		s.hub.mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /data", func(w http.ResponseWriter, _ *http.Request) {
		s.hub.mu.Lock()
		data := s.hub.data
		s.hub.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	})
	mux.HandleFunc("POST /actions/stop", s.act(func(r *http.Request) (string, error) {
		pid, err := strconv.Atoi(r.URL.Query().Get("pid"))
		if err != nil {
			return "", errors.New("no process is named")
		}
		return s.Actions.Stop(pid)
	}))
	mux.HandleFunc("POST /actions/resume", s.act(func(r *http.Request) (string, error) {
		return s.Actions.Resume(r.URL.Query().Get("run"))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// A name of another site that leads here is not ours (DNS rebinding), and neither is
		// a request from a page of another site.
		if !slices.Contains(s.hosts, r.Host) {
			http.Error(w, "this server is "+strings.Join(s.hosts, " or "), http.StatusMisdirectedRequest)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && !slices.Contains(s.hosts, strings.TrimPrefix(origin, "http://")) {
			http.Error(w, "requests of other sites are refused", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// act carries out an action for one who has the token.
func (s *Server) act(do func(*http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.Actions == nil {
			http.Error(w, "this page only shows; actions need: runner ui --allow-actions", http.StatusForbidden)
			return
		}
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Loralab-Token")), []byte(s.token)) != 1 {
			http.Error(w, "the token is missing or another; open the address that runner ui has shown", http.StatusForbidden)
			return
		}
		said, err := do(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(said))
	}
}

var shell = template.Must(template.New("shell").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{{.}}, live</title>
<link rel="stylesheet" href="page.css">
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header class="top"><h1>{{.}}</h1><div class="tools" data-tools></div></header>
<section class="live" id="live" aria-label="Progress"><p data-connection role="status">connecting</p><div data-live></div></section>
<main id="main" tabindex="-1"><p>Results appear here as runs end.</p></main>
<script src="page.js"></script>
<script src="live.js"></script>
</body>
</html>
`))

func (s *Server) shell(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = shell.Execute(w, projectName(s.Root))
}

// alive is how long nothing is sent at most.
const alive = 15 * time.Second

// events sends the newest state, and each that follows. A browser that is slow misses
// some.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	defer s.hub.watching()()
	c := http.NewResponseController(w)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	if _, err := w.Write([]byte("retry: 1000\n\n")); err != nil {
		return
	}
	for {
		state, changed := s.hub.get()
		// One that does not read is given up: it holds a connection and no more.
		_ = c.SetWriteDeadline(time.Now().Add(2 * alive))
		if state != nil {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", state); err != nil {
				return
			}
		}
		for waiting := true; waiting; {
			if c.Flush() != nil {
				return
			}
			select {
			case <-changed:
				waiting = false
			case <-time.After(alive):
				_ = c.SetWriteDeadline(time.Now().Add(2 * alive))
				if _, err := w.Write([]byte(": still here\n\n")); err != nil {
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	}
}

// projectName is the last part of the path of a project.
func projectName(root string) string {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	return filepath.Base(root)
}
