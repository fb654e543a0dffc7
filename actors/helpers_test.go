package actors_test

import (
	"syscall"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// nullQueue is a store that costs nothing.
type nullQueue struct{ protocol.Queue }

func bedQueue(c *actors.Config) protocol.Queue { return c.Queue }

// Settle implements protocol.Queue.
func (nullQueue) Settle(_ mail.Settlement, done func(error)) { done(nil) }

// cpu is the processor time of this process in nanoseconds: on a busy machine wall time says little.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
