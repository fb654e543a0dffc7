package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	hostSize  = 24 << 30 // XFS that holds the disk and its clones, sparse
	diskSize  = 2 << 30  // ext4 with the engine's data, sparse
	imageLoad = 4000     // messages between two clones, about
)

// cut is one power cut: the disk as it was at a moment, and what had been promised and delivered around it.
type cut struct {
	image    string
	ledger   int64 // octets of the ledger before the clone was begun: all this must be in the clone
	before   int64 // octets of the record before the clone was begun
	after    int64 // octets of the record when the clone was done
	promised int   // lines of the ledger
}

// power is a rig of decision 10: the engine's data lies on ext4 in a file on XFS, and a reflink clone of that file is
// what a power cut leaves behind: everything the engine had not made durable is missing in it.
type power struct {
	*life
	mounts
	host  string // where XFS is mounted
	disk  string // the ext4 file
	cuts  []cut
	open  int // connections to the receivers at most
	start []time.Duration
}

// Power takes cfg.Runs clones of the disk under an engine that works at full speed, and lets another engine go on from
// each (goal R2): it must open by itself and deliver what was acknowledged and not delivered before the cut.
func Power(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	if err := canMount("mkfs.ext4", "mkfs.xfs"); err != nil {
		return r, err
	}
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return r, err
	}
	defer remove()
	cfg.Runs = or(cfg.Runs, 20)
	rng := cfg.dice(0)
	cfg.say("power: %d images from seed %d", cfg.Runs, cfg.Seed)
	l, err := cfg.newLife("power", rng)
	if err != nil {
		return r, err
	}
	defer l.close()
	p := &power{life: l, host: filepath.Join(cfg.Dir, "host")}
	defer func() { _ = os.Remove(filepath.Join(cfg.Dir, "host.xfs")) }()
	defer p.mounts.close()
	if err := p.build(ctx); err != nil {
		return r, fmt.Errorf("power: %w", err)
	}
	if err := p.run(ctx, &r); err != nil {
		return r, fmt.Errorf("power: seed %d: %w", cfg.Seed, err)
	}
	var lost, worst, wrong, waiting int
	for i, c := range p.cuts {
		t, left, copies, err := p.revive(ctx, i, c, &r)
		if errors.Is(err, engine.ErrNotReady) {
			r.broke("image %d: did not open by itself: %.500v", i, err)
		} else if err != nil {
			return r, fmt.Errorf("power: image %d of seed %d: %w", i, cfg.Seed, err)
		}
		cfg.say("power image=%d promised=%d undelivered=%d lost=%d dup=%d bound=%d wrong=%d", i, t.Accepted, left, t.Lost, copies, p.open, t.Wrong)
		lost, wrong, worst, waiting = lost+t.Lost+t.Refused, wrong+t.Wrong+t.altered, max(worst, copies), waiting+left
	}
	middle, largest := median(p.start)
	r.Line = fmt.Sprintf("faults power images=%d undelivered=%d lost=%d dup_max=%d bound=%d wrong=%d open_ms_p50=%d open_ms_max=%d seed=%d",
		len(p.cuts), waiting, lost, worst, p.open, wrong, middle, largest, cfg.Seed)
	return r, nil
}

// build lays the disk into the host.
func (p *power) build(ctx context.Context) error {
	host := filepath.Join(p.cfg.Dir, "host.xfs")
	if err := image(ctx, host, hostSize, "mkfs.xfs", "-q", "-m", "reflink=1"); err != nil {
		return err
	}
	if err := p.loop(ctx, host, p.host); err != nil {
		return err
	}
	p.disk = filepath.Join(p.host, "disk.ext4")
	if err := image(ctx, p.disk, diskSize, "mkfs.ext4", "-q", "-F"); err != nil {
		return err
	}
	return p.loop(ctx, p.disk, filepath.Join(p.dir, "data"))
}

// run works the first engine and takes the clones.
func (p *power) run(ctx context.Context, r *Report) error {
	rng := p.cfg.dice(1)
	s, err := p.sink(ctx, "--latency", "5ms")
	if err != nil {
		return err
	}
	defer s.Kill()
	e, err := p.life.start(ctx)
	if err != nil {
		return err
	}
	defer e.Crash()
	each := or(p.cfg.Messages, imageLoad)
	l := p.load(ctx, load.Config{
		Messages: each*p.cfg.Runs + each, Sessions: 50 + rng.IntN(51), Size: 500 + rng.IntN(3000), Domains: 1 + rng.IntN(20), Pipeline: true,
		Prefix: fmt.Sprintf("p%d", p.cfg.Seed), Timeout: quiet,
	})
	defer l.stop()
	for i := range p.cfg.Runs {
		if err := p.strike(ctx, e, l, each/4+rng.IntN(each*3/4), time.Duration(rng.IntN(20000))*time.Microsecond); err != nil {
			return err
		}
		if err := p.clone(i); err != nil {
			return err
		}
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	c, err := s.counters(ctx)
	if err != nil {
		return err
	}
	p.open = int(c.MaxOpen)
	if err := drained(ctx, e, s); err != nil {
		r.broke("before any cut: %v", err)
	}
	if err := e.Stop(); err != nil {
		r.broke("graceful stop: %v", err)
	}
	if err := s.Stop(); err != nil {
		return err
	}
	// The engine that was never cut is the control: without a fault nothing is lost and nothing comes twice.
	t, err := check(p.ledger, p.record)
	if err != nil {
		return err
	}
	t.judge(r, "without a cut")
	if t.copies > 0 {
		r.broke("without a cut: %d copies", t.copies)
	}
	return p.unmount(filepath.Join(p.dir, "data"))
}

// clone takes the disk as it is at this moment.
func (p *power) clone(n int) error {
	c := cut{image: filepath.Join(p.host, "cut"+strconv.Itoa(n))}
	book, record := tail{path: p.ledger}, tail{path: p.record}
	if err := errors.Join(book.look(), record.look()); err != nil {
		return err
	}
	c.ledger, c.promised, c.before = book.bytes, book.lines, record.bytes
	from, err := os.Open(p.disk)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(c.image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	begin := clock.Wall()
	if err := errors.Join(unix.IoctlFileClone(int(to.Fd()), int(from.Fd())), to.Close()); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := record.look(); err != nil {
		return err
	}
	c.after = record.bytes
	p.cuts = append(p.cuts, c)
	p.cfg.say("power image=%d taken after %d promises, in %s", n, c.promised, clock.Since(begin).Round(time.Microsecond))
	return nil
}

// revive lets a fresh engine go on from a cut and judges what became of the promises made before it. left is how many
// of them the receivers had not taken when the power went, copies how many they had and got again.
func (p *power) revive(ctx context.Context, n int, c cut, r *Report) (t tally, left, copies int, err error) {
	dir := filepath.Join(p.cfg.Dir, "revived")
	note, remove, err := notes(dir)
	if err != nil {
		return t, 0, 0, err
	}
	defer remove()
	defer func() { _ = os.RemoveAll(dir) }()
	data := filepath.Join(dir, "data")
	if err := p.loop(ctx, c.image, data); err != nil {
		return t, 0, 0, err
	}
	defer func() {
		err = errors.Join(err, p.unmount(data), os.Remove(c.image))
	}()
	if err := copyFile(filepath.Join(dir, "key"), filepath.Join(p.dir, "key"), -1); err != nil {
		return t, 0, 0, err
	}
	ledger, until, arrived := filepath.Join(note, "ledger"), filepath.Join(note, "before"), filepath.Join(note, "record")
	if err := errors.Join(copyFile(ledger, p.ledger, c.ledger), copyFile(until, p.record, c.before), copyFile(arrived, p.record, c.after)); err != nil {
		return t, 0, 0, err
	}
	first, err := check(ledger, arrived)
	if err != nil {
		return t, 0, 0, err
	}
	fresh := filepath.Join(note, "fresh")
	if err := p.goOn(ctx, n, dir, fresh, r); err != nil {
		return first, first.Lost, 0, err
	}
	// A copy counts where the receiver surely had the message before the cut; what arrived while the clone was taken
	// may or may not be known to it, and is no loss either way.
	if err := errors.Join(copyFile(arrived, fresh, -1), copyFile(until, fresh, -1)); err != nil {
		return t, 0, 0, err
	}
	if t, err = check(ledger, arrived); err != nil {
		return t, 0, 0, err
	}
	t.judge(r, fmt.Sprintf("image %d", n))
	twice, err := check(ledger, until)
	if err != nil {
		return t, 0, 0, err
	}
	if twice.copies > p.open {
		r.broke("image %d: %d copies, but only %d transactions can have been open", n, twice.copies, p.open)
	}
	return t, first.Lost, twice.copies, nil
}

// goOn runs an engine on a cut disk until it has nothing left to deliver.
func (p *power) goOn(ctx context.Context, n int, dir, record string, r *Report) error {
	s, err := p.cfg.sink(ctx, "127.0.0.1:0", record)
	if err != nil {
		return err
	}
	defer s.Kill()
	begin := clock.Wall()
	e, err := engine.Start(ctx, engine.Config{
		Path: p.cfg.Engine, Dir: dir, Routes: map[string]string{"*": s.addr}, Settings: settings(),
	})
	if err != nil {
		return err
	}
	defer e.Crash()
	p.start = append(p.start, clock.Since(begin))
	if err := drained(ctx, e, s); err != nil {
		r.broke("image %d: %v", n, err)
	}
	if err := e.Stop(); err != nil {
		r.broke("image %d: graceful stop: %v", n, err)
	}
	return s.Stop()
}
