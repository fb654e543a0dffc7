// Package secret verifies what users prove themselves by: argon2id hashes, and how often somebody may guess.
//
// It must never hold or log a secret in clear, and never answer faster for a user who does not exist than for one who
// does (threat T6). Read Checker.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/crypto/argon2"
)

// Costs of a new hash: the second choice of OWASP's recommendations, which a small machine bears.
const (
	newMemory = 19456 // KiB
	newTime   = 2
	saltSize  = 16 // octets
	sumSize   = 32
)

// Hash is an argon2id hash taken apart.
type Hash struct {
	memory, time uint32 // KiB, passes
	threads      uint8
	salt, sum    []byte
}

// ErrHash is reported for a text that is no hash.
var ErrHash = errors.New("malformed argon2id hash")

// Parse reads "argon2id:$argon2id$v=19$m=…,t=…,p=…$salt$hash" (contract 11). Memory is at most 256 MiB.
func Parse(s string) (*Hash, error) {
	s, ok := strings.CutPrefix(s, "argon2id:")
	f := strings.Split(s, "$")
	if !ok || len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v=19" {
		return nil, ErrHash
	}
	h := &Hash{}
	if n, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil || n != 3 {
		return nil, ErrHash
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(f[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 128 ||
		h.memory < 8 || h.memory > 256<<10 || h.time < 1 || h.time > 64 || h.threads < 1 {
		return nil, ErrHash
	}
	return h, nil
}

// Matches tells whether the hash was made of this secret.
func (h *Hash) Matches(secret string) bool {
	sum := argon2.IDKey([]byte(secret), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// Make returns what Parse reads, of a new secret.
func Make(secret string) string {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails (crypto/rand)
	sum := argon2.IDKey([]byte(secret), salt, newTime, newMemory, 1, sumSize)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("argon2id:$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", newMemory, newTime, encode(salt), encode(sum))
}

// The shortest and longest key of an API user, in characters.
const (
	minKey = 8
	maxKey = 128
)

// CheckKey reports what keeps a key from being one of an API user: at least 8 characters that mix letters and digits
// (requirement R132).
func CheckKey(key string) error {
	letters, digits, n := false, false, 0
	for _, r := range key {
		switch n++; {
		case r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ':
			return errors.New("a key has printable ASCII characters without spaces only")
		case r >= '0' && r <= '9':
			digits = true
		case unicode.IsLetter(r):
			letters = true
		}
	}
	switch {
	case n < minKey || n > maxKey:
		return fmt.Errorf("a key has %d to %d characters", minKey, maxKey)
	case !letters || !digits:
		return errors.New("a key mixes letters and digits")
	}
	return nil
}
