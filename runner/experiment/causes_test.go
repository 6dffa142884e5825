package experiment

import (
	"strings"
	"testing"
)

// Each is one mistake, and one error at a line of the user's with what it is.
func TestOneMistakeIsOneError(t *testing.T) {
	for name, c := range map[string]struct{ field, top, want string }{
		"circle in a struct":       {"\toptim: weightDecay: _x.a", "_x: {a: b + 1, b: a + 1}", "optim.weightDecay has no value: _x.a has none"},
		"circle in a let":          {"\tlet y = {a: b + 1, b: a + 1}\n\toptim: weightDecay: y.a", "", "optim.weightDecay has no value: y.a has none"},
		"circle at the top":        {"\toptim: weightDecay: _a", "_a: _b + 1\n_b: _a - 2", "optim.weightDecay has no value: _a has none"},
		"empty path":               {"\tvary: \"\": [1]", "", `"" is no path of an experiment`},
		"empty definition":         {"\toptim: schedule: #", "#: {warmup: 0.1}", "optim.schedule: the definition # is closed, so the schema's other fields are not allowed in it"},
		"definition of a script":   {"\toptim: schedule: #日本", "#日本: {warmup: 0.1}", "optim.schedule: the definition #日本 is closed, so the schema's other fields are not allowed in it"},
		"hidden definition":        {"\toptim: schedule: _#s", "_#s: {warmup: 0.1}", "optim.schedule: the definition _#s is closed, so the schema's other fields are not allowed in it"},
		"embedded definition":      {"\toptim: schedule: {#S, decay: 0.1}", "#S: {warmup: 0.1}", "optim.schedule: the definition #S is closed, so the schema's other fields are not allowed in it"},
		"definition of a let":      {"\tlet s = #S\n\toptim: schedule: s", "#S: {warmup: 0.1}", "optim.schedule: the definition #S is closed, so the schema's other fields are not allowed in it"},
		"definition of a field":    {"\toptim: schedule: _s", "#S: {warmup: 0.1}\n_s: #S", "optim.schedule: the definition #S is closed, so the schema's other fields are not allowed in it"},
		"close":                    {"\toptim: schedule: close({warmup: 0.1})", "", "optim.schedule: close(…) is closed, so the schema's other fields are not allowed in it"},
		"definition without lists": {"\tevaluate: #E", "#E: {checkpoint: \"last\"}", "evaluate: the definition #E is closed, so the schema's other fields are not allowed in it"},
		"two names of vary":        {"\tvary: optim: clip: [1, 2]", "", "vary takes paths with dots, not structs"},
		"unused let":               {"\tlet z = 1", "", "let z names a value that nothing uses"},
		"index":                    {"\toptim: clip: _n[\"b\"]", "_n: {a: 1}", `there is no field "b"`},
	} {
		_, found := loadWith([]string{write(t, insert(sound, c.field)+c.top+"\n")}, Env{}, world())
		if len(found) != 1 || found[0].Message != c.want || found[0].At.Line == 0 {
			t.Errorf("%s: %s", name, found.Text())
		}
	}
}

// A setting that a case takes the place of is set in the case too, as the hint says.
func TestSetInTheCaseToo(t *testing.T) {
	file := write(t, insert(sound, "\tcases: a: train: batch: 2"))
	_, found := loadWith([]string{file}, Env{Set: []string{"train.batch=8"}}, world())
	if len(found) != 1 || !strings.Contains(found[0].Hint, "--set 'cases.a.train.batch=…'") {
		t.Errorf("%v", found)
	}
	experiments, found := loadWith([]string{file}, Env{Set: []string{"train.batch=8", "cases.a.train.batch=8"}}, world())
	if len(found) > 0 || len(experiments) != 1 {
		t.Errorf("%v", found)
	}
}
