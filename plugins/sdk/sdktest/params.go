package sdktest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
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

// Good is Params of parameters without a mistake.
func Good(t testing.TB, schema, user string) string {
	t.Helper()
	p, err := Params(t, schema, user)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	return p
}

// Mistakes are what users write wrong, each with what they have to be told.
func Mistakes(t testing.TB, schema string, want map[string]string) {
	t.Helper()
	for user, told := range want {
		if _, err := Params(t, schema, user); err == nil || !strings.Contains(err.Error(), told) {
			t.Errorf("%s: error %v, want %q", user, err, told)
		}
	}
}

// Problems are those the variant has with parameters at sites, one a line:
// "rank: 7 is odd (use 6 or 8)".
func Problems[T sdk.Builder](t testing.TB, v sdk.Variant[T], user string, sites ...*protocol.Site) string {
	t.Helper()
	reply, err := Reply(v, Good(t, v.Schema, user), sites...)
	if err != nil {
		t.Fatal(err)
	}
	return told(reply.GetProblems())
}

// AdoptProblems are those the variant has with an adapter_config.json.
func AdoptProblems[T sdk.Builder](t testing.TB, v sdk.Variant[T], config string, sites ...*protocol.Site) string {
	t.Helper()
	_, problems := Adopt(t, v, config, sites...)
	return told(problems)
}

func told(problems []*protocol.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.GetParam()+": "+p.GetMessage()+" ("+p.GetHint()+")")
	}
	return strings.Join(lines, "\n")
}

// PEFTRoundTrip writes the settings of an adapter as PEFT has them and reads
// them back: that has to give the same parameters.
func PEFTRoundTrip[T sdk.Builder](t testing.TB, v sdk.Variant[T], user string, sites ...*protocol.Site) {
	t.Helper()
	params := Good(t, v.Schema, user)
	config, _ := PEFT(t, v, params, sites...)
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := Adopt(t, v, string(raw), sites...)
	if len(problems) > 0 {
		t.Errorf("%s: its own settings %s: %s", user, raw, told(problems))
		return
	}
	var a, b map[string]any
	if err := json.Unmarshal([]byte(params), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(again), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%s: %s is written as %s and read as %s", user, params, raw, again)
	}
}
