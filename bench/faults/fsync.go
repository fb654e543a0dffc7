package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// sickDisk is the size of the disk whose writes begin to fail, and of the memory that holds what it has written.
const (
	sickDisk   = 2 << 30
	sickMemory = 3 << 30
)

// Fsync makes the disk under the engine fail (threat T25, goal R4): it is a file in memory, sparse, and when the memory
// is taken every write to a block not written before is an I/O error, which syncs report. The engine has to answer 4xx,
// say so, acknowledge nothing more, and lose nothing once the disk is well and it is started again.
func Fsync(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	if err := canMount("mkfs.ext4"); err != nil {
		return r, err
	}
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return r, err
	}
	defer remove()
	cfg.say("fsync: from seed %d", cfg.Seed)
	l, err := cfg.newLife("fsync", cfg.dice(0))
	if err != nil {
		return r, err
	}
	defer l.close()
	f := &sick{life: l, r: &r, memoryAt: filepath.Join(cfg.Dir, "memory")}
	defer f.mounts.close()
	if err := f.run(ctx); err != nil {
		return r, fmt.Errorf("fsync: seed %d: %w", cfg.Seed, err)
	}
	t, err := check(l.ledger, l.record)
	if err != nil {
		return r, err
	}
	t.judge(&r, "fsync")
	if t.copies > f.open {
		r.broke("fsync: %d copies, but only %d transactions can have been open", t.copies, f.open)
	}
	r.Line = fmt.Sprintf("faults fsync accepted=%d lost=%d dup=%d bound=%d wrong=%d refusal=%q readyz=%q refused_ms=%d stop_ms=%d died=%d seed=%d",
		t.Accepted, t.Lost+t.Refused, t.copies, f.open, t.Wrong+t.altered, f.refusal, f.reasons, f.took.Milliseconds(), f.peace.Milliseconds(), f.died, cfg.Seed)
	return r, nil
}

// sick is the state of one such run.
type sick struct {
	*life
	mounts
	r        *Report
	memoryAt string
	refusal  string
	reasons  string
	took     time.Duration // of the first temporary refusal, from the connect to the reply
	peace    time.Duration // of its stop
	died     int
	open     int
}

func (f *sick) run(ctx context.Context) error {
	rng := f.cfg.dice(1)
	if err := f.memory(ctx, sickMemory, f.memoryAt); err != nil {
		return err
	}
	disk, data := filepath.Join(f.memoryAt, "disk.ext4"), filepath.Join(f.dir, "data")
	if err := image(ctx, disk, sickDisk, "mkfs.ext4", "-q", "-F", "-E", "nodiscard"); err != nil {
		return err
	}
	if err := errors.Join(f.loop(ctx, disk, data), single(data)); err != nil {
		return err
	}
	s, err := f.sink(ctx, "--latency", "2ms")
	if err != nil {
		return err
	}
	defer s.Kill()
	e, err := f.start(ctx)
	if err != nil {
		return err
	}
	defer func() { e.Crash() }()
	if err := f.sicken(ctx, e, 2000+rng.IntN(4000)); err != nil {
		return err
	}
	c, err := s.counters(ctx)
	if err != nil {
		return err
	}
	f.open = int(c.MaxOpen)
	begin := clock.Wall()
	if err := e.Stop(); err != nil && f.died == 0 {
		f.cfg.say("fsync: the failed engine ended so: %v", err)
	}
	if f.peace = clock.Since(begin); f.peace > 10*time.Second {
		f.r.broke("the failed engine took %s to stop", f.peace)
	}
	// The disk is well again: memory is back, and the file system is read anew, as after a change of the cable.
	if err := errors.Join(f.unmount(data), os.Remove(filepath.Join(f.memoryAt, "filler"))); err != nil {
		return err
	}
	if err := f.loop(ctx, disk, data); err != nil {
		return err
	}
	again, err := f.start(ctx)
	if err != nil {
		return fmt.Errorf("restart on the disk that is well again: %w", err)
	}
	e = again
	if err := drained(ctx, e, s); err != nil {
		f.r.broke("after the restart: %v", err)
	}
	if a, err := offer(ctx, f.smtp, "well", 10*time.Second); err != nil || a.code != 250 {
		f.r.broke("after the restart a message was answered %s (%v)", a, err)
	}
	if err := drained(ctx, e, s); err != nil {
		f.r.broke("after the restart: %v", err)
	}
	if err := e.Stop(); err != nil {
		f.r.broke("graceful stop: %v", err)
	}
	return s.Stop()
}

// sicken makes writes fail under full load and watches how the engine takes it.
func (f *sick) sicken(ctx context.Context, e *engine.Engine, moment int) error {
	l := f.load(ctx, load.Config{Messages: 1e6, Sessions: 50, Size: 4000, Pipeline: true, Prefix: "fsync", Reconnect: quiet, Timeout: quiet})
	defer l.stop()
	if err := f.strike(ctx, e, l, moment, 0); err != nil {
		return err
	}
	took, err := fill(filepath.Join(f.memoryAt, "filler"))
	if err != nil {
		return err
	}
	f.cfg.say("fsync: the disk's memory is taken (%d MiB): new blocks fail from now on", took>>20)
	n := 0
	err = until(ctx, e, time.Minute, "a refusal", func() bool {
		n++
		a, err := offer(ctx, f.smtp, fmt.Sprintf("sick%d", n), 10*time.Second)
		if err != nil {
			f.refusal = err.Error()
			return false
		}
		f.refusal, f.took = a.String(), a.took
		return a.code != 250
	})
	switch {
	case errors.Is(err, errDied):
		f.died++
		f.r.broke("the engine died of the failing disk: %v\n%s", e.Wait(ctx), f.lastWords())
		l.stop()
		return nil
	case err != nil:
		f.r.broke("%v; the last answer was %s", err, f.refusal)
	}
	book := tail{path: f.ledger}
	if err := book.look(); err != nil {
		return err
	}
	if err := until(ctx, e, 5*time.Second, "/readyz to say store", func() bool {
		_, f.reasons = ready(ctx, e)
		return containsWord(f.reasons, "store")
	}); err != nil {
		f.r.broke("%v: it says %s", err, f.reasons)
		if errors.Is(err, errDied) {
			f.died++
		}
	}
	l.stop()
	t, err := check(f.ledger, f.record)
	if err != nil {
		return err
	}
	f.cfg.say("fsync: accepted %d, then heard %s; /readyz: %s", t.Accepted, f.refusal, f.reasons)
	if !strings.HasPrefix(f.refusal, "4") {
		f.r.broke("a failing disk was answered %s", f.refusal)
	}
	now := book.lines
	if err := book.look(); err != nil {
		return err
	}
	if more := book.lines - now; more > 0 {
		f.r.broke("%d messages were acknowledged after the engine had begun to refuse", more)
	}
	return nil
}
