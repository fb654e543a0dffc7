package admin

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TokenFile is the name of the admin token inside the data directory.
const TokenFile = "admin.token"

// minToken is the shortest token that is accepted from a file, in characters: 192 bits in base64url.
const minToken = 32

// Token reads the admin token of the data directory dir, or makes one: 256 random bits as base64url, in a file that
// only the owner can read. An existing file that others can read is closed to them.
func Token(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < minToken {
		return "", fmt.Errorf("read admin token: %s holds fewer than %d characters; remove it and a new one is made", path, minToken)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", fmt.Errorf("close admin token to others: %w", err)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	token := base64.RawURLEncoding.EncodeToString(raw[:])

	// Under another name first: a crash in between must not leave an empty token behind.
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("make admin token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return "", fmt.Errorf("make admin token: %w", err)
	}
	return token, nil
}
