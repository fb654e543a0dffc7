// Package progress shows how far a long run is: drawn in place on a terminal, a line now and then elsewhere.
//
// It must never be where results are told: what it draws is gone with the next drawing.
package progress

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Figures of the display.
const (
	perDraw  = 200 * time.Millisecond // on a terminal
	perLine  = 2 * time.Second        // elsewhere, where Plain does not say
	fewWidth = 80                     // columns, where Width does not say
)

// Display is where progress is shown.
type Display struct {
	Out      io.Writer
	Terminal bool          // Out is one: progress is drawn in place
	Width    int           // of the terminal, columns; 0 = 80
	Plain    time.Duration // between two lines elsewhere; 0 = 2 s

	drawn int // lines on the screen that the next drawing overwrites
}

// Every is how often progress is to be shown.
func (d *Display) Every() time.Duration {
	switch {
	case d.Terminal:
		return perDraw
	case d.Plain > 0:
		return d.Plain
	}
	return perLine
}

// Columns is how wide a drawing may be.
func (d *Display) Columns() int {
	if d.Width <= 0 {
		return fewWidth
	}
	return d.Width
}

// Draw overwrites the last drawing on a terminal, in one write. Lines that are too long are cut. A drawing of fewer lines than
// the last one leaves the others' on the screen.
func (d *Display) Draw(lines ...string) {
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	for _, line := range lines {
		text := []rune(line)
		b.WriteString(string(text[:min(len(text), d.Columns()-1)]) + "\x1b[K\n")
	}
	d.drawn = len(lines)
	_, _ = io.WriteString(d.Out, b.String())
}

// Bar draws how much of a whole is done, width columns wide.
func Bar(done, whole float64, width int) string {
	if width < 1 || whole <= 0 {
		return ""
	}
	n := min(max(int(done/whole*float64(width)), 0), width)
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}
