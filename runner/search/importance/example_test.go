package importance_test

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/importance"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
)

func ExampleOf() {
	s, err := space.New(
		space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 64, Log: true},
		space.Param{Name: "lr", Low: 1e-5, High: 1e-1, Log: true},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	var trials []search.Trial
	for i := range 60 {
		point, err := sampler.Random{}.Ask(sampler.Ask{Seed: 1, Number: i, Space: s})
		if err != nil {
			fmt.Println(err)
			return
		}
		score := -math.Abs(math.Log10(point[1]) + 3)
		trials = append(trials, search.Trial{Number: i, Point: point, State: search.Complete, Value: score})
	}
	shares, err := importance.Of(s, search.Maximize, trials)
	for _, share := range shares {
		fmt.Printf("%s %.2f\n", share.Param, share.Value)
	}
	fmt.Println(err)
	_, err = importance.Of(s, search.Maximize, trials[:20])
	fmt.Println(err)
	// Output:
	// lr 1.00
	// rank 0.00
	// <nil>
	// importance needs 50 complete trials, and there are 20
}
