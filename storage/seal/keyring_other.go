//go:build !linux

package seal

import "errors"

var errNoKeyring = errors.New("no kernel keyring on this system")

func keyringPut(string, []byte) error   { return errNoKeyring }
func keyringGet(string) ([]byte, error) { return nil, errNoKeyring }
func keyringDrop(string) error          { return errNoKeyring }
