package wandb

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/wandbserver"
)

// proxy passes requests on to a server and counts them.
func proxy(t *testing.T, server *wandbserver.Server) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	at, err := url.Parse(server.URL)
	must(t, err)
	at.Path = ""
	var passed atomic.Int32
	through := httputil.NewSingleHostReverseProxy(at)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed.Add(1)
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p, &passed
}

func TestOwnProxy(t *testing.T) {
	server := serve(t)
	p, passed := proxy(t, server)
	r := offline(t, nil)
	must(t, r.Log(0, map[string]any{"a": 1}))
	must(t, r.Finish(t.Context(), 0))
	s := to(server, r.settings.Root)
	s.BaseURL, s.HTTPProxy = "http://lab.invalid/wb", p.URL
	_, err := Sync(t.Context(), s)
	must(t, err)
	if passed.Load() < 4 || len(server.Leaks) > 0 {
		t.Errorf("%d requests went through the proxy", passed.Load())
	}
}

// The variables of all programs are read once by a process, so another one sends.
func TestEnvironmentOfTheNetwork(t *testing.T) {
	if root := os.Getenv("LORALAB_TEST_SYNC"); root != "" {
		_, err := Sync(t.Context(), Settings{Root: root, Wait: 2 * time.Second})
		must(t, err)
		return
	}
	server := serve(t)
	p, passed := proxy(t, server)
	secure := httptest.NewUnstartedServer(server)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that refuses the certificate
	secure.StartTLS()
	t.Cleanup(secure.Close)
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))
	sync := func(variables ...string) (string, error) {
		r := offline(t, func(s *Settings) { s.ID = NewID() })
		must(t, r.Log(0, map[string]any{"a": 1}))
		must(t, r.Finish(t.Context(), 0))
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironmentOfTheNetwork$")
		cmd.Env = append([]string{
			"LORALAB_TEST_SYNC=" + r.settings.Root, "WANDB_API_KEY=" + testKey, "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(),
			"WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS=0.001", "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS=0.001",
		}, variables...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := sync("WANDB_BASE_URL=http://lab.invalid/wb", "HTTP_PROXY="+p.URL); err != nil || passed.Load() == 0 {
		t.Errorf("HTTP_PROXY: %v, %d requests\n%s", err, passed.Load(), out)
	}
	if out, err := sync("WANDB_BASE_URL=http://lab.invalid/wb", "HTTP_PROXY="+p.URL, "NO_PROXY=lab.invalid"); err == nil {
		t.Errorf("NO_PROXY has no effect\n%s", out)
	}
	if out, err := sync("WANDB_BASE_URL="+secure.URL+"/wb", "SSL_CERT_FILE="+certificate); err != nil {
		t.Errorf("SSL_CERT_FILE: %v\n%s", err, out)
	}
	out, err := sync("WANDB_BASE_URL=" + secure.URL + "/wb")
	if err == nil || !strings.Contains(out, "the certificate of the server is not known") {
		t.Errorf("a certificate that nobody vouches for: %v\n%s", err, out)
	}
	if strings.Contains(out, testKey) {
		t.Error("the key is in the error")
	}
}

// BenchmarkLog is what a row of 8 values costs a training: offline, with a server
// that answers after 5 seconds, and with none.
func BenchmarkLog(b *testing.B) {
	server := wandbserver.New(testKey)
	b.Cleanup(server.Close)
	server.Fail(func(string) wandbserver.Answer {
		return wandbserver.Answer{Fault: wandbserver.Slow, Wait: 5 * time.Second}
	})
	for _, c := range []struct{ name, url string }{{"offline", ""}, {"slow", server.URL}, {"none", "http://127.0.0.1:1"}} {
		b.Run(c.name, func(b *testing.B) {
			s := Settings{Mode: Offline, Root: b.TempDir(), ID: NewID(), Getenv: noEnvironment}
			if c.url != "" {
				s.Mode, s.BaseURL, s.Key = Online, c.url, NewKey(testKey)
			}
			r, err := Init(b.Context(), s)
			if err != nil {
				b.Fatal(err)
			}
			step := int64(0)
			for b.Loop() {
				if err := r.Log(step, map[string]any{"loss": 0.1, "lr": 1e-3, "a": 1, "b": 2.5, "c": 3.5, "d": 4.5, "e": 5.5, "f": 6.5}); err != nil {
					b.Fatal(err)
				}
				step++
			}
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			_ = r.Finish(ctx, 0) // what is left is of no interest
		})
	}
}
