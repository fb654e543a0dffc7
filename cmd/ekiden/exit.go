package main

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/node"
)

// Exit codes of every command (contract: commands).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // bad usage or bad file
	exitRefused     = 3 // permission, sealed, no quorum, not in this release
	exitUnreachable = 4
)

// errSilent ends a command as failed after it has said everything itself.
var errSilent = errors.New("failed")

// errNoTime refuses a --for that ends at once.
var errNoTime = badUsage(errors.New("--for must be longer than 0s"))

// coded is an error with the exit code it means.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func badUsage(err error) error { return &coded{exitUsage, err} }
func refused(err error) error  { return &coded{exitRefused, err} }

// exitCode says which exit code err means.
func exitCode(err error) int {
	var c *coded
	var file *node.ConfigError
	var call *connect.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &file):
		return exitUsage
	case errors.As(err, &call):
		return callCode(call)
	}
	return exitFailed
}

func callCode(err *connect.Error) int {
	switch err.Code() {
	case connect.CodeUnavailable:
		return exitUnreachable
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return exitUsage
	case connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeFailedPrecondition,
		connect.CodeResourceExhausted, connect.CodeUnimplemented:
		return exitRefused
	case connect.CodeDeadlineExceeded:
		if errors.Is(err, context.DeadlineExceeded) {
			return exitUnreachable
		}
	}
	return exitFailed
}

// explain words err for the operator.
func explain(err error) string {
	var call *connect.Error
	if !errors.As(err, &call) {
		return err.Error()
	}
	switch call.Code() {
	case connect.CodeUnavailable:
		return "the server cannot be reached: " + call.Message()
	case connect.CodeUnauthenticated:
		return "refused: " + call.Message() + " (give --token or EKIDEN_TOKEN, or run on the node with --data DIR)"
	case connect.CodePermissionDenied, connect.CodeFailedPrecondition, connect.CodeResourceExhausted, connect.CodeUnimplemented:
		return "refused: " + strings.TrimPrefix(call.Message(), "refused: ")
	}
	return call.Message()
}

func lines(s string) []string { return strings.Split(strings.TrimRight(s, "\n"), "\n") }
