package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// How runner and a variant find to each other: hashicorp/go-plugin starts the
// process, both check a cookie, agree on the protocol version and speak gRPC
// over a Unix socket with one-time certificates. This file is that agreement,
// for both sides.

// Version of the protocol, as go-plugin negotiates it. Added fields and enum
// values leave it as it is.
const Version = 1

// MessageLimit bounds one message either way, in bytes.
const MessageLimit = 4 << 20

// Service is the name under which the variant is dispensed.
const Service = "variant"

// Handshake tells a variant from any other program. The cookie is no secret.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  Version,
	MagicCookieKey:   "LORALAB_VARIANT",
	MagicCookieValue: "6d0c5be95ae3f2c1",
}

// Started reports whether this process was started by runner.
func Started() bool {
	return os.Getenv(Handshake.MagicCookieKey) == Handshake.MagicCookieValue
}

// GRPCPlugin joins the Variant service to go-plugin. Variant is needed on the
// side of the variant only.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Variant VariantServer
}

// GRPCServer registers the service.
func (p *GRPCPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	RegisterVariantServer(s, p.Variant)
	return nil
}

// GRPCClient returns a VariantClient that keeps to MessageLimit.
func (p *GRPCPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return NewVariantClient(limited{c}), nil
}

// limited replaces go-plugin's limit of 2 GiB: a reply is read only as far as
// it may reach.
type limited struct{ grpc.ClientConnInterface }

func (l limited) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	opts = append(opts, grpc.MaxCallRecvMsgSize(MessageLimit), grpc.MaxCallSendMsgSize(MessageLimit))
	return l.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// Serve serves a variant to the runner that started this process and returns
// when that is done. Run by hand, it explains itself and exits. The process
// ends by itself when its runner ends; see Lifeline.
func Serve(server VariantServer) {
	if !Started() {
		fmt.Fprintln(os.Stderr, "This is a loralab variant plug-in. It is not meant to be run by itself:\n"+
			"install it with \"runner plugins install PATH\" and name it in adapter.variant;\n"+
			"runner starts it when an experiment needs it.")
		os.Exit(1)
	}
	go exitWithRunner()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         plugin.PluginSet{Service: &GRPCPlugin{Variant: server}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(MessageLimit), grpc.MaxSendMsgSize(MessageLimit))...)
		},
	})
}

// Lifeline is the variable of the environment with the number of a file descriptor:
// the reading end of a pipe that only the runner can write to. A killed runner cannot
// shut its plug-ins down. The pipe reports its end at once, also when it ends before
// the plug-in runs. A plug-in that does not know the variable outlives such a runner.
const Lifeline = "LORALAB_LIFELINE"

// exitWithRunner ends this process when its runner has ended.
func exitWithRunner() {
	fd, err := strconv.ParseUint(os.Getenv(Lifeline), 10, 31)
	if err != nil {
		return // started by another host of go-plugin
	}
	if _, err := os.NewFile(uintptr(fd), "lifeline").Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		os.Exit(1)
	}
}
