package torch

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// ErrThread is the cause of an Error for a call made outside Device.Do.
var ErrThread = errors.New("called outside Device.Do")

// ErrFreed is the cause of an Error for a tensor whose memory was given back.
var ErrFreed = errors.New("tensor was freed")

// Error says which operation failed, on what, and why.
type Error struct {
	At     string // the place in the model, "query of block 3"; may be empty
	Op     string
	Shapes [][]int64 // of the inputs, in order
	Err    error
}

func (e *Error) Error() string {
	at := ""
	if e.At != "" {
		at = e.At + ": "
	}
	if len(e.Shapes) == 0 {
		return fmt.Sprintf("%s%s: %v", at, e.Op, e.Err)
	}
	shapes := make([]string, len(e.Shapes))
	for i, s := range e.Shapes {
		shapes[i] = strings.ReplaceAll(fmt.Sprint(s), " ", "×")
	}
	return fmt.Sprintf("%s%s %s: %v", at, e.Op, strings.Join(shapes, " "), e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// OutOfMemory reports whether err comes from an allocation that failed.
func OutOfMemory(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	s := e.Err.Error()
	for _, sign := range []string{"out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"} {
		if strings.Contains(s, sign) {
			return true
		}
	}
	return false
}

// PanicError is a panic inside Device.Do that was no *Error, with its stack.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

func recovered(v any) error {
	if e, ok := v.(*Error); ok {
		return e
	}
	return &PanicError{Value: v, Stack: debug.Stack()}
}
