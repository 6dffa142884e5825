package peft

import "testing"

func TestBlocks(t *testing.T) {
	for want, of := range map[string][]int{
		"block 3":                   {3},
		"blocks 2, 5":               {5, 2},
		"blocks 1 to 4, 7, 9 to 10": {9, 7, 4, 3, 3, 1, 2, 10},
	} {
		if got := blocks(of); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
