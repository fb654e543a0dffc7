package queue

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
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
func pour(b *testing.B, s *Store, n, writers, domains, lag int) {
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
					b.Error(err)
					return
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
			pour(b, r.Store, 20_000, writers, 10, 2000)
			b.ReportAllocs()
			b.ResetTimer()
			m := measure()
			pour(b, r.Store, b.N, writers, 10, 2000)
			m.report(b, b.N)
			b.ReportMetric(float64(r.Usage().WrittenEach), "probe_B")
		})
	}
}
