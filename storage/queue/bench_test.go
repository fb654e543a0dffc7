package queue

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// meter measures what the process used.
type meter struct {
	at      time.Time
	cpu     time.Duration
	written int64
}

func measure() meter {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return meter{clock.Wall(), time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Oublock * 512}
}

func (m meter) report(b *testing.B, n int) {
	now := measure()
	b.ReportMetric(float64(n)/now.at.Sub(m.at).Seconds(), "msg/s")
	b.ReportMetric(float64(now.cpu-m.cpu)/float64(n)/1e3, "cpu_us/msg")
	b.ReportMetric(float64(now.written-m.written)/float64(n), "written_B/msg")
	b.ReportMetric(float64(anonymous())/(1<<20), "anon_MiB")
}

// anonymous returns the process's anonymous memory in bytes.
func anonymous() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// random returns bytes that do not compress, as sealed bodies do not.
func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// pour puts n messages with as many writers and, where lag is 0 or more, settles each when lag others were put.
func pour(s *Store, n, writers, domains, lag int) {
	body := random(1200)
	var left atomic.Int64
	left.Store(int64(n))
	waiting := make(chan mail.Delivery, lag+writers+1)
	var wg, settled sync.WaitGroup
	for range writers {
		wg.Go(func() {
			done := make(chan error, 1)
			for left.Add(-1) >= 0 {
				to := mail.Address(fmt.Sprintf("user%d@d%d.example.jp", rand.IntN(1_000_000), rand.IntN(domains)))
				a := newMessage(s, s.cfg.Clock.Now(), body, to)
				s.Put(a, func(err error) { done <- err })
				if err := <-done; err != nil {
					panic(err)
				}
				if lag < 0 {
					continue
				}
				waiting <- a.Deliveries[0]
				if len(waiting) > lag {
					d := <-waiting
					settled.Add(1)
					s.Settle(delivered(&d, s.cfg.Clock.Now()), func(error) { settled.Done() })
				}
			}
		})
	}
	wg.Wait()
	settled.Wait()
	for len(waiting) > 0 {
		d := <-waiting
		settled.Add(1)
		s.Settle(delivered(&d, s.cfg.Clock.Now()), func(error) { settled.Done() })
	}
	settled.Wait()
}

func BenchmarkPutSettle(b *testing.B) {
	for _, writers := range []int{20, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			r := newRig(b)
			pour(r.Store, 20_000, writers, 10, 2000)
			b.ReportAllocs()
			b.ResetTimer()
			m := measure()
			pour(r.Store, b.N, writers, 10, 2000)
			m.report(b, b.N)
			b.ReportMetric(float64(r.Usage().WrittenEach), "probe_B")
		})
	}
}

// fillEnv names the directory in which the test binary, started again, stores a backlog until it is killed.
const fillEnv = "EKIDEN_QUEUE_FILL_DIR"

const (
	backlog     = 1_000_000
	backlogStep = 100_000
)

// fillUntilKilled stores backlog messages, says a line of figures for each step, and waits for its end.
func fillUntilKilled(dir string) error {
	root, err := seal.RootFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		return err
	}
	s, err := Open(Config{Dir: dir, Ring: seal.NewRing(root), Clock: &clock.Clock{}, MinFree: 1, Ballast: -1})
	if err != nil {
		return err
	}
	for n := 0; n < backlog; n += backlogStep {
		m := measure()
		pour(s, backlogStep, 100, 10_000, -1)
		now, u := measure(), s.Usage()
		fmt.Printf("%.0f %.2f %.0f %d %d %d\n", backlogStep/now.at.Sub(m.at).Seconds(),
			float64(now.cpu-m.cpu)/backlogStep/1e3, float64(now.written-m.written)/backlogStep, anonymous(), u.Disk, u.Live)
	}
	fmt.Println("full")
	select {}
}

// BenchmarkBacklog stores a million messages in a process of its own, kills it, opens what it left and drains a part.
// It runs once, whatever b.N.
func BenchmarkBacklog(b *testing.B) {
	dir := b.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fillEnv+"="+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var rates, cpu, written, anon, disk, live []float64
	for in := bufio.NewScanner(pipe); in.Scan() && in.Text() != "full"; {
		var f [6]float64
		if _, err := fmt.Sscan(in.Text(), &f[0], &f[1], &f[2], &f[3], &f[4], &f[5]); err != nil {
			b.Fatal(in.Text(), err)
		}
		b.Log(in.Text())
		for i, to := range []*[]float64{&rates, &cpu, &written, &anon, &disk, &live} {
			*to = append(*to, f[i])
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(rates) != backlog/backlogStep {
		b.Fatalf("the child ended after %d steps", len(rates))
	}
	last := len(rates) - 1
	b.ReportMetric(rates[0], "first_msg/s")
	b.ReportMetric(rates[last], "last_msg/s")
	b.ReportMetric(cpu[last], "last_cpu_us/msg")
	b.ReportMetric(written[last], "last_written_B/msg")
	b.ReportMetric(slices.Max(anon)/(1<<20), "fill_anon_MiB")
	b.ReportMetric(disk[last]/live[last], "disk/live")

	r := newRig(b)
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	r.cfg.Dir = dir
	begun := clock.Wall()
	r.open()
	opened := clock.Since(begun)
	total := 0
	var domains []mail.Destination
	if err := r.Destinations(func(d mail.Destination, n int, _ time.Time) error {
		total += n
		domains = append(domains, d)
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(opened.Seconds(), "open_s")
	b.ReportMetric(clock.Since(begun).Seconds(), "open+destinations_s")
	if total < backlog || r.Waiting() != total {
		b.Errorf("%d deliveries after the kill, %d waiting", total, r.Waiting())
	}
	drainSome(b, r, domains, 300_000)
	u := r.Usage()
	b.ReportMetric(float64(u.Disk)/float64(u.Live), "drained_disk/live")
}

// drainSome scans, reads and settles n deliveries, one goroutine for every few domains.
func drainSome(b *testing.B, r *rig, domains []mail.Destination, n int) {
	m := measure()
	work := make(chan mail.Destination, len(domains))
	for _, d := range domains {
		work <- d
	}
	close(work)
	var done atomic.Int64
	var wg sync.WaitGroup
	until := far(r.cfg.Clock.Now())
	for range 32 {
		wg.Go(func() {
			for d := range work {
				var c Cursor
				for more := true; more && done.Load() < int64(n); {
					var ds []mail.Delivery
					var err error
					if ds, c, more, _, err = r.Scan(d, c, until, 50); err != nil {
						b.Error(err)
						return
					}
					for i := range ds {
						if _, err := r.Body(ds[i].Message); err != nil {
							b.Error(err)
						}
						wg.Add(1)
						r.Settle(delivered(&ds[i], until), func(err error) {
							if err != nil {
								b.Error(err)
							}
							wg.Done()
						})
						done.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	now := measure()
	got := float64(done.Load())
	b.ReportMetric(got/now.at.Sub(m.at).Seconds(), "drain_msg/s")
	b.ReportMetric(float64(now.cpu-m.cpu)/got/1e3, "drain_cpu_us/msg")
	b.ReportMetric(float64(now.written-m.written)/got, "drain_written_B/msg")
	b.ReportMetric(float64(anonymous())/(1<<20), "drain_anon_MiB")
}
