package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how late, in nanoseconds, the kernel may wake a thread of this process from a timed sleep. Go's
// runtime has a thread that, while system calls block (here: every fsync), looks after them each 20 us; with the
// kernel's standard slack of 50 us that alone takes some 15 % of a busy node's CPU (docs/adr/0010). Timers of the
// product are milliseconds at least.
const timerSlack = 5_000_000

// calmed marks the environment of a process that has been through calm, so that it happens once.
const calmed = "EKIDEN_CALM"

// calm gives every thread of the process more timer slack. The slack is a thread's, inherited by the threads it
// starts, and the runtime's are running already: so the process sets it and starts itself again, under the same pid.
// Where that cannot be done the node works as well, at more CPU.
func calm() {
	if os.Getenv(calmed) != "" {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || slack >= timerSlack {
		return
	}
	self, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) != nil {
		return
	}
	_ = unix.Exec(self, os.Args, append(os.Environ(), calmed+"=1")) // returns only if it failed: then we go on as we are
}
