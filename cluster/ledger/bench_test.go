package ledger

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// anonymous returns the process's memory that is not page cache, in MB.
func anonymous(b *testing.B) float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	var kb float64
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "RssAnon:") || strings.HasPrefix(line, "RssShmem:") {
			var n float64
			_, _ = fmt.Sscan(strings.Fields(line)[1], &n)
			kb += n
		}
	}
	return kb / 1024
}

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func importAddress(i int) string { return fmt.Sprintf("user.%d@mail%d.example.jp", i, i%5000) }

// imported puts n suppressions in as an import does: in entries of Split, eight to a batch, sealing included. It
// returns the highest memory seen.
func imported(b *testing.B, r *rig, n int) (peak float64) {
	const batch = 8 * importItems
	for from := 0; from < n; from += batch {
		big := Suppress{Signed: Signed{At: moment(1)}}
		for i := from; i < min(n, from+batch); i++ {
			v := black(importAddress(i))
			v.List, v.Tenant = Blocklist, "shop"
			big.Add = append(big.Add, v)
		}
		var cmds []Command
		for _, part := range Split(big) {
			cmds = append(cmds, part)
		}
		r.must(cmds...)
		if from/batch%16 == 0 {
			peak = max(peak, anonymous(b))
		}
	}
	return max(peak, anonymous(b))
}

// BenchmarkImport imports N suppressions, starts again, looks addresses up and writes and restores a snapshot. The row of
// ten million: go test ./cluster/ledger -run xxx -bench Import -benchtime 10000000x
func BenchmarkImport(b *testing.B) {
	r := newRig(b)
	b.ResetTimer()
	start, used := clock.Wall(), cpu(b)
	peak := imported(b, r, b.N)
	took := clock.Since(start)
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-us")
	b.ReportMetric(float64(b.N)/took.Seconds(), "import/s")
	b.ReportMetric(peak, "peak-MB")

	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	start = clock.Wall()
	r.open()
	scope := Scope{List: Blocklist, Tenant: "shop"}
	if r.SuppressionCount() != uint64(b.N) || !r.suppressed(importAddress(b.N-1), moment(2), scope) {
		b.Fatal("the import is not there after a start")
	}
	b.ReportMetric(clock.Since(start).Seconds(), "restart-s")
	for !r.filter.Load().ready.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	b.ReportMetric(clock.Since(start).Seconds(), "filter-s")
	b.ReportMetric(anonymous(b), "restarted-MB")

	const looks = 200_000
	for name, address := range map[string]func(int) string{"hit-ns": func(i int) string { return importAddress(i * 7919 % b.N) },
		"miss-ns": func(i int) string { return fmt.Sprintf("nobody.%d@a.example", i) }} {
		start = clock.Wall()
		for i := range looks {
			if r.suppressed(address(i), moment(2), scope) != (name == "hit-ns") {
				b.Fatal("wrong answer about " + address(i))
			}
		}
		b.ReportMetric(float64(clock.Since(start).Nanoseconds())/looks, name)
	}
	snapshotAndBack(b, r)
}

func snapshotAndBack(b *testing.B, r *rig) {
	n, err := r.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	in, out := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := n.Write(out)
		_ = out.CloseWithError(err)
		n.Release()
		written <- err
	}()
	start := clock.Wall()
	if err := r.Restore(in); err != nil || <-written != nil {
		b.Fatal(err)
	}
	b.ReportMetric(clock.Since(start).Seconds(), "restore-s")
	b.ReportMetric(anonymous(b), "restored-MB")
}

// BenchmarkRenew is the entry that comes every two seconds, alone in its batch: decode, apply, commit with its sync.
func BenchmarkRenew(b *testing.B) {
	r := newRig(b)
	var leases []LineageEpoch
	for i := range 20 {
		l := LineageEpoch{mail.Lineage(i + 1), 1}
		r.must(&Register{Lineage: l.Lineage, Node: "n1"})
		leases = append(leases, l)
	}
	b.ResetTimer()
	for range b.N {
		r.must(&Renew{Lineages: leases})
	}
}

// BenchmarkSnapshotReader is a stream of small records.
func BenchmarkSnapshotReader(b *testing.B) {
	r := newRig(b)
	imported(b, r, 20_000)
	stream := r.snapshot()
	b.SetBytes(int64(len(stream)))
	for range b.N {
		if _, err := readSnapshot(bytes.NewReader(stream), r.cfg.Box, func(_, _ []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
