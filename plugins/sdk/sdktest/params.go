package sdktest

import (
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
)

// Params unifies what a user would write, "rank: 8", with the #Params of a
// schema, as runner does, and returns the parameters as JSON or what is wrong
// with them.
func Params(t testing.TB, schema, user string) (string, error) {
	t.Helper()
	c := cuecontext.New()
	s := c.CompileString(schema)
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	v := s.LookupPath(cue.ParsePath("#Params")).Unify(c.CompileString(user))
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		return "", err
	}
	raw, err := v.MarshalJSON()
	return string(raw), err
}
