package webhook

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// tally is a receiver that remembers what it took, and whether it was told anything twice.
type tally struct {
	*httptest.Server
	answer func(sequence uint64) int // 0 = 200
	hold   chan struct{}             // a post is answered when something can be received; nil = at once

	mu        sync.Mutex
	now, most int // posts in flight
	begun     int // posts
	refused   int
	events    map[string]int    // recipient -> how often it was taken
	bodies    map[string]string // name of a post -> what it said
	taken     []uint64          // sequences, in the order in which they were taken
}

func startTally(t testing.TB, hold chan struct{}, answer func(sequence uint64) int) *tally {
	c := &tally{answer: answer, hold: hold, events: map[string]int{}, bodies: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		c.begin(t, r.Header.Get("webhook-id"), &m)
		if c.hold != nil {
			<-c.hold
		}
		w.WriteHeader(c.end(t, &m))
	}))
	t.Cleanup(func() { // a test that failed has posts waiting
		over := make(chan struct{})
		go func() {
			defer close(over)
			c.Close()
		}()
		for hold != nil {
			select {
			case hold <- struct{}{}:
			case <-over:
				return
			}
		}
		<-over
	})
	return c
}

func (c *tally) begin(t testing.TB, id string, m *message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun++
	c.now++
	c.most = max(c.most, c.now)
	body := fmt.Sprint(m.Sequence, m.Composition, len(m.Events), string(m.Events[0]))
	if before, said := c.bodies[id]; said && before != body {
		t.Errorf("%s says %s, and said %s", id, body, before)
	}
	c.bodies[id] = body
}

func (c *tally) end(t testing.TB, m *message) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	if c.answer != nil {
		if status := c.answer(m.Sequence); status != 0 {
			c.refused++
			return status
		}
	}
	for _, raw := range m.Events {
		var d struct{ To string }
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Error(err)
		}
		c.events[d.To]++
	}
	c.taken = append(c.taken, m.Sequence)
	return http.StatusOK
}

func (c *tally) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events)
}

// plain is a rig that speaks http.
func plain(t testing.TB, l *memoryLog, m *memory, c *clock.Clock) *Poster {
	return New(Config{Node: "n1", Version: "test", Events: l, Memory: m, Clock: c, Allowed: func(netip.AddrPort) error { return nil },
		Plain: true, Log: slog.New(slog.DiscardHandler), Posted: func(string, int) {}})
}

// TestWindow: while the receiver takes them, more and more posts are in flight, up to eight and no more; every event
// comes once, and the posts are numbered without gaps.
func TestWindow(t *testing.T) {
	hold := make(chan struct{})
	to := startTally(t, hold, nil)
	l := &memoryLog{wake: make(chan struct{})}
	p := plain(t, l, &memory{kept: map[string]string{}}, &clock.Clock{})
	defer p.Close()
	p.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
	const n = 4000
	l.add(accepted(0, n)...)
	begun := func() int {
		to.mu.Lock()
		defer to.mu.Unlock()
		return to.begun
	}
	// Waves of 1, 2, 4 and 8 batches: none is answered before all of it is there.
	done := 0
	for _, wave := range []int{1, 2, 4, 8, 8, 8, 8} {
		mustBecome(t, fmt.Sprintf("%d posts in flight after %d", wave, done), func() bool { return begun() == done+wave })
		// A wave is as large as the log is read ahead: the next one may be cut as soon as this one is answered.
		ahead := min(n, (done+wave)*maxBatch+waiting)
		mustBecome(t, fmt.Sprintf("%d events read", ahead), func() bool { return l.handed.Load() >= int64(ahead) })
		for range wave {
			hold <- struct{}{}
		}
		done += wave
	}
	mustBecome(t, "the last one", func() bool { return begun() == n/maxBatch })
	hold <- struct{}{}
	mustBecome(t, "all taken", func() bool { return to.count() == n })
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.most != maxWindow {
		t.Errorf("%d in flight at once", to.most)
	}
	slices.Sort(to.taken)
	for i, s := range to.taken {
		if s != uint64(i+1) {
			t.Fatalf("sequence %d at place %d", s, i)
		}
	}
	for a, times := range to.events {
		if times != 1 {
			t.Errorf("%s came %d times", a, times)
		}
	}
}

// TestTroubleInAWave: a post of many that is not taken is said again by itself, after a stop or a crash as well, in the
// same words and under the same name; those that were taken are not, unless the crash took the note of it along.
func TestTroubleInAWave(t *testing.T) {
	for _, row := range []struct {
		name   string
		end    string
		repeat bool // posts that were taken may come again
	}{{"a while later", "", false}, {"after a stop", "stop", false}, {"after a crash", "crash", true}} {
		t.Run(row.name, func(t *testing.T) {
			down := true
			to := startTally(t, nil, func(sequence uint64) int {
				if down && sequence == 5 { // the second of the wave of four
					return http.StatusBadGateway
				}
				return 0
			})
			l, kept, c := &memoryLog{wake: make(chan struct{})}, &memory{kept: map[string]string{}}, &clock.Clock{}
			p := plain(t, l, kept, c)
			hooks := []Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}}
			p.Use(hooks)
			const n = 2000
			l.add(accepted(0, n)...)
			mustBecome(t, "trouble", func() bool {
				to.mu.Lock()
				defer to.mu.Unlock()
				return to.refused > 0
			})
			to.mu.Lock()
			down = false
			to.mu.Unlock()
			switch row.end {
			case "":
				mustBecome(t, "all taken", func() bool {
					c.Advance(20 * time.Second)
					return to.count() == n
				})
			case "crash": // the disk is as it was before the wave was answered
				kept.mu.Lock()
				kept.broken = true
				kept.mu.Unlock()
				fallthrough
			default:
				p.Close()
				kept.broken = false
				p = plain(t, l, kept, c)
				p.Use(hooks)
				mustBecome(t, "all taken", func() bool { return to.count() == n })
			}
			p.Close()
			to.mu.Lock()
			defer to.mu.Unlock()
			for a, times := range to.events {
				if times != 1 && !row.repeat || times > 2 {
					t.Errorf("%s came %d times", a, times)
				}
			}
			if len(to.bodies) != n/maxBatch {
				t.Errorf("%d names of posts", len(to.bodies))
			}
		})
	}
}

// TestPurgedWave: a wave of which nothing is left in the log ends where it ended, so that the next one begins there.
func TestPurgedWave(t *testing.T) {
	p := plain(t, &memoryLog{wake: make(chan struct{})}, &memory{kept: map[string]string{}}, &clock.Clock{})
	defer p.Close()
	s := newStream(p, Hook{}, "webhook-x", "")
	s.now = progress{From: "10", Until: "20", Taken: []int{0}, Sequence: 3, Born: 7}
	items := make(chan item, 1)
	items <- item{position: "30"}
	wave, end, err := s.gather(t.Context(), items)
	if err != nil || len(wave) != 0 || end != "20" || s.now.From != "20" || s.now.Until != "" || s.now.Sequence != 3 || len(s.held) != 1 {
		t.Errorf("%d events to %q, %v; then %+v, %d held", len(wave), end, err, s.now, len(s.held))
	}
}

// BenchmarkPost posts events to a receiver of this machine that takes its time for each answer, and tells how many came
// in a second.
func BenchmarkPost(b *testing.B) {
	for _, latency := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			var mu sync.Mutex
			got, all := 0, make(chan struct{})
			to := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				var m message
				if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
					b.Error(err)
				}
				timer := time.NewTimer(latency)
				<-timer.C
				mu.Lock()
				defer mu.Unlock()
				if got += len(m.Events); got == b.N {
					close(all)
				}
			}))
			defer to.Close()
			l := &memoryLog{wake: make(chan struct{})}
			p := plain(b, l, &memory{kept: map[string]string{}}, &clock.Clock{})
			defer p.Close()
			p.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
			list := accepted(0, b.N)
			b.ResetTimer()
			l.add(list...)
			<-all
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
