package spec

import (
	"maps"

	"google.golang.org/protobuf/proto"
)

// Remembered is what request.json says after a request: that request, and with
// it the evaluations that the run was asked for before, and the places of their
// files. So whatever a run was scored on can be scored again. A pause is left out.
// before may be nil.
func Remembered(before, now *RunRequest) *RunRequest {
	all := proto.CloneOf(now)
	all.Pause, all.Parts = nil, 0 // of this attempt, not of the run
	if before.GetId() != now.GetId() || len(before.GetEvaluations()) == 0 {
		return all
	}
	asked := map[string]bool{}
	for _, e := range now.Evaluations {
		asked[EvaluationIdentity(now.Id, e)] = true
	}
	all.Evaluations = nil
	for _, e := range before.Evaluations {
		if !asked[EvaluationIdentity(now.Id, e)] {
			all.Evaluations = append(all.Evaluations, proto.CloneOf(e))
		}
	}
	all.Evaluations = append(all.Evaluations, now.Evaluations...)
	if all.Places == nil {
		all.Places = &Places{}
	}
	// Where things are now counts.
	files, networks := maps.Clone(before.GetPlaces().GetFiles()), maps.Clone(before.GetPlaces().GetNetworks())
	if files == nil {
		files = map[string]*Files{}
	}
	if networks == nil {
		networks = map[string]string{}
	}
	maps.Copy(files, all.Places.Files)
	maps.Copy(networks, all.Places.Networks)
	all.Places.Files, all.Places.Networks = files, networks
	return all
}
