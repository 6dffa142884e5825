package optunalog_test

import (
	"bytes"
	"fmt"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/optunalog"
	"github.com/loralab/loralab/runner/search/space"
)

func Example() {
	s, err := space.New(space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 64})
	if err != nil {
		fmt.Println(err)
		return
	}
	var file bytes.Buffer
	err = optunalog.Write(&file, optunalog.Study{
		Name: "search_lora", Direction: search.Maximize, Space: s, Metric: "dice/mean",
		Trials: []optunalog.Trial{{Trial: search.Trial{Point: space.Point{8}, State: search.Complete, Value: 0.81}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	records, err := optunalog.Read(&file)
	for _, r := range records {
		fmt.Println(r.Name, r.Metric, r.Trials[0].Params, r.Trials[0].Value)
	}
	fmt.Println(err)
	// Output:
	// search_lora dice/mean map[rank:8] 0.81
	// <nil>
}
