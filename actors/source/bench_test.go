package source

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// free is a controller that grants whatever is asked for and learns nothing.
type free struct{ *shaping.Machine }

func (free) Grant(now time.Time, want int, _ *shaping.Lane) (int, int, time.Time) {
	return 1, want, now.Add(time.Hour)
}
func (free) Renew(now time.Time, want int, _ *shaping.Lane) (int, time.Time) {
	return want, now.Add(time.Hour)
}
func (free) Release(time.Time, int, int, *shaping.Lane)           {}
func (free) Observe(time.Time, mail.Outcome, bool, *shaping.Lane) {}
func (free) Pace() float64                                        { return 0 }
func (free) PaceOf(*shaping.Lane) float64                         { return 0 }

// endless is an outbox with one parcel, again and again.
type endless struct {
	box
	parcel protocol.Parcel
}

func (x *endless) Take(time.Time, int, netip.Addr, string) (*protocol.Parcel, time.Time) {
	return &x.parcel, time.Time{}
}

func (x *endless) Linger(int, protocol.Waker) bool { return false }

// BenchmarkController is what a message costs the book of a source, with each kind of limits and with none: what the rows
// differ by is the cost of the controller, to be held against engine_cpu_us of ekiden-bench relay.
func BenchmarkController(b *testing.B) {
	carrier := shaping.Limits{Receiver: "r", Connections: 10, PerConnection: 50, Start: 1e6, Interval: time.Microsecond}
	for _, row := range []struct {
		name   string
		limits shaping.Limits
		free   bool
	}{
		{"none", shaping.Limits{Receiver: "r", Connections: 10}, true},
		{"route", shaping.Relay(mail.Host{Name: "relay.example", Port: 25}), false},
		{"pace", shaping.Limits{Receiver: "r", Connections: 10, PerConnection: 50, Rate: 1e6}, false},
		{"learning", carrier, false},
		{"filtered", carrier.Filtered("t/f", 5, time.Microsecond, false), false},
	} {
		b.Run(row.name, func(b *testing.B) {
			book := newBook(0)
			if row.free {
				book.cfg.Controller = func(l shaping.Limits) Controller { m := shaping.NewMachine(l); return free{&m} }
			}
			now := testStart
			ask := askFor(nil, 1, &row.limits, "k")
			ask.Outbox = &endless{}
			sessions := started(book.Step(now, ask))
			if len(sessions) != 1 {
				b.Fatal("no session")
			}
			taken := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250}}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				now = now.Add(100 * time.Microsecond)
				if p, v, at, _ := book.Next(now, sessions[0], true); p != nil {
					book.Settled(now, sessions[0], &taken)
					n++
				} else if v != Hold {
					b.Fatalf("%v at %v after %d", v, at, n)
				}
			}
		})
	}
}

// BenchmarkAskAmongKinds is what an ask costs the book where so many kinds of mail wait for a receiver that bears no more
// connections, such as those of many tenants' filters.
func BenchmarkAskAmongKinds(b *testing.B) {
	for _, kinds := range []int{1, 30, 1000} {
		b.Run(strconv.Itoa(kinds), func(b *testing.B) {
			book := newBook(0)
			plain := shaping.Limits{Receiver: "r", Connections: 2}
			var asks []protocol.Ask
			for i := range kinds {
				l := plain.Filtered(strconv.Itoa(i), 0, 0, false)
				a := askFor(&box{waiting: 1}, 1, &l, "k")
				a.Deadline = testStart.Add(time.Hour)
				book.Step(testStart, a)
				asks = append(asks, a)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				book.Step(testStart, asks[i%kinds])
			}
		})
	}
}
