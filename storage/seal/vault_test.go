package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// codeOnly is a vault that nothing opens but the code, so that a test leaves no key in the kernel.
var codeOnly = []Provider{{Kind: KindPeer}, {Kind: KindRecovery}}

func mustVault(t *testing.T, dir string, cfg Config) *Vault {
	t.Helper()
	if cfg.Providers == nil {
		cfg.Providers = codeOnly
	}
	v, err := OpenVault(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func mustInit(t *testing.T, v *Vault) (code string) {
	t.Helper()
	if v.State() != New {
		t.Fatalf("state %s before the first start", v.State())
	}
	code, err := v.Init(t.Context())
	if err != nil || v.State() != Unsealed || v.Root() == nil {
		t.Fatalf("init: %v, state %s", err, v.State())
	}
	return code
}

// snapshot returns every file below dir with its content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		info, _ := d.Info()
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameFiles(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func keyFile(t *testing.T, fill byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, bytes.Repeat([]byte{fill}, KeySize), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fileProvider(path string) []Provider { return []Provider{{Kind: KindFile, Path: path}} }

func TestVaultLife(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_800_000_000, 0)
	first := mustVault(t, dir, Config{})
	if _, err := first.AutoUnseal(t.Context()); !errors.Is(err, ErrNoKeys) {
		t.Errorf("auto unseal of a new node: %v", err)
	}
	if err := first.Unseal(t.Context(), now, codeText(newCode())); !errors.Is(err, ErrNoKeys) {
		t.Errorf("unseal of a new node: %v", err)
	}
	code := mustInit(t, first)
	if _, err := first.Init(t.Context()); !errors.Is(err, ErrNotNew) {
		t.Errorf("second init: %v", err)
	}
	ring := NewRing(first.Root())
	sealed := ring.Seal(nil, []byte("body"), []byte("id"))
	keys := ring.TakeNew()
	if err := first.Close(); err != nil || first.State() != Sealed || first.Root() != nil {
		t.Fatalf("close: %v, state %s", err, first.State())
	}

	second := mustVault(t, dir, Config{})
	if second.State() != Sealed || second.Identity() != first.Identity() || len(second.Identity()) != 32 {
		t.Fatalf("after restart: %s, identity %q", second.State(), second.Identity())
	}
	if by, err := second.AutoUnseal(t.Context()); !errors.Is(err, ErrSealed) {
		t.Fatalf("opened by %q without a code: %v", by, err)
	}
	select {
	case <-second.Unsealed():
		t.Fatal("said to be unsealed")
	default:
	}
	if err := second.Unseal(t.Context(), now, strings.ToLower(code)); err != nil || second.State() != Unsealed {
		t.Fatalf("unseal: %v", err)
	}
	<-second.Unsealed()
	again := NewRing(second.Root())
	if err := again.Restore(keys[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(nil, sealed, []byte("id")); err != nil || string(got) != "body" {
		t.Errorf("record of the first process: %q, %v", got, err)
	}
	// An unsealed node still tells a right copy of the code from a wrong one.
	if err := second.Unseal(t.Context(), now, code); err != nil {
		t.Errorf("right code on an unsealed node: %v", err)
	}
	if err := second.Unseal(t.Context(), now, codeText(newCode())); !errors.Is(err, ErrWrongCode) {
		t.Errorf("wrong code on an unsealed node: %v", err)
	}
}

func TestWrongCodeChangesNothingAndIsRateLimited(t *testing.T) {
	dir := t.TempDir()
	code := mustInit(t, mustVault(t, dir, Config{}))
	before := snapshot(t, dir)
	v := mustVault(t, dir, Config{})
	now := time.Unix(1_800_000_000, 0)
	for range 20 {
		if err := v.Unseal(t.Context(), now, code[:20]); !errors.Is(err, ErrTypo) {
			t.Fatalf("half a code: %v", err)
		}
	}
	for i := range codeBurst {
		if err := v.Unseal(t.Context(), now, codeText(newCode())); !errors.Is(err, ErrWrongCode) {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	err := v.Unseal(t.Context(), now, code)
	if !errors.Is(err, ErrTooSoon) || !strings.Contains(err.Error(), "12s") {
		t.Fatalf("attempt %d, with the right code: %v", codeBurst+1, err)
	}
	if err := v.Unseal(t.Context(), now.Add(-time.Hour), code); !errors.Is(err, ErrTooSoon) {
		t.Fatalf("a clock set back bought an attempt: %v", err)
	}
	if v.State() != Sealed || !sameFiles(before, snapshot(t, dir)) {
		t.Fatal("refused codes changed something")
	}
	if err := v.Unseal(t.Context(), now.Add(codeEvery), code); err != nil {
		t.Fatalf("after the wait: %v", err)
	}
	if !sameFiles(before, snapshot(t, dir)) {
		t.Error("unsealing by code changed the disk though there is no provider to enrol")
	}
}

func TestNothingOnDiskShowsAKey(t *testing.T) {
	dir, path := t.TempDir(), keyFile(t, 0xa5)
	v := mustVault(t, dir, Config{Loopback: true, Providers: fileProvider(path)})
	code := mustInit(t, v)
	raw, err := parseCode(code)
	if err != nil {
		t.Fatal(err)
	}
	files := snapshot(t, dir)
	if len(files) != 2 {
		t.Fatalf("want a recovery slot and a provider slot, got %d files", len(files))
	}
	secrets := map[string][]byte{"code": raw[:], "code's text": []byte(code), "first group": []byte(code[:11]),
		"provider key": bytes.Repeat([]byte{0xa5}, KeySize), "root key": v.Root().page.mem[:KeySize]}
	for name, secret := range secrets {
		for path, data := range files {
			if strings.Contains(data, string(secret)) || strings.Contains(data, hex.EncodeToString(secret)) {
				t.Errorf("%s shows the %s", path, name)
			}
		}
	}
}

func TestFileProvider(t *testing.T) {
	dir, path := t.TempDir(), keyFile(t, 1)
	cfg := Config{Loopback: true, Providers: fileProvider(path)}
	code := mustInit(t, mustVault(t, dir, cfg))
	if by, err := mustVault(t, dir, cfg).AutoUnseal(t.Context()); by != KindFile || err != nil {
		t.Fatalf("opened by %q, %v", by, err)
	}
	moved := keyFile(t, 1)
	if _, err := mustVault(t, dir, Config{Loopback: true, Providers: fileProvider(moved)}).AutoUnseal(t.Context()); err != nil {
		t.Errorf("the same key in another place: %v", err)
	}
	if _, err := OpenVault(dir, Config{Providers: fileProvider(path)}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("a key file off loopback: %v", err)
	}

	// The key is lost: the code opens the node and enrols the new one.
	other := Config{Loopback: true, Providers: fileProvider(keyFile(t, 2))}
	v := mustVault(t, dir, other)
	if _, err := v.AutoUnseal(t.Context()); !errors.Is(err, ErrSealed) {
		t.Fatalf("another key opened the node: %v", err)
	}
	if err := v.Unseal(t.Context(), time.Unix(1, 0), code); err != nil {
		t.Fatal(err)
	}
	if by, err := mustVault(t, dir, other).AutoUnseal(t.Context()); by != KindFile || err != nil {
		t.Errorf("the new key was not enrolled: %q, %v", by, err)
	}
}

func TestFileProviderWarnsLoudly(t *testing.T) {
	path := keyFile(t, 3)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	mustVault(t, t.TempDir(), Config{Loopback: true, Providers: fileProvider(path), Log: slog.New(slog.NewTextHandler(&out, nil))})
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "open_to_others=true") {
		t.Errorf("log: %s", out.String())
	}
}

func TestExecProvider(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(t.TempDir(), "hex")
	if err := os.WriteFile(key, []byte(strings.Repeat("c3", KeySize)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Providers: []Provider{{Kind: KindExec, Command: "cat " + key}, {Kind: KindRecovery}}}
	mustInit(t, mustVault(t, dir, cfg))
	if by, err := mustVault(t, dir, cfg).AutoUnseal(t.Context()); by != KindExec || err != nil {
		t.Fatalf("opened by %q, %v", by, err)
	}

	script := filepath.Join(t.TempDir(), "s.sh")
	mustScript := func(text string) string {
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return "/bin/sh " + script
	}
	rows := []struct{ name, text, says string }{
		{"fails, with a secret on stderr", "echo canary-secret >&2; exit 3", "exit status 3"},
		{"too short", "printf abc", errKeyForm.Error()},
		{"too long", "yes", errKeyForm.Error()},
		{"not hexadecimal", "printf '%064d' 0 | tr 0 g", errKeyForm.Error()},
		{"33 bytes", "printf '%033d' 0", errKeyForm.Error()},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := execKey(t.Context(), mustScript(row.text))
			if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v; want it to say %q", err, row.says)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := execKey(ctx, "sleep 60"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		v := mustVault(t, t.TempDir(), Config{Providers: []Provider{{Kind: KindExec, Command: "/nonexistent/kms"}}})
		mustInit(t, v) // the recovery code makes up for it
	})
}

// TestMalformedKeyAtFirstStart: a node that started unsealed with such a provider would be sealed at its next boot.
func TestMalformedKeyAtFirstStart(t *testing.T) {
	for _, size := range []int{0, 31, 33, 64} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, bytes.Repeat([]byte{'a'}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []Provider{{Kind: KindFile, Path: path}, {Kind: KindExec, Command: "cat " + path}} {
			if bad.Kind == KindExec && size == 64 {
				continue // 64 hexadecimal digits are a key where a command prints them
			}
			dir := t.TempDir()
			v := mustVault(t, dir, Config{Loopback: true, Providers: []Provider{{Kind: KindRecovery}, {Kind: KindFile, Path: keyFile(t, 1)}, bad}})
			code, err := v.Init(t.Context())
			var form *ProviderError
			if !errors.As(err, &form) || form.Index != 2 || !strings.Contains(err.Error(), "exactly 32 bytes") || code != "" {
				t.Errorf("%s of %d bytes: code %q, error %v", bad.Kind, size, code, err)
			}
			if len(snapshot(t, dir)) != 0 || v.State() != New {
				t.Errorf("%s of %d bytes: keys were made", bad.Kind, size)
			}
		}
	}
}

func TestDamagedKeyFiles(t *testing.T) {
	dir := t.TempDir()
	code := mustInit(t, mustVault(t, dir, Config{}))
	path := filepath.Join(dir, "keys", recoveryFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := decodeSlot(bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := decodeSlot(good[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	// A forger makes the sum right; the tag then refuses, and absurd costs are refused before they are paid.
	forge := func(change func(*slot)) error {
		s, err := decodeSlot(good)
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		s.Sum = s.sum()
		if err := os.WriteFile(path, s.encode(), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVault(dir, Config{Providers: codeOnly})
		if err != nil {
			return err
		}
		return v.Unseal(t.Context(), time.Unix(1, 0), code)
	}
	for name, row := range map[string]struct {
		change func(*slot)
		want   error
	}{
		"other store":    {func(s *slot) { s.Store[0] ^= 1 }, ErrWrongCode},
		"other wrapping": {func(s *slot) { s.Wrapped[20] ^= 1 }, ErrWrongCode},
		"other salt":     {func(s *slot) { s.KDF.Salt[0] ^= 1 }, ErrWrongCode},
		"memory bomb":    {func(s *slot) { s.KDF.MemoryKiB = 1 << 30 }, ErrDamaged},
		"other opener":   {func(s *slot) { s.Opener = openerProvider }, ErrDamaged},
	} {
		if err := forge(row.change); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	if err := forge(func(*slot) {}); err != nil {
		t.Errorf("the untouched file: %v", err)
	}
}

func TestInitAfterACrash(t *testing.T) {
	dir := t.TempDir()
	// A first start died before the rename: its code was never shown.
	if err := os.MkdirAll(filepath.Join(dir, "keys.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.new", recoveryFile), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustInit(t, mustVault(t, dir, Config{}))
	if _, err := os.Stat(filepath.Join(dir, "keys.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestProviderYAML(t *testing.T) {
	word := func(s string) func(any) error {
		return func(to any) error {
			if p, ok := to.(*string); ok {
				*p = s
				return nil
			}
			return errors.New("not a map")
		}
	}
	entry := func(m map[string]string) func(any) error {
		return func(to any) error {
			if p, ok := to.(*map[string]string); ok {
				*p = m
				return nil
			}
			return errors.New("not a string")
		}
	}
	rows := []struct {
		name string
		from func(any) error
		want Provider
		ok   bool
	}{
		{"keyring", word("keyring"), Provider{Kind: KindKeyring}, true},
		{"peer", word("peer"), Provider{Kind: KindPeer}, true},
		{"recovery-code", word("recovery-code"), Provider{Kind: KindRecovery}, true},
		{"exec", entry(map[string]string{"exec": "kms get"}), Provider{Kind: KindExec, Command: "kms get"}, true},
		{"file", entry(map[string]string{"file": "/k"}), Provider{Kind: KindFile, Path: "/k"}, true},
		{"unknown word", word("tpm"), Provider{}, false},
		{"exec without a command", word("exec"), Provider{}, false},
		{"blank command", entry(map[string]string{"exec": "  "}), Provider{}, false},
		{"unknown key", entry(map[string]string{"command": "x"}), Provider{}, false},
		{"two keys", entry(map[string]string{"exec": "x", "file": "y"}), Provider{}, false},
	}
	for _, row := range rows {
		var p Provider
		err := p.UnmarshalYAML(row.from)
		if (err == nil) != row.ok || row.ok && p != row.want {
			t.Errorf("%s: %+v, %v", row.name, p, err)
		}
	}
}
