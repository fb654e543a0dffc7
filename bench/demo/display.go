package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
)

// display shows progress: a table drawn in place on a terminal, a line each two seconds elsewhere.
type display struct {
	out      io.Writer
	terminal bool
	width    int
	total    int
	drawn    int // lines on the screen that the next drawing overwrites
}

func newDisplay(cfg Config) *display {
	width := cfg.Width
	if width <= 0 {
		width = 80
	}
	return &display{out: cfg.Out, terminal: cfg.Terminal, width: width, total: cfg.Messages}
}

func (d *display) every() time.Duration {
	if d.terminal {
		return 200 * time.Millisecond
	}
	return 2 * time.Second
}

// draw shows one state of things.
func (d *display) draw(at time.Duration, rows []Row, m engine.Metrics) {
	accepted, final := m.Sum("ekiden_accepted_total"), m.Final()
	if !d.terminal {
		var b strings.Builder
		fmt.Fprintf(&b, "%5.1fs accepted %.0f/%d, final %.0f:", at.Seconds(), accepted, d.total, final)
		for _, r := range rows {
			fmt.Fprintf(&b, " %s %d", r.Receiver, r.Delivered)
		}
		fmt.Fprintln(d.out, b.String())
		return
	}
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	line := func(format string, args ...any) {
		text := []rune(fmt.Sprintf(format, args...))
		b.WriteString(string(text[:min(len(text), d.width-1)]) + "\x1b[K\n")
	}
	line("%5.1fs  accepted %6.0f of %d   final outcomes %6.0f   waiting %6.0f", at.Seconds(), accepted, d.total, final, m.Waiting())
	line("%s", bar(final, float64(d.total), d.width-2))
	for i, r := range rows {
		want := float64(d.total*parts()[i].weight) / 100
		line("%-9s %s %6d delivered %5d deferred %5d failed %6.0f/s %d blocks", r.Receiver,
			bar(float64(r.Delivered+r.Failed), want, 20), r.Delivered, r.Deferred, r.Failed, r.Rate, r.Blocks)
	}
	d.drawn = len(rows) + 2
	_, _ = io.WriteString(d.out, b.String())
}

func (d *display) end() {
	if d.terminal {
		fmt.Fprintln(d.out)
	}
}

// bar draws how much of a whole is done.
func bar(done, whole float64, width int) string {
	if width < 1 || whole <= 0 {
		return ""
	}
	n := min(max(int(done/whole*float64(width)), 0), width)
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// print writes the summary.
func (s Summary) print(out io.Writer) {
	fmt.Fprintf(out, "\n%-10s %8s %10s %9s %7s %9s %7s\n", "receiver", "sent", "delivered", "deferred", "failed", "rate", "blocks")
	var all Row
	for _, r := range s.Rows {
		fmt.Fprintf(out, "%-10s %8d %10d %9d %7d %7.0f/s %7d\n", r.Receiver, r.Sent, r.Delivered, r.Deferred, r.Failed, r.Rate, r.Blocks)
		all.Sent += r.Sent
		all.Delivered += r.Delivered
		all.Deferred += r.Deferred
		all.Failed += r.Failed
		all.Blocks += r.Blocks
	}
	fmt.Fprintf(out, "%-10s %8d %10d %9d %7d %7.0f/s %7d\n", "all", all.Sent, all.Delivered, all.Deferred, all.Failed, s.Rate, all.Blocks)
	fmt.Fprintf(out, "\nverdict of ledger and record: %s\n", s.Verdict)
	fmt.Fprintf(out, "relay rate %.0f/s (held back by the receivers' limits; `make bench` measures without), every message final after %.1f s\n",
		s.Rate, s.Took.Seconds())
	fmt.Fprintf(out, "console and HTTP: %s   SMTP: %s\n", s.Console, s.SMTP)
}
