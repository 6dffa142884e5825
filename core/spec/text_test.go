package spec

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// gRPC names no text that it cannot send: trial-data, names that are not UTF-8.
func TestRequestsWithTextThatIsNotUTF8(t *testing.T) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	RegisterEngineServer(server, UnimplementedEngineServer{})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///engine", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithStreamInterceptor(checkedStream), grpc.WithUnaryInterceptor(checkedCall))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	engine := NewEngineClient(conn)

	const want = `/data/f\xe9.png is not UTF-8; rename it`
	_, err = engine.Run(t.Context(), &RunRequest{Places: &Places{Files: map[string]*Files{"digest": {Root: "/data", Images: []string{"a.png", "/data/f\xe9.png"}}}}})
	if text := (*TextError)(nil); !errors.As(err, &text) || !strings.Contains(err.Error(), want) {
		t.Errorf("a stream: %v", err)
	}
	_, err = engine.Stop(t.Context(), &StopRequest{})
	if text := (*TextError)(nil); err == nil || errors.As(err, &text) {
		t.Errorf("a call of an engine that has none: %v", err)
	}
	if err := sent(&EngineInfo{Version: "\xff"}, errors.New("failed")); !strings.Contains(err.Error(), `\xff`) {
		t.Errorf("a call: %v", err)
	}
}
