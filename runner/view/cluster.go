package view

import "fmt"

// Scripts shows what would be submitted to a cluster, the lines of each script, and for which
// work.
func (v *View) Scripts(scripts [][]string, workers int, work string) {
	for i, lines := range scripts {
		if i > 0 {
			v.Say("")
		}
		for _, line := range lines {
			v.Say("%s", line)
		}
	}
	submissions := ""
	if len(scripts) > 1 {
		submissions = ", in " + fmt.Sprint(len(scripts)) + " submissions"
	}
	v.Say("%s", v.bold.Render(fmt.Sprintf("%s would share %s%s. Nothing was submitted.", count(workers, "worker"), work, submissions)))
}

// Submitted says how to follow what a cluster does.
func (v *View) Submitted() {
	v.Say("Workers continue without this command: runner status shows them, the same apply follows and reports, runner cancel ends them.")
}

// Left says that a command which ends with an error has not ended its workers.
func (v *View) Left() {
	v.Say("Workers that were submitted continue: runner status shows them, the same apply follows and reports, runner cancel ends them.")
}

// WereCancelled says that somebody else has cancelled the workers that a command watched.
func (v *View) WereCancelled(what string) {
	v.Say("Stopped: %s; the next apply continues at the checkpoints.", what)
}

// Cancelled says how many arrays were cancelled.
func (v *View) Cancelled(arrays int) {
	if arrays == 0 {
		v.Say("No workers of this project are known.")
		return
	}
	v.Say("Cancelled %s; the next apply continues at the checkpoints.", count(arrays, "array"))
}
