package variant

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/bounded"
)

// Schema is the definition #Params of a variant, compiled. It is for one
// goroutine.
type Schema struct {
	Params cue.Value
	name   string
	left   error // an evaluation continues in the background, so there is no further one
}

// completeLimits are what a schema may take for the parameters of one call.
var completeLimits = bounded.Limits{CPU: 10 * time.Second, Memory: bounded.Most()}

// ReadSchema compiles the schema of a variant.
func ReadSchema(d *protocol.DescribeReply) (*Schema, error) {
	v := cuecontext.New().CompileString(d.GetSchema(), cue.Filename(d.GetName()+"/schema.cue"))
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("the schema of variant %s: %w", d.GetName(), err)
	}
	s := &Schema{Params: v.LookupPath(cue.ParsePath("#Params")), name: d.GetName()}
	if !s.Params.Exists() {
		return nil, fmt.Errorf("the schema of variant %s has no definition #Params", d.GetName())
	}
	return s, nil
}

// Complete checks parameters written as a user writes them, `rank: 8` or
// JSON, and returns them with all defaults as JSON. Its error says in the
// schema's words what is wrong, a line for each parameter.
func (s *Schema) Complete(user string) (string, error) {
	if s.left != nil {
		return "", s.left
	}
	var complete string
	var wrong error
	if err := bounded.Do(context.Background(), completeLimits, func() { complete, wrong = s.complete(user) }); err != nil {
		s.left = fmt.Errorf("the schema of variant %s cannot be evaluated with the parameters {%s}: %w", s.name, strings.Trim(user, "{} "), err)
		return "", s.left
	}
	return complete, wrong
}

func (s *Schema) complete(user string) (string, error) {
	given := cuecontext.New().CompileString(user, cue.Filename("params"))
	if err := given.Err(); err != nil {
		return "", fmt.Errorf("the parameters %s cannot be read: %w", user, err)
	}
	v := s.Params.Unify(given)
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		return "", fmt.Errorf("variant %s refuses the parameters {%s}:\n%s", s.name, strings.Trim(user, "{} "), strings.Join(Sentences(err), "\n"))
	}
	raw, err := v.MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("the parameters %s of variant %s have no definite value: %w", user, s.name, err)
	}
	return string(raw), nil
}

// Sentences are what CUE found wrong, one line for each path: a sentence of
// the schema where there is one.
func Sentences(err error) []string {
	var order []string
	best := map[string]string{}
	worded := map[string]bool{}
	for _, e := range errors.Errors(err) {
		path := strings.TrimPrefix(strings.Join(e.Path(), "."), "#Params.")
		format, args := e.Msg()
		sentence := format == "%s" && len(args) == 1
		if _, seen := best[path]; !seen {
			order = append(order, path)
		} else if worded[path] || !sentence {
			continue
		}
		text := fmt.Sprintf(format, args...)
		switch format {
		case "field not allowed":
			text = "there is no such parameter"
		case "field is required but not present":
			text = "it is missing"
		}
		best[path], worded[path] = fmt.Sprintf("%s: %s", path, text), sentence
	}
	lines := make([]string, len(order))
	for i, path := range order {
		lines[i] = strings.TrimPrefix(best[path], ": ")
	}
	// What has no value because another has none says nothing new.
	incomplete := func(line string) bool { return strings.Contains(line, "incomplete value") }
	if !slices.ContainsFunc(lines, func(line string) bool { return !incomplete(line) }) {
		return lines
	}
	return slices.DeleteFunc(lines, incomplete)
}
