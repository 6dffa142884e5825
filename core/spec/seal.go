package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Result is what a run leaves in a file of its own: a Summary, in result.json, or
// an Evaluated.
type Result interface {
	*Summary | *Evaluated
	proto.Message
	GetDigest() string
}

// SealedDigest is the digest that the file of a result carries: the SHA-256 of
// its canonical form without the digest. Evaluations in a summary are files of
// their own and do not count.
func SealedDigest[R Result](r R) string {
	m := proto.Clone(r)
	switch m := m.(type) {
	case *Summary:
		m.Digest, m.Evaluations = "", nil
	case *Evaluated:
		m.Digest = ""
	}
	sum := sha256.Sum256(Canonical(m))
	return hex.EncodeToString(sum[:])
}

// Intact reports whether a result of a run of some revision says what it did when
// it was written.
func Intact[R Result](r R, revision uint32) error {
	switch digest := r.GetDigest(); {
	case digest == "" && !Sealed(revision):
		return nil
	case digest == "":
		return errors.New("it has no digest of its content")
	default:
		if now := SealedDigest(r); now != digest {
			return fmt.Errorf("its content was changed after it was written: the SHA-256 is %.12s, it was %.12s", now, digest)
		}
		return nil
	}
}
