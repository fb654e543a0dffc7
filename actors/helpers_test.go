package actors_test

import (
	"runtime"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// nullQueue is a store that costs nothing.
type nullQueue struct{ protocol.Queue }

func bedQueue(c *actors.Config) protocol.Queue { return c.Queue }

// Settle implements protocol.Queue.
func (nullQueue) Settle(_ mail.Settlement, done func(error)) { done(nil) }

func yield() { runtime.Gosched() }
