package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ekiden-bench": main})
}

// TestScripts runs testdata/*.txtar against the command itself.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": freePort, "listening": listening,
		},
	})
}

// freePort sets a variable to a loopback address on which nothing listens.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	at, err := engine.FreeAddr("127.0.0.1", rand.IntN)
	ts.Check(err)
	ts.Setenv(args[0], at)
}

// listening waits until something listens at an address.
func listening(ts *testscript.TestScript, _ bool, args []string) {
	for range 1000 {
		if c, err := net.Dial("tcp", args[0]); err == nil {
			ts.Check(c.Close())
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	ts.Fatalf("nothing listens at %s", args[0])
}

func TestVersion(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"--version"}, &out, &errs); code != 0 || !regexp.MustCompile(`^ekiden-bench [0-9]+\.[0-9]+\.[0-9]+`).Match(out.Bytes()) || errs.Len() > 0 {
		t.Errorf("ends with %d: %s%s", code, out.String(), errs.String())
	}
}

// TestHelp holds every command to contract 2: --help with an example, and --json.
func TestHelp(t *testing.T) {
	for _, name := range []string{"load", "sink", "relay", "figures", "demo", "sim"} {
		var out, errs bytes.Buffer
		if code := run([]string{name, "--help"}, &out, &errs); code != 0 {
			t.Errorf("%s --help ends with %d: %s", name, code, errs.String())
		}
		if text := out.String(); !strings.Contains(text, "Example") || !strings.Contains(text, "ekiden-bench "+name+" --") || !strings.Contains(text, "--json") {
			t.Errorf("%s --help shows no example or no --json:\n%s", name, text)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"unknown"}, {"load"}, {"load", "--target", "x", "--messages", "many"}, {"relay", "--tool", "swaks"},
		{"load", "--target", "x", "--messages", "1", "--headers", "no colon"}, {"relay", "--target", "x"},
		{"relay", "--compare", "speed"}, {"relay", "--suppressed", "5"},
	} {
		var out, errs bytes.Buffer
		if code := run(args, &out, &errs); code != exitUsage || errs.Len() == 0 {
			t.Errorf("%q ends with %d: %s", args, code, errs.String())
		}
	}
}

// TestRelativeDir: the engine reads the files of its directory from there, so that it is given no relative one.
func TestRelativeDir(t *testing.T) {
	want, err := filepath.Abs("data")
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]func(*commands) string{
		"dev":         func(c *commands) string { return c.Dev.Dir },
		"faults kill": func(c *commands) string { return c.Faults.Kill.Dir },
		"figures":     func(c *commands) string { return c.Figures.Dir },
		"relay":       func(c *commands) string { return c.Relay.Dir },
	} {
		var cli commands
		parser, err := kong.New(&cli, kong.Vars{"version": ""})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append(strings.Fields(name), "--dir", "data")); err != nil || dir(&cli) != want {
			t.Errorf("%s --dir data: %q, %v, want %q", name, dir(&cli), err, want)
		}
	}
}

// mustBinaries builds the engine and this command into one directory, as make build does.
func mustBinaries(t *testing.T) (bench string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+string(os.PathSeparator), "../ekiden", ".").CombinedOutput(); err != nil {
		t.Skipf("the engine cannot be built: %v\n%s", err, out)
	}
	return filepath.Join(dir, "ekiden-bench")
}

// TestRelay measures the real engine in small: what it prints is contract 9, and nothing is lost.
func TestRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	bench := mustBinaries(t)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"one domain":              {nil, "msgs=500 "},
		"recipients and TLS":      {[]string{"--recipients", "3", "--domains", "20", "--tls"}, "msgs=500 "},
		"one per connection":      {[]string{"--per-connection", "1"}, "msgs=500 "},
		"receivers down, crash":   {[]string{"--accept-only", "--backlog", "500", "--restart", "--drain"}, "lost=0 dup=0 wrong=0"},
		"everything against bare": {[]string{"--compare", "bare", "--suppressed", "2000", "--pairs", "1"}, "compare bare pairs=1 "},
		"webhooks":                {[]string{"--compare", "webhooks", "--pairs", "2", "--rate", "500"}, "hook_events=2000 hook_lost=0 hook_repeated=0"},
		"urgent mail":             {[]string{"--accept-only", "--backlog", "500", "--urgent", "20", "--drain"}, "lost=0 dup=0 wrong=0"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"relay", "--messages", "500", "--sessions", "10", "--dir", t.TempDir()}, tt.args...)
			cmd := exec.CommandContext(t.Context(), bench, args...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil && !strings.Contains(errs.String(), errMissed.Error()) { // so small a run tells nothing of speed
				t.Fatalf("%v\n%s%s", err, out, errs.String())
			}
			line := strings.TrimSpace(string(out))
			if !strings.Contains(line, tt.want) || !regexp.MustCompile(`lost=0 dup=0 `).MatchString(line) {
				t.Errorf("printed %q", line)
			}
			if _, err := fmt.Fprintln(t.Output(), line); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDemo runs the demonstration in small with the real engine.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	out, err := exec.CommandContext(t.Context(), mustBinaries(t), "demo", "--messages", "1000", "--timeout", "1m").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lost=0 dup=0 wrong=0") {
		t.Errorf("%v\n%s", err, out)
	}
}
