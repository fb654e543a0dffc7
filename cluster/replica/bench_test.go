package replica

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// cpu is the time this process used so far, microseconds.
func cpu() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}

// batch is 40 messages of 1.2 KB put and 40 settled, as a commit of the queue ships them.
func batch(i int, body []byte) []Op {
	var list []Op
	for j := range 40 {
		n, old := i*40+j, (i-50)*40+j
		list = append(list, Op{Key: fmt.Appendf(nil, "q%031d", n), Value: body[:120]}, Op{Key: fmt.Appendf(nil, "b%08d", n), Value: body})
		if old >= 0 {
			list = append(list, Op{Delete: true, Key: fmt.Appendf(nil, "q%031d", old)}, Op{Delete: true, Key: fmt.Appendf(nil, "b%08d", old)})
		}
	}
	return list
}

func batches() [][]Op {
	body := make([]byte, 1200)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	out := make([][]Op, 512)
	for i := range out {
		out[i] = batch(i, body)
	}
	return out
}

// BenchmarkBoth ships over loopback to a standby in the same process: CPU of both ends together.
func BenchmarkBoth(b *testing.B) { benchShip(b, newNetwork(), true) }

// BenchmarkOwner ships to a standby in a process of its own: CPU of the owner alone.
func BenchmarkOwner(b *testing.B) {
	n := newNetwork()
	n.sites["b"] = &site{name: "b", addr: mustSpawn(b)}
	benchShip(b, n, false)
}

func benchShip(b *testing.B, n *network, local bool) {
	if local {
		dir, err := os.MkdirTemp(".", "bench")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		n.mustServe(b, "b", dir, 0)
	}
	o := mustOwn(b, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("first", "x")))
	list := batches()
	const ahead = 8 // commits under way; the queue's fsync paces them in life
	credit := make(chan struct{}, ahead)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for i := range b.N {
		credit <- struct{}{}
		f := o.Ship(list[i%len(list)], 40)
		o.WhenHeld(f, func(exposed bool, err error) {
			if exposed || err != nil {
				b.Error(exposed, err)
			}
			<-credit
		})
	}
	for range ahead {
		credit <- struct{}{}
	}
	b.StopTimer()
	b.ReportMetric((cpu()-before)/float64(b.N)/40, "cpu-us/message")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkIndex is what a standby does in memory per frame.
func BenchmarkIndex(b *testing.B) {
	s := mustOpen(b, b.TempDir(), 0)
	f := mustFeed(b, s)
	f.begin()
	f.full()
	list := batches()
	b.ResetTimer()
	for i := range b.N {
		f.take(kindFrame, f.next, ops(list[i%len(list)]))
		f.next++
	}
	b.StopTimer()
	crash(s)
}

// mustSpawn runs this test program again as a standby, in a directory on the same disk as the package.
func mustSpawn(b *testing.B) (addr string) {
	b.Helper()
	dir, err := os.MkdirTemp(".", "bench")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBeStandby$")
	cmd.Env = append(os.Environ(), "REPLICA_STANDBY="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // it ends then
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestBeStandby is the standby of BenchmarkOwner; otherwise it does nothing.
func TestBeStandby(t *testing.T) {
	dir := os.Getenv("REPLICA_STANDBY")
	if dir == "" {
		t.Skip("is run by BenchmarkOwner")
	}
	s := newNetwork().mustServe(t, "b", dir, 0)
	fmt.Println(s.addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
