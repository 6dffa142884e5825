package spec

import (
	"context"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"

	"github.com/loralab/loralab/core/filename"
)

// TextError reports a text of a request that no message can hold because it is not
// UTF-8. It is the name of a file: other texts come from files that are checked.
type TextError struct{ Err error }

func (e *TextError) Error() string { return e.Err.Error() }

func (e *TextError) Unwrap() error { return e.Err }

// sent explains why a request was not sent: gRPC does not say which text was at fault.
func sent(request any, err error) error {
	m, ok := request.(proto.Message)
	if err == nil || !ok {
		return err
	}
	var fault *TextError
	walked := protorange.Range(m.ProtoReflect(), func(v protopath.Values) error {
		if text, ok := v.Index(-1).Value.Interface().(string); ok && !utf8.ValidString(text) {
			fault = &TextError{filename.CheckUTF8(text)}
			return protorange.Terminate
		}
		return nil
	})
	if walked != nil || fault == nil {
		return err
	}
	return fault
}

// checkedCall is a call whose request is looked at if it fails.
func checkedCall(ctx context.Context, method string, request, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return sent(request, invoke(ctx, method, request, reply, c, o...))
}

// checkedStream is checkedCall for calls with several answers.
func checkedStream(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, stream grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := stream(ctx, d, c, method, o...)
	return checked{s}, err
}

type checked struct{ grpc.ClientStream }

func (s checked) SendMsg(m any) error { return sent(m, s.ClientStream.SendMsg(m)) }
