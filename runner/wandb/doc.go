// Package wandb is a client of Weights & Biases in Go. It needs no Python, no other
// process and nothing but the standard library.
//
// Init begins a run. Config, Log, Summary, DefineMetric, File, Artifact, Output, System
// and Alert add to it, and Finish ends it. Values can be images with class masks,
// tables and histograms.
//
// Everything is written to a log on disk first, in the form of the official client
// (package wandblog), under ROOT/wandb/run-TIME-ID or ROOT/wandb/offline-run-TIME-ID. In
// offline mode that is all; Sync or the official `wandb sync` sends the log later. In
// online mode a goroutine sends what the log gets. It counts next to the log which lines
// the server has acknowledged, so a process that is killed, a server that is away and
// a Sync that is repeated neither lose a row nor send one twice. Methods never wait for
// the server.
//
// Settings come from the fields of Settings, the variables WANDB_*, the settings files and
// netrc, as the official client and `wandb login` write them. The key is sent to the
// server and is written nowhere.
//
// The package covers runs: their configuration, history, summary, console text, system
// metrics, files, media, artifacts, alerts, the stop button, and resuming. It does not
// cover reading runs back, sweeps (it takes the sweep of `wandb agent` from the
// environment), several writers of one run, files of artifacts in parts (above 5 GB),
// and signing in.
package wandb
