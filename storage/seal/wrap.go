package seal

import (
	"crypto/rand"
	"errors"
)

// A wrapped key is: version (1) | random nonce (12) | ciphertext (32) | tag (16). Random nonces are safe here: a
// wrapping key seals thousands of keys in its life, not billions.
const (
	wrapVersion = 1
	wrappedSize = 1 + nonceSize + KeySize + tagSize
)

var errUnwrap = errors.New("wrapped key does not open")

// wrapKey seals key under kek, bound to identity.
func wrapKey(kek, key, identity []byte) []byte {
	out := make([]byte, 1+nonceSize, wrappedSize)
	out[0] = wrapVersion
	rand.Read(out[1:])
	return newGCM(kek).Seal(out, out[1:], key, identity)
}

// unwrapKey returns the key that wrapKey sealed, or errUnwrap, which never says why.
func unwrapKey(kek, blob, identity []byte) ([]byte, error) {
	if len(blob) != wrappedSize || blob[0] != wrapVersion {
		return nil, errUnwrap
	}
	key, err := newGCM(kek).Open(nil, blob[1:1+nonceSize], blob[1+nonceSize:], identity)
	if err != nil {
		return nil, errUnwrap
	}
	return key, nil
}
