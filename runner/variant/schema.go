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
	params, err := CompileSchema(cuecontext.New(), d)
	if err != nil {
		return nil, err
	}
	return &Schema{Params: params, name: d.GetName()}, nil
}

// CompileSchema is the definition #Params of a variant in a context. Its error is an
// *Error with the line of the schema that is wrong.
func CompileSchema(c *cue.Context, d *protocol.DescribeReply) (cue.Value, error) {
	fail := func(message string) (cue.Value, error) {
		return cue.Value{}, &Error{Variant: d.GetName(), Message: message, Hint: hintAuthor}
	}
	v := c.CompileString(d.GetSchema(), cue.Filename("variant:"+d.GetName()+"/schema.cue"))
	if err := v.Err(); err != nil {
		return fail(misread(err, d.GetSchema()))
	}
	params := v.LookupPath(cue.ParsePath("#Params"))
	if !params.Exists() {
		return fail("its schema has no definition #Params")
	}
	return params, nil
}

// misread is what is wrong with the text of a schema, and where.
func misread(err error, text string) string {
	all := errors.Errors(err)
	first, more := all[0], ""
	if n := len(all) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	format, args := first.Msg()
	what := fmt.Sprintf(format, args...)
	lines := strings.Split(text, "\n")
	at := first.Position()
	if n := at.Line(); n >= 1 && n <= len(lines) {
		return fmt.Sprintf("line %d, column %d of its schema: %s, in %q%s", n, at.Column(), what, strings.TrimSpace(lines[n-1]), more)
	}
	return "its schema cannot be read: " + what + more
}

// Schema describes a variant and compiles its schema.
func (r *Registry) Schema(ctx context.Context, name string) (*Schema, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := ReadSchema(d)
	if e, ok := err.(*Error); ok {
		if p, err := r.Find(name); err == nil {
			e.Path = p.Path
		}
	}
	return s, err
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
