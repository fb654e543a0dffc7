package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// smallDisk is the size of a disk that fills up soon, in octets.
const smallDisk = 448 << 20

// resumption is how long after the drain a disk may stay too full to take mail.
const resumption = 60 * time.Second

// Full lets the disk run full (goal R4). First somebody else takes the last octet of it while mail comes in and goes out.
// Then, with the receivers down, the engine accepts until there is no room: it has to refuse for the time being, live on,
// say so, and take mail again once the receivers have made room.
func Full(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	if err := canMount("mkfs.ext4"); err != nil {
		return r, err
	}
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return r, err
	}
	defer remove()
	cfg.say("full: from seed %d", cfg.Seed)
	l, err := cfg.newLife("full", cfg.dice(0))
	if err != nil {
		return r, err
	}
	defer l.close()
	f := &full{life: l, r: &r}
	disk := filepath.Join(cfg.Dir, "full.ext4")
	defer func() { _ = os.Remove(disk) }()
	defer f.mounts.close()
	err = image(ctx, disk, smallDisk, "mkfs.ext4", "-q", "-F", "-m", "0")
	if err == nil {
		err = f.loop(ctx, disk, filepath.Join(l.dir, "data"))
	}
	if err == nil {
		err = f.run(ctx)
	}
	if err != nil {
		return r, fmt.Errorf("full: seed %d: %w", cfg.Seed, err)
	}
	t, err := check(l.ledger, l.record)
	if err != nil {
		return r, err
	}
	t.judge(&r, "full")
	if t.copies > f.open {
		r.broke("full: %d copies, but only %d transactions can have been open", t.copies, f.open)
	}
	r.Line = fmt.Sprintf("faults full accepted=%d lost=%d dup=%d wrong=%d refusal=%q readyz=%q drain_s=%.1f resumed_s=%.1f outsider_died=%d seed=%d",
		t.Accepted, t.Lost+t.Refused, t.copies, t.Wrong+t.altered, f.refusal, f.reasons, f.drain.Seconds(), f.resumed.Seconds(), f.died, cfg.Seed)
	return r, nil
}

// full is the state of one such run.
type full struct {
	*life
	mounts
	r       *Report
	refusal string // what the client heard
	reasons string // what /readyz said
	drain   time.Duration
	resumed time.Duration // from the empty queue until mail is taken again
	died    int           // ends of the engine when the disk had not an octet left
	open    int
}

func (f *full) run(ctx context.Context) error {
	e, err := f.start(ctx)
	if err != nil {
		return err
	}
	defer func() { e.Crash() }()
	again, err := f.outsider(ctx, e)
	if again != nil {
		e = again
	}
	if err != nil {
		return err
	}
	if err := f.fillUp(ctx, e); err != nil {
		return err
	}
	s, err := f.sink(ctx)
	if err != nil {
		return err
	}
	defer s.Kill()
	begin := clock.Wall()
	if err := drained(ctx, e, s); err != nil {
		if errors.Is(err, errDied) {
			return err
		}
		f.r.broke("drain of the full disk: %v", err)
	}
	f.drain, begin = clock.Since(begin), clock.Wall()
	n := 0
	if err := until(ctx, e, resumption, "intake to resume", func() bool {
		n++
		a, err := offer(ctx, f.smtp, fmt.Sprintf("resumed%d", n), 10*time.Second)
		return err == nil && a.code == 250
	}); err != nil {
		_, reasons := ready(ctx, e)
		f.r.broke("the queue is empty, but: %v; /readyz: %s", err, reasons)
	} else if status, reasons := ready(ctx, e); status != 200 {
		f.r.broke("/readyz after the drain: %d %s", status, reasons)
	}
	f.resumed = clock.Since(begin)
	if err := drained(ctx, e, s); err != nil {
		f.r.broke("at the end: %v", err)
	}
	if err := e.Stop(); err != nil {
		f.r.broke("graceful stop: %v", err)
	}
	return s.Stop()
}

// fillUp accepts with nobody to deliver to until there is no room, and then insists for five seconds more.
func (f *full) fillUp(ctx context.Context, e *engine.Engine) error {
	l := f.load(ctx, load.Config{Messages: 1e6, Sessions: 20, Size: 16 << 10, Pipeline: true, Prefix: "full", Reconnect: quiet, Timeout: quiet})
	defer l.stop()
	n := 0
	err := until(ctx, e, 3*time.Minute, "the disk to be full", func() bool {
		n++
		a, err := offer(ctx, f.smtp, fmt.Sprintf("early%d", n), 10*time.Second)
		if err == nil && a.code != 250 {
			f.refusal = a.String()
			if !a.turnedAway() {
				f.r.broke("a full disk was answered %s", f.refusal)
			}
		}
		return err == nil && a.code != 250
	})
	if err != nil {
		return err
	}
	insist := clock.Wall()
	if err := until(ctx, e, 10*time.Second, "the load to insist", func() bool { return clock.Since(insist) > 5*time.Second }); err != nil {
		return err
	}
	var status int
	if err := until(ctx, e, 5*time.Second, "/readyz to say 503", func() bool {
		status, f.reasons = ready(ctx, e)
		return status == 503
	}); err != nil {
		f.r.broke("%v: %d %s", err, status, f.reasons)
	}
	if !containsWord(f.reasons, "disk") {
		f.r.broke("/readyz does not say disk: %d %s", status, f.reasons)
	}
	res := l.stop()
	f.cfg.say("full: accepted %d, then heard %s; deferred %d; /readyz: %s", res.Accepted, f.refusal, res.Deferred, f.reasons)
	if res.Refused > 0 {
		f.r.broke("%d messages were refused for good because the disk was full", res.Refused)
	}
	return nil
}

// outsider lets another program take all that is left of the disk while mail comes in and goes out. The engine should
// live on; should the kernel end it (a mapped page without a block behind it is SIGBUS), nothing acknowledged may be lost.
// It returns the engine that was started in its place.
func (f *full) outsider(ctx context.Context, e *engine.Engine) (*engine.Engine, error) {
	s, err := f.sink(ctx, "--latency", "5ms")
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	l := f.load(ctx, load.Config{Messages: 1e6, Sessions: 20, Size: 8 << 10, Rate: 500, Prefix: "outsider", Reconnect: quiet, Timeout: quiet})
	defer l.stop()
	filler := filepath.Join(f.dir, "data", "somebody-elses")
	if err := f.strike(ctx, e, l, 200, 0); err != nil {
		return nil, err
	}
	took, err := fill(filler)
	if err != nil {
		return nil, err
	}
	f.cfg.say("full: somebody else took %d MiB, the disk has nothing left", took>>20)
	begin := clock.Wall()
	err = until(ctx, e, 20*time.Second, "a full disk to pass", func() bool { return clock.Since(begin) > 5*time.Second })
	l.stop()
	if rerr := os.Remove(filler); rerr != nil {
		return nil, rerr
	}
	var again *engine.Engine
	if errors.Is(err, errDied) {
		f.died++
		f.r.broke("the engine died when somebody else took the last octet of the disk: %v\n%s", e.Wait(ctx), f.lastWords())
	}
	if status, reasons := ready(ctx, e); err != nil || containsWord(reasons, "store") {
		f.cfg.say("full: restart, /readyz was %d %s", status, reasons)
		e.Crash()
		if again, err = f.start(ctx); err != nil {
			return nil, fmt.Errorf("restart: %w", err)
		}
		e = again
	}
	if err := drained(ctx, e, s); err != nil {
		f.r.broke("after somebody else's full disk: %v", err)
	}
	c, err := s.counters(ctx)
	if err != nil {
		return again, err
	}
	f.open = int(c.MaxOpen)
	return again, s.Stop()
}
