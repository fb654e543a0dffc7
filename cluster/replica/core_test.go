package replica

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// Transcripts of the machine: lines that begin with a time are what happens, indented lines what it does and how it
// stands. The reader of a change reads their diff.
func TestCoreTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/core-*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := replayTranscript(t, text)
			if *update {
				err = os.WriteFile(path, got, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, text) {
				t.Errorf("%s differs; now it is\n%s", path, got)
			}
		})
	}
}

func replayTranscript(t *testing.T, text []byte) []byte {
	var out bytes.Buffer
	c := core{copies: 1, patience: 2 * time.Second, members: map[string]*member{}, next: 101, held: 100, settled: 100}
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&out, line)
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if words[0] == "copies" {
			c.copies = mustInt(t, words[1])
			continue
		}
		if words[0] == "by-book" {
			c.byBook = true
			continue
		}
		if words[0] == "strict" {
			c.strict = true
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.step(time.Unix(0, 0).Add(at), parseEvent(t, words[1:])) {
			fmt.Fprintf(&out, "  %T %+v\n", e, e)
		}
		fmt.Fprintf(&out, "  held %d of %d, pinned %d", c.held, c.next-1, c.pinned())
		if c.short {
			fmt.Fprintf(&out, ", short since %d, settled %d", c.gapLow, c.settled)
		} else if c.strict {
			fmt.Fprintf(&out, ", settled %d", c.settled)
		}
		for _, name := range c.order {
			m := c.members[name]
			fmt.Fprintf(&out, "; %s %s", name, m.state)
			if m.state >= filling {
				fmt.Fprintf(&out, " %d", m.acked)
			}
		}
		fmt.Fprintln(&out)
	}
	return out.Bytes()
}

func mustInt(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func parseEvent(t *testing.T, w []string) any {
	t.Helper()
	number := func(i int) uint64 { return uint64(mustInt(t, w[i])) }
	has := func(s string) bool { return w[len(w)-1] == s }
	switch w[0] {
	case "candidates":
		return candidates{w[1:]}
	case "shipped":
		return shipped{}
	case "answered":
		return answered{name: w[1], from: number(2), full: has("full")}
	case "acked":
		a := acked{w[1], ack{high: number(2), full: has("full")}}
		if has("chunk") || has("full") {
			a.fill = 1
		}
		return a
	case "lost":
		return lost{w[1]}
	case "refused":
		return refused{number(1)}
	case "named":
		return named{w[1:]}
	case "tick":
		if len(w) > 1 { // "tick renewed 3s": asked for at that time
			asked, err := time.ParseDuration(w[2])
			if err != nil {
				t.Fatal(err)
			}
			return tick{renewed: time.Unix(0, 0).Add(asked)}
		}
		return tick{}
	}
	t.Fatalf("no event: %v", w)
	return nil
}

// A window keeps what is pinned, and what fits besides.
func TestWindow(t *testing.T) {
	w := window{limit: 1250, next: 10} // buffers are a quarter larger
	for n := uint64(10); n < 200; n++ {
		raw := append(w.buffer(100), make([]byte, 100)...)
		if !w.room(cap(raw), n) {
			t.Fatal("no room although nothing is pinned")
		}
		w.push(&frame{raw: raw, number: n})
		if f := w.get(n); f == nil || f.number != n || w.bytes > w.limit {
			t.Fatalf("frame %d: %v, %d octets", n, f, w.bytes)
		}
	}
	if w.low() != 190 || w.get(189) != nil || w.get(190).number != 190 || w.get(200) != nil {
		t.Errorf("from %d on", w.low())
	}
	if w.room(100, 190) {
		t.Error("a pinned frame was dropped")
	}
	if !w.room(5000, 200) || w.count != 0 {
		t.Error("one frame may exceed the window alone")
	}
}
