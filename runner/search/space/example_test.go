package space_test

import (
	"fmt"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search/space"
)

func Example() {
	s, err := space.New(
		space.Param{Name: "variant", Kind: space.Choice, Choices: []any{"lora", "block"}},
		space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 64, Log: true, When: []space.Condition{
			{Param: "variant", Values: []any{"lora"}},
		}},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Size(), "points")
	p, err := s.Encode(map[string]any{"variant": "lora", "rank": 8})
	fmt.Println(p, s.Contains(p), err)
	fmt.Println(s.Decode(s.Draw(rng.New(1, "example").Float64)))
	// Output:
	// 64 points
	// [0 8] true <nil>
	// map[rank:2 variant:lora]
}
