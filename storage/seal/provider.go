package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Kinds of providers, as the node file writes them (keys.unseal).
const (
	KindKeyring  = "keyring"       // the kernel's keyring: warm restart on the same host
	KindPeer     = "peer"          // an unsealed member of the cluster; skipped while there is no cluster
	KindRecovery = "recovery-code" // wait for an operator with the code
	KindExec     = "exec"          // a command prints the key: a KMS, a TPM, age …
	KindFile     = "file"          // a file holds the key: whoever reads the disk reads the mail
)

// Provider is one entry of keys.unseal.
type Provider struct {
	Kind    string
	Command string // KindExec: split at white space, run without a shell
	Path    string // KindFile: 32 raw bytes
}

// DefaultProviders is what a node without a keys section uses.
func DefaultProviders() []Provider {
	return []Provider{{Kind: KindKeyring}, {Kind: KindPeer}, {Kind: KindRecovery}}
}

// execTimeout is how long a command may take to print a key.
const execTimeout = 30 * time.Second

// What a provider's key can lack besides being there.
var (
	errKeyForm  = errors.New("a key must be exactly 32 bytes or 64 hexadecimal digits")
	errFileForm = errors.New("must be a regular file of exactly 32 bytes")
)

// ProviderError is an exec or file provider that answers with something that is no key.
type ProviderError struct {
	Index int // in Config.Providers
	Err   error
}

func (e *ProviderError) Error() string { return e.Err.Error() }
func (e *ProviderError) Unwrap() error { return e.Err }

// UnmarshalYAML reads `keyring`, `peer`, `recovery-code`, `{exec: "command"}` or `{file: "path"}`. Its signature is the
// one YAML packages agree on, so that this room needs none of them.
func (p *Provider) UnmarshalYAML(unmarshal func(any) error) error {
	const allowed = `allowed are keyring, peer, recovery-code, {exec: "command"}, {file: "path"}`
	var word string
	if unmarshal(&word) == nil {
		*p = Provider{Kind: word}
		if word == KindExec || word == KindFile || p.validate() != nil {
			return fmt.Errorf("unknown unseal provider %q: %s", word, allowed)
		}
		return nil
	}
	var entry map[string]string
	if err := unmarshal(&entry); err != nil || len(entry) != 1 {
		return errors.New("unseal provider is not understood: " + allowed)
	}
	switch {
	case entry[KindExec] != "":
		*p = Provider{Kind: KindExec, Command: entry[KindExec]}
	case entry[KindFile] != "":
		*p = Provider{Kind: KindFile, Path: entry[KindFile]}
	default:
		return errors.New("unseal provider is not understood: " + allowed)
	}
	return p.validate()
}

func (p Provider) validate() error {
	switch p.Kind {
	case KindKeyring, KindPeer, KindRecovery:
		return nil
	case KindExec:
		if len(strings.Fields(p.Command)) > 0 {
			return nil
		}
		return errors.New("unseal provider exec needs a command")
	case KindFile:
		if p.Path != "" {
			return nil
		}
		return errors.New("unseal provider file needs a path")
	}
	return fmt.Errorf("unknown unseal provider %q", p.Kind)
}

// holdsKey tells whether the provider gives a key under which the root key is wrapped.
func (p Provider) holdsKey() bool { return p.Kind == KindExec || p.Kind == KindFile }

// key fetches the provider's key: KeySize bytes, the caller's to wipe. Only exec and file have one.
func (p Provider) key(ctx context.Context) ([]byte, error) {
	switch p.Kind {
	case KindExec:
		return execKey(ctx, p.Command)
	case KindFile:
		return fileKey(p.Path)
	}
	return nil, fmt.Errorf("provider %s holds no key", p.Kind)
}

// execKey runs command and takes the key it prints. What it writes to standard error is dropped, never logged: it may
// hold secrets. The error tells the exit status or the time-out only.
func execKey(ctx context.Context, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	words := strings.Fields(command)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	out := &keyBuffer{}
	defer clear(out.buf[:])
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a grandchild that holds the pipe open does not hold us
	if err := cmd.Run(); err != nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case out.over: // the command then dies of a broken pipe, which explains nothing
			err = errKeyForm
		}
		return nil, fmt.Errorf("key command %s: %w", words[0], err)
	}
	key, err := parseKey(out.buf[:out.n])
	if err != nil {
		return nil, fmt.Errorf("key command %s: %w", words[0], err)
	}
	return key, nil
}

// keyBuffer takes what a key command prints, in an array that does not grow and so leaves no copies behind.
type keyBuffer struct {
	buf  [2*KeySize + 2]byte // 64 digits and a line end
	n    int
	over bool // more was printed than a key has
}

func (b *keyBuffer) Write(p []byte) (int, error) {
	if len(p) > len(b.buf)-b.n {
		b.over = true
		return 0, errKeyForm
	}
	b.n += copy(b.buf[b.n:], p)
	return len(p), nil
}

func parseKey(text []byte) ([]byte, error) {
	if len(text) == KeySize {
		return bytes.Clone(text), nil
	}
	key := make([]byte, KeySize)
	digits := bytes.TrimRight(text, "\r\n")
	if len(digits) != 2*KeySize {
		return nil, errKeyForm
	}
	if _, err := hex.Decode(key, digits); err != nil {
		return nil, errKeyForm // hex's own error would show a digit of the key
	}
	return key, nil
}

func fileKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("key file %s: %w", path, errFileForm)
	case info.Size() != KeySize:
		return nil, fmt.Errorf("key file %s has %d bytes: %w", path, info.Size(), errFileForm)
	}
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(f, key); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return key, nil
}

// openToOthers tells whether others than its owner may read a key file.
func openToOthers(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o077 != 0
}
