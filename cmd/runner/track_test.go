package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loralab/loralab/internal/wandbserver"
)

// wandbServers are the servers of scripts, by URL.
var wandbServers sync.Map

// wandbServer imitates W&B for a script:
//
//	wandb serve       starts a server, and sets the environment for it
//	wandb stop        presses the stop button of every run
//	wandb save FILE   writes what has arrived, a line for each fact
func wandbServer(ts *testscript.TestScript, neg bool, args []string) {
	const key = "0123456789012345678901234567890123456789"
	at := func() *wandbserver.Server {
		s, ok := wandbServers.Load(ts.Getenv("WANDB_BASE_URL"))
		if !ok {
			ts.Fatalf("no server was started")
		}
		return s.(*wandbserver.Server)
	}
	switch {
	case neg:
		ts.Fatalf("usage: wandb serve|stop|save FILE")
	case slices.Equal(args, []string{"serve"}):
		s := wandbserver.New(key)
		wandbServers.Store(s.URL, s)
		ts.Defer(s.Close)
		ts.Setenv("WANDB_BASE_URL", s.URL)
		ts.Setenv("WANDB_API_KEY", key)
		ts.Setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.02")
	case slices.Equal(args, []string{"stop"}):
		s := at()
		s.Lock()
		s.Stop = true
		s.Unlock()
	case len(args) == 2 && args[0] == "save":
		s := at()
		s.Lock()
		defer s.Unlock()
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(s.Runs)) {
			r := s.Runs[name]
			first := r.Upserts[0]
			steps := len(r.Lines["wandb-history.jsonl"])
			fmt.Fprintf(&b, "run %s: name %v, group %v, sweep %v, exits %v, preempting %d, doubled %d, rows %d\n",
				name, first["displayName"], first["groupName"], first["sweep"], r.Exits, r.Preempting, r.Doubled(), steps)
			for _, file := range slices.Sorted(maps.Keys(r.Files)) {
				fmt.Fprintf(&b, "file %s/%s\n", name, file)
			}
			for _, a := range r.Alerts {
				fmt.Fprintf(&b, "alert %s: %v\n", name, a)
			}
			fmt.Fprintf(&b, "config %s: %s\n", name, r.Config)
			for i := range steps {
				fmt.Fprintf(&b, "row %s: %s\n", name, r.Lines["wandb-history.jsonl"][i])
			}
			fmt.Fprintf(&b, "summary %s: %s\n", name, r.Lines["wandb-summary.json"][0])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
	default:
		ts.Fatalf("usage: wandb serve|stop|save FILE")
	}
}
