package actors_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

var fourSources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"),
	netip.MustParseAddr("127.0.0.4"), netip.MustParseAddr("127.0.0.5")}

// TestRacingOffersAndPassivation is for the race detector: destinations come and go while work arrives for them.
func TestRacingOffersAndPassivation(t *testing.T) {
	b := newBed(t, func(c *actors.Config) { c.Passivate = time.Microsecond })
	b.courier.Idle = time.Millisecond
	const n, workers = 500, 4
	jobs := make([][]mail.Job, workers)
	for w := range workers {
		for i := range n {
			j := b.job(many(5)(i))
			b.queue.Put(j.Body, j.Delivery)
			jobs[w] = append(jobs[w], j)
		}
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := range jobs[w] {
				b.Offer(jobs[w][i : i+1])
				if i%16 == 0 {
					b.Destinations().Passivate(0)
				}
			}
		})
	}
	wait.Wait()
	b.settle(t, workers*n)
}

func TestBlockedSourceLeavesTheOthers(t *testing.T) { // R43, R67
	b := newBed(t, func(c *actors.Config) {
		c.Sources = map[string][]netip.Addr{"default": fourSources}
	})
	var mu sync.Mutex
	from := map[netip.Addr]int{}
	b.courier.Connect = func(t protocol.Trip) mail.Outcome {
		if t.Source == fourSources[0] {
			return mail.Outcome{Result: mail.Deferred, Stage: mail.StageGreeting, Status: mail.StatusServer, Detail: "connection reset"}
		}
		return mail.Outcome{}
	}
	b.courier.Answer = func(t protocol.Trip, _ *mail.Job) mail.Outcome {
		mu.Lock()
		defer mu.Unlock()
		from[t.Source]++
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	// By MX the block lasts a minute; that of a static route may be over, and its probe refused, while the test runs.
	b.resolver.Answer = func(mail.Domain) (mail.Route, mail.Outcome) {
		return mail.Route{Hosts: []mail.Host{{Name: "mx.example", Port: 25}}}, mail.Outcome{}
	}
	b.submit(600, many(300))
	b.settle(t, 600)
	mu.Lock()
	defer mu.Unlock()
	for i, a := range fourSources {
		if (from[a] == 0) != (i == 0) {
			t.Errorf("%d messages left by %s; only the first source is reset", from[a], a)
		}
	}
	if n := b.Counters().Source.Blocks.Load(); n != 1 {
		t.Errorf("%d blocks, want the one of %s", n, fourSources[0])
	}
	for _, s := range b.Sources().Snapshot() {
		for _, r := range s.Receivers {
			if blocked := r.State == shaping.Blocked; blocked != (s.Source == fourSources[0]) {
				t.Errorf("%s stands %v to %s", s.Source, r.State, r.Receiver)
			}
		}
	}
}

// What is greylisted comes again from the source it came from, since a receiver that greylists would not know another;
// from another where its own is blocked, rather than not at all.
func TestGreylistedMailKeepsItsSource(t *testing.T) {
	grey := &mail.Advice{Rule: "any/greylisted", Action: mail.ActSameSource}
	for _, blocked := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocked=%v", blocked), func(t *testing.T) {
			b := newBed(t, func(c *actors.Config) {
				c.Sources = map[string][]netip.Addr{"default": fourSources}
			})
			var mu sync.Mutex
			var shut atomic.Bool
			from := map[mail.Seq][]netip.Addr{}
			first, all := map[netip.Addr]int{}, make(chan struct{})
			b.courier.Connect = func(t protocol.Trip) mail.Outcome {
				if shut.Load() && t.Source == fourSources[0] {
					return mail.Outcome{Result: mail.Deferred, Stage: mail.StageGreeting, Reply: smtp.Reply{Code: 421}}
				}
				return mail.Outcome{}
			}
			b.courier.Answer = func(t protocol.Trip, j *mail.Job) mail.Outcome {
				mu.Lock()
				seq := j.Delivery.Seq
				from[seq] = append(from[seq], t.Source)
				again := len(from[seq]) > 1
				if !again {
					if first[t.Source]++; first[t.Source] == 1 && len(first) == len(fourSources) {
						close(all)
					}
				}
				mu.Unlock()
				if again {
					return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Source: t.Source}
				}
				<-all // answers that take no time would have whichever source comes first carry everything
				return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Scope: mail.ScopeRecipient, Source: t.Source,
					Reply: smtp.Reply{Code: 450}, Advice: grey}
			}
			b.submit(400, many(40))
			b.until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(from) == 400 })
			shut.Store(blocked)
			b.clock.Advance(time.Minute)
			b.until(t, func() bool {
				b.clock.Advance(100 * time.Millisecond)
				return b.queue.Finals() == 400
			})
			mu.Lock()
			defer mu.Unlock()
			if len(first) != len(fourSources) {
				t.Errorf("first attempts from %v only, want all four", first)
			}
			for seq, as := range from {
				if len(as) != 2 || as[0] != as[1] && !(blocked && as[0] == fourSources[0]) {
					t.Errorf("delivery %d was sent from %v", seq, as)
				}
			}
		})
	}
}

// TestListedMailGoesElsewhere: a delivery that was refused because its source is listed is tried again from another source,
// although the source goes on with other mail (R43, any/listed of receivers.md 3).
func TestListedMailGoesElsewhere(t *testing.T) {
	listed := &mail.Advice{Rule: "any/listed", Action: mail.ActSuspend, For: time.Hour, After: 1000, Within: time.Hour, Elsewhere: true}
	b := newBed(t, func(c *actors.Config) {
		c.Sources = map[string][]netip.Addr{"default": fourSources}
	})
	var mu sync.Mutex
	from := map[mail.Seq][]netip.Addr{}
	b.courier.Answer = func(t protocol.Trip, j *mail.Job) mail.Outcome {
		mu.Lock()
		defer mu.Unlock()
		seq := j.Delivery.Seq
		from[seq] = append(from[seq], t.Source)
		if seq%20 == 0 && len(from[seq]) == 1 {
			return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Scope: mail.ScopeSource, Source: t.Source,
				Reply: smtp.Reply{Code: 554, Text: "blocked using a list"}, Advice: listed}
		}
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Source: t.Source}
	}
	b.submit(800, many(40))
	b.until(t, func() bool {
		b.clock.Advance(100 * time.Millisecond)
		return b.queue.Finals() == 800
	})
	mu.Lock()
	defer mu.Unlock()
	again, second := 0, map[netip.Addr]bool{}
	for seq, as := range from {
		if seq%20 != 0 {
			continue
		}
		again++
		if len(as) != 2 || as[0] == as[1] {
			t.Errorf("delivery %d was sent from %v", seq, as)
		} else {
			second[as[1]] = true
		}
	}
	if again != 40 || len(second) < 2 {
		t.Errorf("%d went on by %d sources", again, len(second))
	}
}

func TestRetriesUntilLifetimeEnds(t *testing.T) { // R46
	b := newBed(t, nil)
	b.courier.Answer = func(protocol.Trip, *mail.Job) mail.Outcome {
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 451, Text: "later"}}
	}
	b.submit(1, one(""))
	seq := b.seq
	b.until(t, func() bool {
		if b.queue.Finals() == 1 {
			return true
		}
		b.clock.Advance(5 * time.Second)
		return false
	})
	e, _ := b.queue.Final(seq)
	if e.Kind != mail.EventFailed || e.Status != mail.StatusTimeout {
		t.Errorf("ended as %v with status %d, want failed with status %d", e.Kind, e.Status, mail.StatusTimeout)
	}
	if n := b.courier.Sent.Load(); n < 24 || n > 34 {
		t.Errorf("%d attempts in 30 minutes, want about 30", n)
	}
}

// TestMessagesThatCannotBeRead: a damaged one fails at once, and that says nothing about its address; one that the store
// cannot read just now is delivered later, and nothing is counted as an attempt that was none.
func TestMessagesThatCannotBeRead(t *testing.T) {
	b := newBed(t, nil)
	damaged, busy := b.job("one.example"), b.job("one.example")
	var well atomic.Bool
	b.queue.Unread = func(id mail.MessageID) error {
		switch {
		case id == damaged.Delivery.Message:
			return fmt.Errorf("read: %w", mail.ErrDamaged)
		case !well.Load():
			return errors.New("store is busy")
		}
		return nil
	}
	for _, j := range []mail.Job{damaged, busy} {
		b.queue.Put(j.Body, j.Delivery)
	}
	b.Recover(mail.Destination{Domain: "one.example"}, 2, 0, b.clock.Now())
	b.settle(t, 1)
	e, _ := b.queue.Final(damaged.Delivery.Seq)
	if e.Kind != mail.EventFailed || e.Attempt != 0 || !e.NoSuppress {
		t.Errorf("damaged: ended as %v after %d attempts, says nothing of the address: %v", e.Kind, e.Attempt, e.NoSuppress)
	}
	for range 5 {
		b.clock.Advance(2 * time.Minute)
		b.until(t, func() bool { st := b.Destinations().Snapshot("one.example"); return len(st) == 1 && st[0].Flight == 0 })
	}
	well.Store(true)
	b.until(t, func() bool {
		b.clock.Advance(5 * time.Second)
		return b.queue.Finals() == 2
	})
	if e, _ := b.queue.Final(busy.Delivery.Seq); e.Kind != mail.EventDelivered || e.Attempt != 1 {
		t.Errorf("busy: ended as %v after %d attempts", e.Kind, e.Attempt)
	}
}

func TestSuspension(t *testing.T) {
	b := newBed(t, nil)
	s := destination.Suspension{Domain: "one.example", Reason: "complaints", Author: "root"}
	b.Destinations().Suspend(s)
	b.submit(10, one(""))
	b.submit(10, many(3))
	b.settle(t, 10)
	b.until(t, func() bool {
		st := b.Destinations().Snapshot("one.example")
		return len(st) == 1 && st[0].State == destination.StateSuspended && st[0].Waiting == 10 && st[0].Detail == "complaints"
	})
	b.Destinations().Unsuspend(s)
	b.settle(t, 20)
}

func TestCourierThatPanicsLosesNothing(t *testing.T) {
	b := newBed(t, nil)
	b.courier.Answer = func(protocol.Trip, *mail.Job) mail.Outcome {
		if n := b.courier.Sent.Load(); n == 5 || n == 9 {
			b.courier.Sent.Add(1)
			panic("injected into a courier")
		}
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	b.submit(20, one(""))
	b.until(t, func() bool {
		b.clock.Advance(time.Second) // what was cleared is in doubt, and is tried again after its interval
		return b.queue.Finals() == 20
	})
	if n := b.Counters().Source.Lost.Load(); n == 0 {
		t.Error("the courier was made to fail and nobody counted it")
	}
	if n := b.Counters().Destination.InDoubt.Load(); n == 0 {
		t.Error("an attempt without an answer is not in doubt")
	}
}

func TestLimitsHold(t *testing.T) { // R39: never more connections than the rule allows
	b := newBed(t, func(c *actors.Config) { c.Sources = map[string][]netip.Addr{"default": fourSources[:2]} })
	b.resolver.Answer = func(d mail.Domain) (mail.Route, mail.Outcome) {
		return mail.Route{Hosts: []mail.Host{{Name: "mx.shared.example", Port: 25}}}, mail.Outcome{}
	}
	rules, err := shaping.NewRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	limits := rules.ByRoute("d1.example", mail.Route{Hosts: []mail.Host{{Name: "mx.shared.example", Port: 25}}})
	b.submit(100, many(50))
	b.until(t, func() bool {
		b.clock.Advance(time.Second)
		return b.queue.Finals() == 100
	})
	for _, a := range fourSources[:2] {
		most := b.courier.Most(a.String(), limits.Receiver)
		if most == 0 || most > int64(limits.Connections) {
			t.Errorf("%d connections at once from %s to %s, it bears %d", most, a, limits.Receiver, limits.Connections)
		}
	}
}

// lines is a log of which as many lines are kept as there is room for.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

// TestNothingIsSentOnceTheStoreHasFailed: what is sent without an outcome that can be kept is sent again after the
// restart, so there may be one such mail for each session that is out, not one for each that could be opened.
func TestNothingIsSentOnceTheStoreHasFailed(t *testing.T) {
	told := make(lines, 1)
	b := newBed(t, func(c *actors.Config) {
		c.Log = slog.New(slog.NewTextHandler(told, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	b.courier.Await = true
	b.queue.Manual = true
	b.submit(400, many(10))
	b.until(t, func() bool { return b.courier.Sent.Load() > 20 })
	b.queue.Break(errors.New("input/output error"))
	b.until(t, func() bool { b.queue.Commit(); return b.courier.Open() == 0 })
	if why := <-told; !b.Halted() || !strings.Contains(why, "input/output error") {
		t.Errorf("halted %v, told %q", b.Halted(), why)
	}
	sent, runs := b.courier.Sent.Load(), b.courier.Runs.Load()
	if sent > runs {
		t.Errorf("%d transactions on %d connections: some went on without a durable outcome", sent, runs)
	}
	b.submit(10, many(20))
	b.clock.Advance(time.Hour) // every pause is over
	b.Destinations().Changed()
	b.until(t, func() bool { // each destination has had its say
		for _, s := range b.Destinations().Snapshot("") {
			if s.Reason != protocol.ReasonStorage {
				return false
			}
		}
		return true
	})
	if now := b.courier.Runs.Load(); now != runs {
		t.Errorf("%d connections were opened after the store had failed", now-runs)
	}
}

// TestHaltCutsShort: after a failure of the store nothing waits for peers that do not answer.
func TestHaltCutsShort(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	b := newBed(t, nil)
	b.courier.Answer = func(protocol.Trip, *mail.Job) mail.Outcome {
		<-hang
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	b.submit(20, one(""))
	b.until(t, func() bool { return b.courier.Open() > 0 })
	b.Halt()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := clock.Wall()
	if err := b.Stop(ctx); err == nil {
		t.Error("sessions that hang have ended")
	}
	if took := clock.Since(begin); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// TestSlowDotsHoldUpNobody: sessions behind a dot that is not answered are no help to the mail that waits.
func TestSlowDotsHoldUpNobody(t *testing.T) {
	hang := make(chan struct{})
	b := newBed(t, nil)
	b.courier.Ahead = true
	b.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
		if strings.HasPrefix(string(j.Delivery.To), "slow") {
			<-hang
		}
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	const n, slow = 80, 24
	for i := range n {
		j := b.job(many(3)(i))
		if i%10 < 3 {
			j.Delivery.To = "slow" + j.Delivery.To
		}
		b.queue.Put(j.Body, j.Delivery)
		b.Offer([]mail.Job{j})
	}
	begin := b.clock.Now()
	b.until(t, func() bool {
		if b.queue.Finals() == n-slow {
			return true
		}
		b.clock.Advance(100 * time.Millisecond)
		return false
	})
	if took := b.clock.Now().Sub(begin); took > 40*time.Second {
		t.Errorf("quick mail waited %s behind %d slow dots", took, slow)
	}
	close(hang) // those that were held up find that what they took ahead is gone
	b.settle(t, n)
	if sent := b.courier.Sent.Load(); sent != n {
		t.Errorf("%d transactions for %d deliveries", sent, n)
	}
}

// TestJumpBlocksOneSource: docomo says "Unknown user" after DATA where a recipient's filter refuses a mail, and where it refuses the source.
// A source for which the share of that jumps is blocked there, and names the rule and the answer; a list that many filters refuse
// blocks none; and the others go on (receivers.md 3).
func TestJumpBlocksOneSource(t *testing.T) {
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	filtered := smtp.Reply{Code: 550, Text: "Unknown user"}
	for _, row := range []struct {
		name    string
		hits    func(netip.Addr) int // so many of ten mails of the second part are refused; one of the first
		blocked []netip.Addr
	}{
		{"one source", func(a netip.Addr) int {
			if a == fourSources[0] {
				return 9
			}
			return 1
		}, fourSources[:1]},
		{"a list", func(netip.Addr) int { return 4 }, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBed(t, func(c *actors.Config) {
				c.Sources = map[string][]netip.Addr{"default": fourSources}
			})
			b.resolver.Answer = func(mail.Domain) (mail.Route, mail.Outcome) {
				return mail.Route{Hosts: []mail.Host{{Name: "mfsmax.docomo.ne.jp", Port: 25}}}, mail.Outcome{}
			}
			var mu sync.Mutex
			second := false
			sent := map[netip.Addr]int{}
			b.courier.Answer = func(trip protocol.Trip, j *mail.Job) mail.Outcome {
				mu.Lock()
				defer mu.Unlock()
				hits := 1
				if second {
					hits = row.hits(trip.Source)
				}
				if sent[trip.Source]++; sent[trip.Source]%10 >= hits {
					return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Source: trip.Source}
				}
				return rules.Classify("docomo", mail.Outcome{Result: mail.Failed, Stage: mail.StageDot, Reply: filtered, Source: trip.Source}, j.Delivery.To)
			}
			part := func(n int) {
				done := b.queue.Finals() + n
				b.submit(n, func(int) mail.Domain { return "docomo.ne.jp" })
				b.until(t, func() bool {
					b.clock.Advance(100 * time.Millisecond)
					return b.queue.Finals() == done
				})
			}
			part(800)
			mu.Lock()
			second = true
			for _, a := range fourSources {
				if sent[a] < 150 {
					t.Errorf("%d mails by %s in the first part: nothing is usual yet", sent[a], a)
				}
			}
			clear(sent)
			mu.Unlock()
			part(800)
			var blocked []netip.Addr
			for _, s := range b.Sources().Snapshot() {
				for _, r := range s.Receivers {
					if r.State != shaping.Blocked {
						continue
					}
					blocked = append(blocked, s.Source)
					if r.Receiver != "docomo" || r.Cause.Rule != "docomo/filtered/jump" || !strings.Contains(r.Cause.Reply, filtered.Text) {
						t.Errorf("%s is blocked by %s because of %+v", s.Source, r.Receiver, r.Cause)
					}
				}
			}
			if !slices.Equal(blocked, row.blocked) {
				t.Errorf("blocked: %v, want %v", blocked, row.blocked)
			}
			for a, n := range sent {
				if slices.Contains(row.blocked, a) && n > 100 {
					t.Errorf("%d mails by %s in spite of what they were answered", n, a)
				}
			}
		})
	}
}
