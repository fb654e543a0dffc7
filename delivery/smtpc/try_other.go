//go:build !unix

package smtpc

import (
	"io"
	"syscall"
)

// canTryWrite is false here, so the session's own goroutine makes every write.
const canTryWrite = false

func (s *Session) writeOnce(uintptr) bool { return true }

func (s *Session) peekOnce(uintptr) bool { return true }

func (c *wire) receiveOnce(uintptr) bool { return true }

func below(syscall.RawConn) io.Writer { return nil } // never called
