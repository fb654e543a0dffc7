package node_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestEtiquette: on the wire, what a receiver's rules say holds: connections at once and a second, messages on each, the
// interval between them, and one recipient in each transaction (R39, R44, D2).
func TestEtiquette(t *testing.T) {
	const (
		n, connections, perConnection = 40, 2, 5
		interval                      = 60 * time.Millisecond
		perSecond                     = 4
	)
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return s + fmt.Sprintf("receivers: [{name: carrier, domains: [carrier.test], connections: %d, per_connection: %d, interval: %s, connection_rate: %d}]\n",
			connections, perConnection, interval, perSecond)
	}, func(s string) string {
		return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: [127.0.0.2]}", 1)
	})
	c := r.session()
	for i := range n {
		c.mustSend(text(""), fmt.Sprintf("u%d@carrier.test", i))
	}
	sink.mustGet(t, n)
	r.atRest()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	var opened []time.Time
	for _, s := range sink.sessions {
		if len(s.began) == 0 {
			continue
		}
		opened = append(opened, s.began[0])
		if len(s.began) > perConnection || s.rcpts != len(s.began) {
			t.Errorf("a connection carried %d messages to %d recipients, at most %d to one each are allowed", len(s.began), s.rcpts, perConnection)
		}
		// A busy machine notes the first late: what it lacks is allowed once for the connection, not for each message.
		for i := 1; i < len(s.began); i++ {
			if d, least := s.began[i].Sub(s.began[0]), time.Duration(i)*interval-interval/3; d < least {
				t.Errorf("message %d of a connection after %s, want %s", i+1, d, least)
			}
		}
	}
	slices.SortFunc(opened, time.Time.Compare)
	if d, least := opened[len(opened)-1].Sub(opened[0]), time.Duration(len(opened)-1-connections)*time.Second/perSecond; d < least {
		t.Errorf("%d connections in %s, want at least %s", len(opened), d, least)
	}
}

// TestSessionTime: a connection begins no message beyond the time its receiver's rule gives it, and the mail goes on over
// the next (R44: mails, recipients and time of a session).
func TestSessionTime(t *testing.T) {
	const n, most, interval = 30, 250 * time.Millisecond, 40 * time.Millisecond
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return s + fmt.Sprintf("receivers: [{name: carrier, domains: [carrier.test], connections: 1, per_connection: -1, interval: %s, session_time: %s, connection_rate: -1, rate: -1}]\n", interval, most)
	})
	c := r.session()
	for i := range n {
		c.mustSend(text(""), fmt.Sprintf("u%d@carrier.test", i))
	}
	sink.mustGet(t, n)
	r.atRest()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	for _, s := range sink.sessions {
		// Its interval bounds how many begin within the time, however slow the machine.
		if k := len(s.began); k > int(most/interval)+1 {
			t.Errorf("a connection began %d messages, %s apart, in %s", k, interval, most)
		}
	}
	if len(sink.sessions) < 4 {
		t.Errorf("%d connections carried %d messages", len(sink.sessions), n)
	}
}

// carriers is a domain of each group of D1 that D2 has a profile for.
func carriers() []string {
	return []string{"docomo.ne.jp", "ezweb.ne.jp", "i.softbank.jp", "d.vodafone.ne.jp", "disney.ne.jp", "ymobile.ne.jp"}
}

// TestCarrierProfileOnTheWire: with the built-in rules and no settings, each carrier sees at most 10 connections of a source
// at once, 100 ms from message to message on each, one recipient in each transaction, and 50 messages on none (D2).
func TestCarrierProfileOnTheWire(t *testing.T) {
	const n = 40
	var sinks []*receiver
	routes := ""
	for _, d := range carriers() {
		s := startReceiver(t, "127.0.0.1:0", nil)
		sinks = append(sinks, s)
		routes += fmt.Sprintf("{domain: %s, to: '%s'}, ", d, s.Addr())
	}
	r := newRig(t, "delivery: {allow_private: true, routes: ["+routes+"]}\n", "")
	r.setClock(12, 20)
	c := r.session()
	for i := range n {
		for _, d := range carriers() {
			c.mustSend(text(""), fmt.Sprintf("u%d@%s", i, d))
		}
	}
	for i, d := range carriers() {
		sinks[i].mustGet(t, n)
		sinks[i].note(func() {
			if sinks[i].most > 10 {
				t.Errorf("%s: %d connections at once", d, sinks[i].most)
			}
			for _, s := range sinks[i].sessions {
				if len(s.began) > 50 || s.rcpts != len(s.began) {
					t.Errorf("%s: a connection carried %d messages to %d recipients", d, len(s.began), s.rcpts)
				}
				for j := 1; j < len(s.began); j++ {
					if gap := s.began[j].Sub(s.began[j-1]); gap < 80*time.Millisecond {
						t.Errorf("%s: %s between two messages", d, gap)
					}
				}
			}
		})
	}
	r.atRest()
}

// TestCarrierIsLeftAlone: a carrier that turns a source away, by 421 or by a reset, is not called again for a minute, and then
// by one connection (D2); other mail is not held up.
func TestCarrierIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"by 421": "421 4.7.0 too much from there", "by a reset": reset} {
		t.Run(name, func(t *testing.T) {
			var shut atomic.Bool
			shut.Store(true)
			au := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
				if stage == "greet" && shut.Load() {
					return answer
				}
				return ""
			})
			rest := startReceiver(t, "127.0.0.1:0", nil)
			r := newRig(t, fmt.Sprintf("delivery: {allow_private: true, routes: [{domain: ezweb.ne.jp, to: '%s'}, {domain: '*', to: '%s'}]}\n", au.Addr(), rest.Addr()), "",
				func(s string) string {
					return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: [127.0.0.2]}", 1)
				})
			r.setClock(12, 20)
			c := r.session()
			n := 0
			mustBecome(t, "blocked", func() bool { // one answer is not enough
				n++
				c.mustSend(text(""), fmt.Sprintf("u%d@ezweb.ne.jp", n))
				r.advance(200 * time.Millisecond) // of a pace that slows down
				return len(r.blocks()) == 1
			})
			calls := func() (n int) {
				au.note(func() { n = len(au.sessions) })
				return n
			}
			var before int // once those that were under way are over
			mustBecome(t, "quiet", func() bool {
				before = calls()
				return !becomes(300*time.Millisecond, func() bool { return calls() != before })
			})
			shut.Store(false)
			r.advance(50 * time.Second)
			c.mustSend(text(""), "witness@loud.test")
			rest.mustGet(t, 1)
			if n := calls(); n != before {
				t.Errorf("%d calls within the pause", n-before)
			}
			for range 150 { // in steps, for the pace comes back with them
				r.advance(5 * time.Second)
				if becomes(50*time.Millisecond, func() bool { return au.count() == n }) {
					break
				}
			}
			au.mustGet(t, n)
			r.atRest()
		})
	}
}

// TestTopOfTheHour: carriers are kept off for a random part of the first minute of an hour, others are not (D2).
func TestTopOfTheHour(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	r.setClock(13, 0)
	c := r.session()
	for _, d := range carriers() {
		c.mustSend(text(""), "u@"+d)
	}
	c.mustSend(text(""), "u@loud.test")
	mustBecome(t, "other mail", func() bool { return sink.tried("u@loud.test") == 1 })
	held := 0
	for _, d := range carriers() {
		var tr struct {
			Waiting []struct{ Binding, Detail string }
		}
		r.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": "u@" + d}, &tr)
		if len(tr.Waiting) == 1 && sink.tried("u@"+d) == 0 {
			held++
		}
	}
	if held < len(carriers())/2 {
		t.Errorf("%d of %d carriers are spared the full hour", held, len(carriers()))
	}
	r.advance(time.Minute)
	sink.mustGet(t, len(carriers())+1)
	r.atRest()
}

// TestCarrierReplies: what a carrier says means what D2 and D3 say it does, by the stage it says it at, and reaches the log.
func TestCarrierReplies(t *testing.T) {
	tests := []struct {
		to, stage, reply string
		class            int
	}{
		{"unknown@docomo.ne.jp", "rcpt", "550 Unknown user unknown@docomo.ne.jp", 2},
		{"refuses@docomo.ne.jp", "dot", "550 Unknown user refuses@docomo.ne.jp", 4},
		{"full@docomo.ne.jp", "dot", "552 Too much mail data full@docomo.ne.jp", 5},
		{"unknown@ezweb.ne.jp", "rcpt", "550 <unknown@ezweb.ne.jp>: User unknown", 2},
		{"refuses@ezweb.ne.jp", "dot", "550 : User unknown", 4},
		{"malformed@au.com", "rcpt", "554 <malformed@au.com>: Relay access denied", 9},
		{"unknown@i.softbank.jp", "rcpt", "550 Invalid recipient: <unknown@i.softbank.jp>", 2},
		{"unknown@d.vodafone.ne.jp", "rcpt", "550 Invalid recipient: <unknown@d.vodafone.ne.jp>", 2},
		{"unknown@disney.ne.jp", "rcpt", "550 Invalid recipient: <unknown@disney.ne.jp>", 2},
		{"unknown@ymobile.ne.jp", "rcpt", "550 Invalid recipient: <unknown@ymobile.ne.jp>", 2},
		{"unknown@rakumail.jp", "rcpt", "550 5.1.1 user unknown", 2},
	}
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		for _, tt := range tests {
			if stage == tt.stage && arg == tt.to {
				return tt.reply
			}
		}
		return ""
	})
	r := newRig(t, to(sink), ", from_domains: [shop.test]")
	r.setClock(12, 20)
	c := r.session()
	for _, tt := range tests {
		c.mustSend(text(""), tt.to)
	}
	for _, tt := range tests {
		mustBecome(t, tt.reply, func() bool { return len(r.events("status=failed&to="+tt.to)) == 1 })
		if e := r.events("status=failed&to=" + tt.to)[0]; e.Class != tt.class {
			t.Errorf("%s at %s: status %d, want %d", tt.reply, tt.stage, e.Class, tt.class)
		}
	}
}
