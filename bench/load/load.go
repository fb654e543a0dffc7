package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Result is what a run came to.
type Result struct {
	Accepted   int           `json:"accepted"` // 250s
	Refused    int           `json:"refused"`  // answered 5xx: not tried again
	Deferred   int           `json:"deferred"` // answered 4xx: a fresh message took the place
	Cut        int           `json:"cut"`      // connection lost behind the dot: unknown, not in the ledger
	Reconnects int           `json:"reconnects"`
	First      time.Time     `json:"first"` // first MAIL written
	Last       time.Time     `json:"last"`  // last 250 read
	Elapsed    time.Duration `json:"elapsed_ns"`
	Rate       float64       `json:"rate"` // accepted per second
}

// Run sends cfg.Messages messages and returns when each has its 250 (or was refused for good), ctx ends, or a
// session gave up. The result is right in every case.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Result{}, err
	}
	book, err := openLedger(cfg.Ledger)
	if err != nil {
		return Result{}, err
	}
	r := &runner{cfg: cfg, writer: newWriter(cfg), ledger: book, start: clock.Wall()}
	r.left.Store(int64(cfg.Messages))
	if cfg.Rate > 0 {
		r.interval = time.Duration(float64(time.Second) / cfg.Rate)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	sessions := make([]*session, min(cfg.Sessions, cfg.Messages))
	for i := range sessions {
		sessions[i] = newSession(r)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := sessions[i].run(ctx); err != nil {
				cancel(err)
			}
		}()
	}
	wg.Wait()
	res := r.sum(sessions)
	if err := book.close(); err != nil {
		return res, fmt.Errorf("load: close ledger: %w", err)
	}
	if res.Accepted+res.Refused < cfg.Messages {
		return res, fmt.Errorf("load: %d of %d messages accepted: %w", res.Accepted, cfg.Messages, context.Cause(ctx))
	}
	return res, nil
}

// runner is what the sessions of a run share.
type runner struct {
	cfg      Config
	writer   *writer
	ledger   *ledger
	start    time.Time
	interval time.Duration // between messages over all sessions, 0 = none
	left     atomic.Int64  // 250s still wanted
	number   atomic.Int64  // of messages made
}

// take claims the next message, or tells that none is wanted any more.
func (r *runner) take() (number int, ok bool) {
	if r.left.Add(-1) < 0 {
		r.left.Add(1)
		return 0, false
	}
	return int(r.number.Add(1) - 1), true
}

// back returns a claim that came to nothing.
func (r *runner) back() { r.left.Add(1) }

// due tells when message number may go.
func (r *runner) due(number int) time.Time { return r.start.Add(time.Duration(number) * r.interval) }

func (r *runner) sum(sessions []*session) Result {
	var res Result
	for _, s := range sessions {
		res.Accepted += s.accepted
		res.Refused += s.refused
		res.Deferred += s.deferred
		res.Cut += s.cut
		res.Reconnects += s.reconnects
		if !s.first.IsZero() && (res.First.IsZero() || s.first.Before(res.First)) {
			res.First = s.first
		}
		if s.lastOK.After(res.Last) {
			res.Last = s.lastOK
		}
	}
	if res.Elapsed = res.Last.Sub(res.First); res.Elapsed > 0 {
		res.Rate = float64(res.Accepted) / res.Elapsed.Seconds()
	}
	return res
}
