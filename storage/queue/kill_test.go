package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/seal"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// killEnv names the directory in which the test binary, started again, works until it is killed.
const killEnv = "EKIDEN_QUEUE_KILL_DIR"

// reclaimEnv makes that child reclaim disk space all the while.
const reclaimEnv = "EKIDEN_QUEUE_KILL_RECLAIM"

// purgeEnv makes that child delete the log and the data keys of the days before, so many days from now, all the while.
const purgeEnv = "EKIDEN_QUEUE_KILL_PURGE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		if err := workUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	if arg := os.Getenv(adoptEnv); arg != "" {
		if err := adoptUntilKilled(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	if dir := os.Getenv(fillEnv); dir != "" {
		if err := fillUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// workUntilKilled puts, defers and settles as fast as it can and writes a line for everything it was told is done:
// "P seq deliveries hash", "S seq" and, before it asks, "s seq".
func workUntilKilled(dir string) error {
	root, err := seal.RootFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		return err
	}
	var now clock.Clock
	days, purges := strconv.Atoi(os.Getenv(purgeEnv))
	now.Advance(time.Duration(days) * 24 * time.Hour)
	s, err := Open(Config{Dir: dir, Ring: seal.NewRing(root), Clock: &now, MinFree: 1, Ballast: -1})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.WriteString(line) // one write each: the pipe is the ledger
	}
	var wg sync.WaitGroup
	if os.Getenv(reclaimEnv) != "" { // as if the disk were short, but with mail coming in
		wg.Go(func() {
			for s.Err() == nil {
				if _, err := s.reclaim(); err != nil {
					fmt.Fprintln(os.Stderr, "reclaim:", err)
				}
			}
		})
	}
	if purges == nil {
		wg.Go(func() { purgeUntilKilled(s) })
	}
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				body := random(200 + rand.IntN(3000))
				to := make([]mail.Address, 1+rand.IntN(3))
				for j := range to {
					to[j] = mail.Address(fmt.Sprintf("u%d@d%d.example.jp", j, w%4))
				}
				a := newMessage(s, s.cfg.Clock.Now(), body, to...)
				if wait(func(done func(error)) { s.Put(a, done) }) != nil {
					return
				}
				sum := sha256.Sum256(body)
				say("P %d %d %s\n", a.ID.Seq, len(to), hex.EncodeToString(sum[:]))
				for j := range a.Deliveries {
					d := &a.Deliveries[j]
					switch rand.IntN(5) {
					case 0: // stays
						continue
					case 1, 2: // is deferred first, and then stays or not
						m := putOff(d, s.cfg.Clock.Now(), d.Due.Add(time.Minute))
						if wait(func(done func(error)) { s.Settle(m, done) }) != nil {
							return
						}
						if d = m.Next; i%2 == 0 {
							continue
						}
					}
					m := delivered(d, s.cfg.Clock.Now())
					say("s %d\n", d.Seq)
					if wait(func(done func(error)) { s.Settle(m, done) }) != nil {
						return
					}
					say("S %d\n", d.Seq)
				}
			}
		})
	}
	wg.Wait()
	return s.Err()
}

// purgeUntilKilled deletes what is of earlier days, and the data keys that nothing needs then, and has every round sealed
// under a key of its own.
func purgeUntilKilled(s *Store) {
	ctx := context.Background()
	for s.Err() == nil {
		if err := s.Purge(ctx, Retention{Before: s.cfg.Clock.Now()}); err != nil {
			fmt.Fprintln(os.Stderr, "purge:", err)
		}
		if _, err := s.PurgeDataKeys(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "purge data keys:", err)
		}
		s.cfg.Ring.Retire()
	}
}

// ledger is what the child was told, kept by the parent.
type ledger struct {
	bodies  map[mail.Seq]string // by message
	message map[mail.Seq]mail.Seq
	asked   map[mail.Seq]bool // settlement asked for, and so possibly done
	settled map[mail.Seq]bool
}

func (l *ledger) read(t *testing.T, line string) {
	f := strings.Fields(line)
	var seq mail.Seq
	if _, err := fmt.Sscan(f[1], &seq); err != nil {
		t.Fatalf("ledger line %q", line)
	}
	switch f[0] {
	case "P":
		var n int
		_, _ = fmt.Sscan(f[2], &n)
		l.bodies[seq] = f[3]
		for i := range n {
			l.message[seq+mail.Seq(i)] = seq
		}
	case "s":
		l.asked[seq] = true
	case "S":
		l.settled[seq] = true
	}
}

// A kill between the making of a log and its first octet is no reason not to start.
func TestEmptyLogs(t *testing.T) {
	r := newRig(t)
	a := r.message("kept", "a@b.example")
	r.put(a)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"09999.mem", "009999.vlog"} {
		if err := os.WriteFile(filepath.Join(r.cfg.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	if got := r.body(a.ID); got != "kept" {
		t.Errorf("body %q", got)
	}
}

func TestKill(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l := ledger{map[mail.Seq]string{}, map[mail.Seq]mail.Seq{}, map[mail.Seq]bool{}, map[mail.Seq]bool{}}
	for round := range rounds {
		if round%2 == 0 {
			l.run(t, r.cfg.Dir, 50+rand.IntN(2000))
		} else {
			l.run(t, r.cfg.Dir, 50+rand.IntN(20000), reclaimEnv+"=1")
		}
		r.open()
		l.check(t, r, round)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	t.Logf("%d messages, %d deliveries settled, %d left", len(l.bodies), len(l.settled), r.Waiting())
}

// TestKillWhilePurging kills a store that deletes data keys: nothing that is left needs one that went.
func TestKillWhilePurging(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l := ledger{map[mail.Seq]string{}, map[mail.Seq]mail.Seq{}, map[mail.Seq]bool{}, map[mail.Seq]bool{}}
	gone, before := 0, map[uint32]bool{}
	for round := 0; round < rounds || gone == 0 && round < 4*rounds; round++ { // a slow child may be killed before it purged
		l.run(t, r.cfg.Dir, 50+rand.IntN(1000), fmt.Sprintf("%s=%d", purgeEnv, round))
		r.open()
		l.check(t, r, round)
		ids, err := r.dataKeys()
		if err != nil {
			t.Fatal(err)
		}
		for id := range before {
			if !slices.Contains(ids, id) {
				gone++
			}
		}
		before = map[uint32]bool{}
		for _, id := range ids {
			before[id] = true
		}
		lines := 0
		if err := r.Events().Search(t.Context(), events.Query{}, func(mail.Event, events.Cursor) bool { lines++; return true }); err != nil {
			t.Fatal(err)
		}
		if r.damaged.Load() != 0 || r.Events().Damaged() != 0 || lines == 0 {
			t.Fatalf("round %d: %d records and %d blocks do not open, %d lines do", round, r.damaged.Load(), r.Events().Damaged(), lines)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.cfg.Clock.Advance(24 * time.Hour)
	}
	t.Logf("%d messages, %d data keys went, %d are left", len(l.bodies), gone, len(before))
	if gone == 0 {
		t.Error("no data key went: nothing was tried")
	}
	r.open()
}

// run lets a child work and kills it after so many lines.
func (l *ledger) run(t *testing.T, dir string, lines int, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), killEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(pipe)
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // a line without its end was not written in full: nobody was told
		}
		if err != nil {
			t.Fatal(err)
		}
		l.read(t, line)
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	if !cmd.ProcessState.Exited() == (cmd.ProcessState.ExitCode() != -1) {
		t.Fatalf("child ended by itself: %v", cmd.ProcessState)
	}
}

// check compares the store with the ledger.
func (l *ledger) check(t *testing.T, r *rig, round int) {
	t.Helper()
	found := map[mail.Seq]bool{}
	again := map[mail.Domain]int64{}
	for i := range 4 {
		for _, d := range r.scan(mail.Domain(fmt.Sprintf("d%d.example.jp", i)), Cursor{}, far(r.cfg.Clock.Now()), 1<<30) {
			if found[d.Seq] {
				t.Errorf("round %d: delivery %d is there twice", round, d.Seq)
			}
			found[d.Seq] = true
			if d.Attempts > 0 {
				again[d.Domain]++
			}
			body, err := r.Body(d.Message)
			if err != nil {
				t.Errorf("round %d: body of %d: %v", round, d.Seq, err)
				continue
			}
			sum := sha256.Sum256(body)
			if want, told := l.bodies[d.Message.Seq]; told && want != hex.EncodeToString(sum[:]) {
				t.Errorf("round %d: body of %d differs", round, d.Seq)
			}
		}
	}
	for seq := range l.message {
		switch {
		case l.settled[seq] && found[seq]:
			t.Errorf("round %d: %d is back after its settlement", round, seq)
		case !l.asked[seq] && !found[seq]:
			t.Errorf("round %d: %d is lost", round, seq)
		}
	}
	l.count(t, r, round, again)
	if len(found) != r.Waiting() {
		t.Errorf("round %d: scanned %d, waiting %d", round, len(found), r.Waiting())
	}
	if r.damaged.Load() != 0 || r.Events().Damaged() != 0 {
		t.Errorf("round %d: damaged records", round)
	}
}

// count compares the counters with what the queue holds: what waits, and what of it was put off before, by domain; and asks
// for the same from a rebuild (requirements R60, R62).
func (l *ledger) count(t *testing.T, r *rig, round int, again map[mail.Domain]int64) {
	t.Helper()
	for _, when := range []string{"as found", "counted anew"} {
		var sum int64
		for i := range 4 {
			d := mail.Domain(fmt.Sprintf("d%d.example.jp", i))
			c := r.Counters().Buckets(stats.Total, stats.Of{Domain: d}, r.cfg.Clock.Now())[0].Counts
			if sum += c.Retrying(); c.Retrying() != again[d] {
				t.Errorf("round %d, %s: %s: %d put off before, the queue has %d", round, when, d, c.Retrying(), again[d])
			}
		}
		if r.Counters().Retrying() != sum || r.Counters().Left() != int64(r.Waiting()) || round > 0 && sum == 0 {
			t.Errorf("round %d, %s: %d put off before of %d, by domain %d of %d", round, when, r.Counters().Retrying(),
				r.Counters().Left(), sum, r.Waiting())
		}
		if found, err := r.Rebuild(t.Context()); err != nil || !found.Same {
			t.Fatalf("round %d, %s: rebuild found %+v, %v", round, when, found, err)
		}
	}
}
