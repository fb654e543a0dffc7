package process

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func mustStart(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start("sh", "/bin/sh", []string{"-c", script}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestLineAndStop(t *testing.T) {
	p := mustStart(t, "echo chatter; echo ready now; exec sleep 60")
	line, err := p.Line(t.Context(), "ready", 10*time.Second)
	if err != nil || line != "ready now" {
		t.Fatalf("line %q, %v", line, err)
	}
	if _, err := p.Line(t.Context(), "more", 10*time.Millisecond); err == nil {
		t.Error("a line nobody said was heard")
	}
	if err := p.Stop(); err == nil { // sleep dies of SIGTERM, which is no exit 0
		t.Error("the end by signal was not told")
	}
}

func TestEndedEarly(t *testing.T) {
	p := mustStart(t, "exit 3")
	if _, err := p.Line(t.Context(), "ready", 10*time.Second); !errors.Is(err, ErrEnded) {
		t.Errorf("error %v, want ErrEnded", err)
	}
	if err := p.Wait(t.Context()); err == nil {
		t.Error("exit 3 was not told")
	}
}

func TestManyLinesDoNotBlock(t *testing.T) {
	p := mustStart(t, "seq 1 100000; echo last")
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest := p.Rest()
	if len(rest) == 0 || rest[len(rest)-1] != "last" {
		t.Errorf("%d lines kept, the last is not the newest", len(rest))
	}
}

func TestMeter(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	sum, now := 0, before
	for now == before { // CPU time passes only when we use it
		for i := range 1000000 {
			sum += i
		}
		if now, err = CPU(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	m, err := MemoryOf(os.Getpid())
	if err != nil || m.Anon <= 0 || m.RSS < m.Anon || m.Peak < m.RSS/2 {
		t.Errorf("memory %+v, %v (sum %d)", m, err, sum)
	}
	if _, err := Written(os.Getpid()); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 100000), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Disk(dir); err != nil || n < 100000 || n > 200000 {
		t.Errorf("disk %d, %v", n, err)
	}
	if _, err := CPU(1 << 30); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}

func TestWords(t *testing.T) {
	got := Words("ekiden ready name=n smtp=127.0.0.1:1,[::1]:2 note=a=b state=")
	want := map[string]string{"name": "n", "smtp": "127.0.0.1:1,[::1]:2", "note": "a=b", "state": ""}
	if !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
