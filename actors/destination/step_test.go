package destination

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts plays testdata/*.txt. A line "+1s key=value … Message key=value …" lets time pass, changes the
// view, and steps the machine; what it answers follows, indented.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := playScript(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal([]byte(got), want) {
				t.Errorf("the machine behaves differently (go test -update, then read the difference):\n%s", got)
			}
		})
	}
}

var scriptStart = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func playScript(t *testing.T, script string) string {
	env := &Env{Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{},
		Sources: func(string) []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		}}
	env.Defaults()
	leased := true
	env.Lease = func() bool { return leased }
	m := NewMachine("a.example", env)
	now := scriptStart
	v := View{Retry: time.Minute}
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		d, err := time.ParseDuration(f[0])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		now = now.Add(d)
		i := 1
		for ; i < len(f) && strings.Contains(f[i], "="); i++ {
			setView(t, &v, f[i], now)
		}
		if f[i] == "Suspend" || f[i] == "Unsuspend" {
			s := Suspension{Domain: "a.example", Reason: "asked for"}
			if env.Suspensions.Remove(s); f[i] == "Suspend" {
				env.Suspensions.Add(s)
			}
			f[i] = "Changed"
		}
		if f[i] == "Unlease" || f[i] == "Lease" {
			leased = f[i] == "Lease"
			f[i] = "Ticked"
		}
		effects, plan := m.Step(now, message(t, f[i:], now), &v)
		for _, e := range effects {
			out.WriteString("  " + show(&e) + "\n")
		}
		fmt.Fprintf(&out, "  = %s", plan.Status.State)
		if plan.Status.Reason != 0 {
			fmt.Fprintf(&out, " because %s", plan.Status.Reason)
		}
		if plan.Quiet {
			out.WriteString(", quiet")
		}
		if !plan.Alarm.IsZero() {
			fmt.Fprintf(&out, ", alarm +%s", plan.Alarm.Sub(now))
		}
		if !plan.Look.IsZero() {
			fmt.Fprintf(&out, ", look +%s", plan.Look.Sub(now))
		}
		out.WriteString("\n")
	}
	return out.String()
}

func setView(t *testing.T, v *View, kv string, now time.Time) {
	k, val, _ := strings.Cut(kv, "=")
	n, err := strconv.Atoi(val)
	if err != nil {
		t.Fatalf("%q: %v", kv, err)
	}
	if len(v.Shelves) == 0 {
		v.Shelves = []Shelf{{Pool: "default"}}
	}
	s := &v.Shelves[0]
	switch k {
	case "ready":
		s.Ready, v.Ready = n, n
	case "moved": // seconds ago
		s.Moved = now.Add(-time.Duration(n) * time.Second)
	case "flight":
		v.Flight = n
	case "sessions":
		s.Sessions = n
	case "source":
		s.Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	case "sources": // that a filter leaves
		s.Speed = &filter.Speed{Name: "f", Sources: n}
	case "asked":
		s.Asked = n
	case "ahead":
		s.Ahead = n == 1
	case "low":
		v.Low = n == 1
	case "held":
		v.Held = n == 1
	case "look":
		v.Look = time.Duration(n) * time.Second
	case "due":
		v.NextDue = now.Add(time.Duration(n) * time.Second)
	default:
		t.Fatalf("unknown %q", kv)
	}
}

func message(t *testing.T, f []string, now time.Time) any {
	src := func(i int) netip.Addr { return netip.MustParseAddr("192.0.2." + f[i]) }
	switch f[0] {
	case "Arrived":
		return protocol.Arrived{}
	case "Ticked":
		return protocol.Ticked{}
	case "Changed":
		return protocol.Changed{}
	case "Restarted":
		return protocol.Restarted{}
	case "Loaded":
		return protocol.Loaded{}
	case "LoadFailed":
		return protocol.Loaded{Err: os.ErrClosed}
	case "Resolved":
		r := mail.Route{Hosts: []mail.Host{{Name: "mx.a.example", Port: 25}}}
		return protocol.Resolved{Route: r, Key: r.Key(), Limits: &shaping.Limits{Receiver: "mx:mx.a.example", Connections: 3, BlockPause: time.Minute}}
	case "NoDomain":
		return protocol.Resolved{Outcome: mail.Outcome{Result: mail.Failed, Stage: mail.StageDNS, Status: mail.StatusHostUnknown, Detail: "no such domain"}}
	case "NoAnswer":
		return protocol.Resolved{Outcome: mail.Outcome{Result: mail.Deferred, Stage: mail.StageDNS, Detail: "server failure"}}
	case "Refused":
		d, err := time.ParseDuration(f[2])
		if err != nil {
			t.Fatal(err)
		}
		r := protocol.Refused{Source: src(1), Reason: protocol.ReasonBlocked, Until: now.Add(d)}
		if len(f) > 3 && f[3] == "rate" {
			r.Reason = protocol.ReasonRate
		} else if len(f) > 3 && f[3] == "slots" {
			r.Reason = protocol.ReasonSlots
		} else if len(f) > 3 && f[3] == "daily_cap" {
			r.Reason = protocol.ReasonDailyCap
		}
		return r
	case "Troubled":
		return protocol.Troubled{Source: src(1), Report: protocol.Report{Outcome: mail.Outcome{Result: mail.Deferred, Stage: mail.StageConnect, Detail: "connection refused"}}}
	}
	t.Fatalf("unknown message %q", f)
	return nil
}

func show(e *Effect) string {
	switch e.Kind {
	case EffectResolve:
		return "resolve"
	case EffectLoad:
		return "load"
	case EffectAsk:
		if e.Ahead {
			return fmt.Sprintf("ask %s for %d, ahead", e.Source, e.Want)
		}
		if e.Rides {
			return fmt.Sprintf("ask %s for %d, riding", e.Source, e.Want)
		}
		return fmt.Sprintf("ask %s for %d", e.Source, e.Want)
	case EffectRelimit:
		return fmt.Sprintf("tell %s of limits", e.Source)
	case EffectForget:
		return "forget asks"
	case EffectDismiss:
		return fmt.Sprintf("dismiss %d as %s: %s", e.N, e.Outcome.Result, e.Outcome.Detail)
	case EffectSweep:
		return fmt.Sprintf("sweep %d", e.N)
	case EffectReopen:
		return "reopen"
	}
	return "?"
}
