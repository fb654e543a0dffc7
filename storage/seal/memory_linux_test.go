package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// canaryChild makes this test binary, started again, a process that holds a root key until its standard input ends.
const canaryChild = "EKIDEN_SEAL_TEST_CANARY"

// canary fills b with a pattern that stands nowhere in the binary, so that finding it means finding a copy.
func canary(b []byte, seed byte) {
	for i := range b {
		b[i] = byte(i*i*7+i*31) ^ seed
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(canaryChild) == "" {
		os.Exit(m.Run())
	}
	failed := Harden()
	key, decoy := make([]byte, KeySize), make([]byte, KeySize)
	canary(key, 0x5a)
	canary(decoy, 0xc3)
	root, err := RootFrom(key)
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	// What a node does with its root: derive, wrap, seal, index.
	ring := NewRing(root)
	for range 100 {
		ring.Seal(nil, []byte("x"), nil)
		ring.Index("domain", []byte("x"))
		root.Derive("cookie")
		ring.current.Load().old.Store(true)
	}
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	fmt.Println("ready", root.Protection(), dumpable, core.Cur, len(failed))
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println(decoy[0]) // keeps the decoy alive
	root.Close()
}

// A process of the host that may read the memory of another finds everything but the root key.
func TestMemoryOfANodeDoesNotShowTheRootKey(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), canaryChild+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var protection string
	var dumpable, core, failed int
	if _, err := fmt.Sscanf(line, "ready %s %d %d %d", &protection, &dumpable, &core, &failed); err != nil {
		t.Fatalf("child says %q", line)
	}
	if failed != 0 || dumpable != 0 || core != 0 {
		t.Errorf("hardening: %d failures, dumpable %d, core limit %d", failed, dumpable, core)
	}

	memory, err := readMemory(cmd.Process.Pid)
	if errors.Is(err, os.ErrPermission) {
		return // nobody without privileges reads it at all: better still
	}
	if err != nil {
		t.Fatal(err)
	}
	key, decoy := make([]byte, KeySize), make([]byte, KeySize)
	canary(key, 0x5a)
	canary(decoy, 0xc3)
	if !bytes.Contains(memory, decoy) {
		t.Fatal("the search does not even find what lies open in memory")
	}
	if protection != "memfd_secret" {
		t.Skipf("this kernel has no memfd_secret(2) (page is %q): a privileged reader sees the root key's page", protection)
	}
	for name, pad := range map[string]byte{"root key": 0, "inner pad": 0x36, "outer pad": 0x5c} {
		pattern := bytes.Clone(key)
		for i := range pattern {
			pattern[i] ^= pad
		}
		// Half a key is a find too: a copy may be partly overwritten.
		for _, half := range [][]byte{pattern[:16], pattern[16:]} {
			if bytes.Contains(memory, half) {
				t.Errorf("memory shows the %s", name)
			}
		}
	}
}

// readMemory returns all of a process's memory that can be read.
func readMemory(pid int) ([]byte, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var all []byte
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' || to-from > 256<<20 {
			continue
		}
		region := make([]byte, to-from)
		if n, err := mem.ReadAt(region, from); err == nil || n > 0 {
			all = append(all, region[:n]...) // vvar and secret pages answer EIO
		}
	}
	return all, nil
}

func TestKeyringProvider(t *testing.T) {
	probe := "ekiden:test:" + t.Name()
	if err := keyringPut(probe, make([]byte, KeySize)); err != nil {
		t.Skipf("the kernel keyring cannot be used here: %v", err)
	}
	if err := keyringDrop(probe); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := Config{Providers: DefaultProviders()}
	first := mustVault(t, dir, cfg)
	code := mustInit(t, first)
	t.Cleanup(func() { _ = first.ForgetWarm() })
	derived := first.Root().Derive("test")
	first.Close() // the process died

	second := mustVault(t, dir, cfg)
	if by, err := second.AutoUnseal(t.Context()); by != KindKeyring || err != nil {
		t.Fatalf("opened by %q, %v", by, err)
	}
	if second.Root().Derive("test") != derived {
		t.Error("another root key")
	}

	// Another store's key, or rubbish, under this store's name is not taken.
	for name, value := range map[string][]byte{"rubbish": []byte("short"), "another key": bytes.Repeat([]byte{1}, KeySize)} {
		if err := keyringPut(second.keyringName(), value); err != nil {
			t.Fatal(err)
		}
		if by, err := mustVault(t, dir, cfg).AutoUnseal(t.Context()); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: opened by %q, %v", name, by, err)
		}
	}

	// The host was rebooted: nothing but the code opens it, and the next restart is warm again.
	if err := second.ForgetWarm(); err != nil {
		t.Fatal(err)
	}
	third := mustVault(t, dir, cfg)
	if _, err := third.AutoUnseal(t.Context()); !errors.Is(err, ErrSealed) {
		t.Fatalf("after reboot: %v", err)
	}
	if err := third.Unseal(t.Context(), third.limit.last, code); err != nil {
		t.Fatal(err)
	}
	if by, err := mustVault(t, dir, cfg).AutoUnseal(t.Context()); by != KindKeyring || err != nil {
		t.Errorf("after unseal: opened by %q, %v", by, err)
	}
}

func TestKeyringEntryIsForItsOwnerOnly(t *testing.T) {
	name := "ekiden:test:" + t.Name()
	if err := keyringPut(name, make([]byte, KeySize)); err != nil {
		t.Skipf("the kernel keyring cannot be used here: %v", err)
	}
	defer keyringDrop(name)
	defer withUserKeyring()()
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", name, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	if err != nil {
		t.Fatal(err)
	}
	// "user;UID;GID;PERM;NAME", the permission's low 16 bits being group and other.
	if part := strings.Split(text, ";"); len(part) != 5 || part[3] != "3f0b0000" {
		t.Errorf("key is described as %q", text)
	}
}

// Where memfd_secret is missing the key lies in an ordinary page, locked if the limits allow.
func TestPageWithoutSecretMemory(t *testing.T) {
	p, err := lockedPage(os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	if p.kind != "mlock" && p.kind != "none" {
		t.Errorf("kind %q", p.kind)
	}
	copy(p.mem, "secret")
	for range 2 {
		if err := p.close(); err != nil || p.mem != nil {
			t.Fatalf("close: %v", err)
		}
	}
}
