package seal

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// The kernel keyring holds the root key for a warm restart: it survives the death of the process, not of the kernel.
// Processes of the same user on the same host can read it; who must not accept that leaves `keyring` out of
// keys.unseal. Many containers block keyctl(2): then every call here fails and the next provider is asked.

// ownerOnly lets whoever possesses the key do all, its owner view, read and find it, and nobody else anything
// (keyctl_setperm(3); the x/sys package has no names for these).
const ownerOnly = 0x3f<<24 | (0x01|0x02|0x08)<<16

// keyringPut stores secret under name in the user's keyring, replacing what was there.
func keyringPut(name string, secret []byte) error {
	defer withUserKeyring()()
	id, err := unix.AddKey("user", name, secret, unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		return fmt.Errorf("kernel keyring: add: %w", err)
	}
	if err := unix.KeyctlSetperm(id, ownerOnly); err != nil {
		// A key whose permissions are not known to be narrow must not stay.
		_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
		return fmt.Errorf("kernel keyring: set permissions: %w", err)
	}
	return nil
}

// keyringGet returns the KeySize bytes stored under name.
func keyringGet(name string) ([]byte, error) {
	defer withUserKeyring()()
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", name, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel keyring: search: %w", err)
	}
	secret := make([]byte, KeySize)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, secret, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel keyring: read: %w", err)
	}
	if n != KeySize { // n is the key's whole length, also where the buffer was too small
		clear(secret)
		return nil, fmt.Errorf("kernel keyring: %w", ErrKeySize)
	}
	return secret, nil
}

// keyringDrop removes the entry.
func keyringDrop(name string) error {
	defer withUserKeyring()()
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", name, 0)
	if err != nil {
		return fmt.Errorf("kernel keyring: search: %w", err)
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0); err != nil {
		return fmt.Errorf("kernel keyring: unlink: %w", err)
	}
	return nil
}

// withUserKeyring makes the calling thread possess the user's keyring until the returned function is called. A service
// manager may give a process a session keyring that does not lead there; without possession a key could be added
// but its permissions not set. Failure shows in the call that follows.
func withUserKeyring() (done func()) {
	runtime.LockOSThread()
	_, err := unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
	return func() {
		if err == nil {
			_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		}
		runtime.UnlockOSThread()
	}
}
