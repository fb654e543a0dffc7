package seal

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden keeps the process's memory from other processes of the same user and from core files: not dumpable (which
// closes /proc/PID/mem and ptrace to them, and gives /proc/PID to root) and RLIMIT_CORE 0. It is best effort and
// returns what did not work, for the log. Call it once, before the first key is made.
func Harden() (failed []error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		failed = append(failed, fmt.Errorf("seal: make the process not dumpable: %w", err))
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		failed = append(failed, fmt.Errorf("seal: forbid core files: %w", err))
	}
	return failed
}
