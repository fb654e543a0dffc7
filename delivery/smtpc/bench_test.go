package smtpc

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// streamWork gives out n messages among its sessions. Outcomes become durable at once, or by a committer that takes
// what has gathered, as the store does.
type streamWork struct {
	job    *mail.Job
	left   *atomic.Int64
	bad    *atomic.Int64
	commit chan func(error)
}

func (w *streamWork) Next(time.Duration) *mail.Job {
	if w.left.Add(-1) < 0 {
		return nil
	}
	return w.job
}
func (w *streamWork) Ready(*mail.Job) bool { return true }
func (w *streamWork) Clear(*mail.Job) bool { return true }

func (w *streamWork) Sent(*mail.Job)   {}
func (w *streamWork) Return(*mail.Job) { w.bad.Add(1) }
func (w *streamWork) Settle(_ *mail.Job, o mail.Outcome, durable func(error)) {
	if o.Result != mail.Delivered {
		w.bad.Add(1)
	}
	if w.commit != nil {
		w.commit <- durable
		return
	}
	durable(nil)
}

// BenchmarkSink sends 1 KB messages over 20 connections into Debian's smtp-sink, and reports this process's CPU.
func BenchmarkSink(b *testing.B) {
	path, err := exec.LookPath("/usr/sbin/smtp-sink")
	if err != nil {
		b.Skip("smtp-sink is not installed (Debian: postfix)")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	sink := exec.Command(path, "-u", "nobody", addr, "1000")
	if err := sink.Start(); err != nil {
		b.Skip(err)
	}
	defer func() { _ = sink.Process.Kill(); _ = sink.Wait() }()
	for end := time.Now().Add(5 * time.Second); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			b.Skip("smtp-sink does not listen")
		}
	}
	b.Run("durable=now", func(b *testing.B) { benchSink(b, addr, nil) })
	b.Run("durable=batched", func(b *testing.B) {
		commit := make(chan func(error), 1000)
		go func() {
			var batch []func(error)
			for f := range commit {
				batch = append(batch[:0], f)
				for more := true; more; {
					select {
					case f := <-commit:
						batch = append(batch, f)
					default:
						more = false
					}
				}
				for _, f := range batch {
					f(nil)
				}
			}
		}()
		benchSink(b, addr, commit)
		close(commit)
	})
}

func benchSink(b *testing.B, addr string, commit chan func(error)) {
	const connections = 20
	job := &mail.Job{Body: []byte(strings.Repeat("The quick brown fox jumps over the lazy dog twice.\r\n", 20))}
	job.Delivery.From, job.Delivery.To = "from@client.test", "to@receiver.test"
	cfg := Config{Helo: "client.test"}.Complete()
	var left, bad atomic.Int64
	left.Store(int64(b.N))
	var sessions []*Session
	for range connections {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		s, o := Open(context.Background(), c, Peer{}, &cfg)
		if s == nil {
			b.Fatal(words(o))
		}
		sessions = append(sessions, s)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() {
			s.Carry(context.Background(), &streamWork{job: job, left: &left, bad: &bad, commit: commit}, Limits{Groups: true})
		})
	}
	wg.Wait()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e3, "cpu-us/msg")
	if bad.Load() > 0 {
		b.Fatalf("%d messages were not delivered", bad.Load())
	}
}

// cpu returns the CPU time of this process in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
