//go:build !linux

package delivery

import (
	"syscall"
	"time"
)

func tune(syscall.RawConn, bool, time.Duration) error { return nil }
