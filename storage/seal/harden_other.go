//go:build !linux

package seal

import "errors"

// Harden fences the process's memory on Linux only; elsewhere it says so.
func Harden() (failed []error) {
	return []error{errors.New("seal: memory of the process is not fenced on this system")}
}
