package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/progress"
)

// display shows progress: a table drawn in place on a terminal, a line each two seconds elsewhere.
type display struct {
	progress.Display
	total int
}

func newDisplay(cfg Config) *display {
	return &display{Display: progress.Display{Out: cfg.Out, Terminal: cfg.Terminal, Width: cfg.Width}, total: cfg.Messages}
}

// draw shows one state of things.
func (d *display) draw(at time.Duration, rows []Row, m engine.Metrics) {
	accepted, final := m.Sum("ekiden_accepted_total"), m.Final()
	if !d.Terminal {
		var b strings.Builder
		fmt.Fprintf(&b, "%5.1fs accepted %.0f/%d, final %.0f:", at.Seconds(), accepted, d.total, final)
		for _, r := range rows {
			fmt.Fprintf(&b, " %s %d", r.Receiver, r.Delivered)
		}
		fmt.Fprintln(d.Out, b.String())
		return
	}
	lines := []string{
		fmt.Sprintf("%5.1fs  accepted %6.0f of %d   final outcomes %6.0f   waiting %6.0f", at.Seconds(), accepted, d.total, final, m.Waiting()),
		progress.Bar(final, float64(d.total), d.Columns()-2),
	}
	for i, r := range rows {
		want := float64(d.total*parts()[i].weight) / 100
		lines = append(lines, fmt.Sprintf("%-9s %s %6d delivered %5d deferred %5d failed %6.0f/s %d blocks", r.Receiver,
			progress.Bar(float64(r.Delivered+r.Failed), want, 20), r.Delivered, r.Deferred, r.Failed, r.Rate, r.Blocks))
	}
	d.Draw(lines...)
}

func (d *display) end() {
	if d.Terminal {
		fmt.Fprintln(d.Out)
	}
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
