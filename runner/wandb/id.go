package wandb

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
)

const idLetters = "abcdefghijklmnopqrstuvwxyz0123456789"

// NewID is a random name of a run, as W&B makes them: eight lower-case letters and
// digits.
func NewID() string { return randomID(8) }

func randomID(length int) string {
	id := make([]byte, length)
	for i := range id {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(idLetters))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		id[i] = idLetters[n.Int64()]
	}
	return string(id)
}

// CheckID says what is wrong with the name of a run.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("the id of a run is empty")
	case strings.TrimSpace(id) != id:
		return fmt.Errorf("the id of a run %q starts or ends with a space", id)
	case strings.ContainsAny(id, `:;,#?/'\`) || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("the id of a run %q has one of : ; , # ? / ' \\ in it", id)
	case len(id) > 128:
		return fmt.Errorf("the id of a run has %d letters, more than 128", len(id))
	}
	return nil
}
