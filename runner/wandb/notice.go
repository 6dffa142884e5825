package wandb

// Notice is something that a person should read about a run.
type Notice struct {
	Kind NoticeKind
	Text string // one line, in lower case
}

// NoticeKind says what a notice is about.
type NoticeKind int

const (
	Started NoticeKind = iota + 1 // the server has the run; Text is the URL of its page
	Away                          // the server does not answer, and is tried again
	Back                          // it answers again
	Failed                        // nothing is sent any more; Sync sends it later
	Refused                       // one file, artifact or alert is refused; all else is sent
	Renamed                       // the run is sent under another id
	Damaged                       // a part of a log cannot be read
)
