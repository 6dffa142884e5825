package sdk

import (
	"fmt"
	"slices"
	"strings"
)

// DivisorsNear names the divisors of n nearest to k, two smaller ones and two
// others, for the hint of a Problem: "24, 32, 48 or 64".
func DivisorsNear(n, k int) string {
	var all []string
	first := 0 // that is not smaller than k
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			all = append(all, fmt.Sprint(d))
			if d < k {
				first++
			}
		}
	}
	near := slices.Clone(all[max(0, first-2):min(len(all), first+2)])
	if last := len(near) - 1; last > 0 {
		near = append(near[:last-1], near[last-1]+" or "+near[last])
	}
	return strings.Join(near, ", ")
}
