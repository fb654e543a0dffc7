//go:build !linux

package socket

import "errors"

// Poll is for Linux.
type Poll struct{}

// NewPoll fails with errors.ErrUnsupported.
func NewPoll() (*Poll, error) { return nil, errors.ErrUnsupported }

// Add, Remove, Wake, Wait and Close are never called.
func (*Poll) Add(uintptr, int32) error { return errors.ErrUnsupported }
func (*Poll) Remove(uintptr)           {}
func (*Poll) Wake()                    {}
func (*Poll) Wait(func() bool) []Ready { return nil }
func (*Poll) Close()                   {}
