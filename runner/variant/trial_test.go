package variant

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
)

// The evaluation of a schema may never end, or need all memory or all of the stack; it
// costs the command a few seconds and an error that names the plug-in
// (trial-plugins F4, trial-language C4).
func TestHostileSchemas(t *testing.T) {
	grows := "[for x in #a0 for y in #a0 for z in #a0 {x}]"
	for name, c := range map[string]struct{ schema, want string }{
		"sound":       {"#Params: size: int & >=1", ""},
		"required":    {"#Params: {rank!: int & >=1 | error(\"must be 1\"), alpha: *(rank * 1) | number}", ""},
		"a long list": {"#Params: {n: *1 | int\n\t#a0: [1,1,1,1,1,1,1,1,1,1]\n\t#a1: " + grows + "\n\t#a2: " + strings.ReplaceAll(grows, "#a0", "#a1") + "\n\t_n: len(#a2)\n}", "its schema cannot be evaluated: it takes more than"},
		"endless":     {"import \"list\"\n#Params: {n: *1 | int, _n: [for x in list.Range(0, 1000000000, 1) if x < 0 {x}]}", "its schema cannot be evaluated: it takes more than"},
		"deep":        {"#Params: " + strings.Repeat("{a: ", 20000) + "1" + strings.Repeat("}", 20000), ""},
		"parentheses": {"#Params: n: " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000), ""},
		"broken":      {"#Params: {", ""},
		"wrong":       {"#Params: n: int & \"a\"", ""},
		"without":     {"#Param: n: int // not #Params", ""},
		"unknown":     {"#Params: n: nowhere", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := evaluable(t.Context(), &Plugin{Name: "evil", Path: "/plugins.d/evil"}, &protocol.DescribeReply{Schema: c.schema})
			var e *Error
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.As(err, &e) || e.Variant != "evil" || !strings.HasPrefix(e.Message, c.want)):
				t.Errorf("error %.200v", err)
			case err != nil:
				t.Logf("%.200s", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := evaluable(ctx, &Plugin{Name: "evil"}, &protocol.DescribeReply{Schema: "#Params: {}"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
