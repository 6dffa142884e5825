// Package plural writes counts in messages: "1 file", "2 files".
package plural

import "fmt"

type integer interface {
	~int | ~uint32 | ~uint64
}

// Of is a number of things: "1 image", "0 images". The plural of the noun ends in s.
func Of[N integer](n N, noun string) string {
	return Form(n, "1 "+noun, fmt.Sprintf("%d %ss", n, noun))
}

// Form is one of two forms, that for a single thing or that for any other number.
func Form[N integer](n N, one, other string) string {
	if n == 1 {
		return one
	}
	return other
}
