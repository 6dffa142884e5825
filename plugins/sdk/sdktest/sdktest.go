// Package sdktest builds a variant in the process of its test: no plug-in is
// started, and a panic has its own stack.
package sdktest

import (
	"context"
	"encoding/json"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// Model is a small backbone whose sizes are easily told apart: 3 heads of 8.
func Model() *protocol.Model {
	return &protocol.Model{Family: "vit", Dim: 24, Depth: 2, Heads: 3, Mlp: 60}
}

// Sites are adapted places of Model of every kind and shape: square, wide,
// tall, without a bias, a stream and the patch embedding.
func Sites() []*protocol.Site {
	const linear = protocol.Site_LINEAR
	return []*protocol.Site{
		{Name: "query", Kind: linear, In: 24, Out: 24, Bias: true},
		{Name: "fc1", Kind: linear, In: 24, Out: 60, Bias: true},
		{Name: "fc2", Block: 1, Kind: linear, In: 60, Out: 24, Bias: true},
		{Name: "value", Block: 1, Kind: linear, In: 24, Out: 24},
		{Name: "attn_in", Block: 1, Kind: protocol.Site_STREAM, In: 24, Out: 24},
		{Name: "patch", Kind: protocol.Site_PATCH, In: 48, Out: 24, Bias: true},
	}
}

// Linear is a single linear layer with a bias, query of block 0.
func Linear(in, out int) *protocol.Site {
	return &protocol.Site{Name: "query", Kind: protocol.Site_LINEAR, In: uint32(in), Out: uint32(out), Bias: true}
}

// Reply asks the variant for the programs of the sites, as runner would.
func Reply[T sdk.Builder](v sdk.Variant[T], params string, sites ...*protocol.Site) (*protocol.BuildReply, error) {
	return v.Server().Build(context.Background(), &protocol.BuildRequest{
		ParamsJson: params, Model: Model(), Sites: sites,
	})
}

// Build returns the checked programs of a variant, one for each site, and
// fails the test if there is any problem or warning.
func Build[T sdk.Builder](t testing.TB, v sdk.Variant[T], params string, sites ...*protocol.Site) *program.Placed {
	t.Helper()
	reply, err := Reply(v, params, sites...)
	return placed(t, reply, err, sites)
}

// Draw is Build for a type whose parameters are set.
func Draw(t testing.TB, b sdk.Builder, sites ...*protocol.Site) *program.Placed {
	t.Helper()
	reply, err := sdk.Programs(context.Background(), b, Model(), sites)
	return placed(t, reply, err, sites)
}

// PEFT returns what PEFT would store of a variant: its settings, and the
// checked tensors of each site. It fails the test if there is nothing.
func PEFT[T sdk.Builder](t testing.TB, v sdk.Variant[T], params string, sites ...*protocol.Site) (map[string]any, []*program.Stored) {
	t.Helper()
	reply, err := Reply(v, params, sites...)
	all := placed(t, reply, err, sites)
	if reply.GetPeft() == nil {
		t.Fatal("there is no PEFT part")
	}
	stored, err := program.CheckPeftAll(reply.GetPeft(), all, reply.GetProgramOfSite())
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(reply.GetPeft().GetConfigJson()), &config); err != nil {
		t.Fatal(err)
	}
	return config, stored
}

// Adopt has the variant read an adapter_config.json, and returns parameters as
// JSON or the problems.
func Adopt[T sdk.Builder](t testing.TB, v sdk.Variant[T], config string, sites ...*protocol.Site) (string, []*protocol.Problem) {
	t.Helper()
	reply, err := v.Server().Adopt(context.Background(), &protocol.AdoptRequest{
		ConfigJson: config, Model: Model(), Sites: sites,
	})
	if err != nil {
		for _, d := range status.Convert(err).Details() {
			t.Log(d)
		}
		t.Fatal(err)
	}
	return reply.GetParamsJson(), reply.GetProblems()
}

func placed(t testing.TB, reply *protocol.BuildReply, err error, sites []*protocol.Site) *program.Placed {
	t.Helper()
	if err != nil {
		for _, d := range status.Convert(err).Details() {
			t.Log(d) // the stack of a panic
		}
		t.Fatal(err)
	}
	for _, p := range reply.GetProblems() {
		t.Errorf("%s: %s (%s)", p.GetParam(), p.GetMessage(), p.GetHint())
	}
	if t.Failed() {
		t.FailNow()
	}
	all, err := program.CheckAll(reply.GetPrograms(), sites, reply.GetProgramOfSite(), Model())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range all.Warnings {
		t.Error(w)
	}
	return all
}
