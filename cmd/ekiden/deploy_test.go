package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The examples under deploy are accepted by the programs they are for, where those are installed.
func TestDeployExamples(t *testing.T) {
	t.Run("haproxy", func(t *testing.T) {
		mustAccept(t, "haproxy", "-c", "-f", "../../deploy/haproxy.cfg")
	})
	t.Run("systemd", func(t *testing.T) {
		text, err := os.ReadFile("../../deploy/ekiden.service")
		if err != nil {
			t.Fatal(err)
		}
		// It also wants the program to be there.
		unit := filepath.Join(t.TempDir(), "ekiden.service")
		text = []byte(strings.ReplaceAll(string(text), "ExecStart=/usr/local/bin/ekiden", "ExecStart=/bin/true"))
		if err := os.WriteFile(unit, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := mustAccept(t, "systemd-analyze", "verify", unit); strings.Contains(out, unit) {
			t.Fatalf("it complains:\n%s", out)
		}
	})
}

// mustAccept runs a checker, which must be content, and returns what it said.
func mustAccept(t *testing.T, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
