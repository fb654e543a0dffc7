package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// counted counts the writes of a connection.
type counted struct {
	net.Conn
	writes int
	fail   error
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes++
	if c.fail != nil {
		return 0, c.fail
	}
	return c.Conn.Write(b)
}

// TestGather: while somebody holds it, writes are put together, up to a bound; what failed fails from then on.
func TestGather(t *testing.T) {
	for _, row := range []struct {
		name   string
		held   bool
		sizes  []int
		writes int
	}{
		{"not held", false, []int{10, 20, 30}, 3},
		{"held", true, []int{16 << 10, 16 << 10, 16 << 10, 100}, 1},
		{"held, and too much", true, []int{maxGathered - 1, 1, 10, maxGathered}, 2},
		{"held, nothing written", true, nil, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, b := net.Pipe()
			var got bytes.Buffer
			var reading sync.WaitGroup
			reading.Go(func() { _, _ = io.Copy(&got, b) })
			c := &counted{Conn: a}
			g := &gather{Conn: c}
			if row.held {
				g.hold()
			}
			var want []byte
			for i, size := range row.sizes {
				part := bytes.Repeat([]byte{byte(i + 1)}, size)
				want = append(want, part...)
				if n, err := g.Write(part); n != size || err != nil {
					t.Fatalf("wrote %d of %d: %v", n, size, err)
				}
			}
			if row.held {
				if err := g.flush(); err != nil {
					t.Fatal(err)
				}
			}
			a.Close()
			reading.Wait()
			if c.writes != row.writes || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%d writes, want %d; %d octets of %d came", c.writes, row.writes, got.Len(), len(want))
			}
		})
	}
	c := &counted{fail: errors.New("gone")}
	g := &gather{Conn: c}
	g.hold()
	if _, err := g.Write([]byte("x")); err != nil {
		t.Errorf("held: %v", err)
	}
	if err := g.flush(); !errors.Is(err, c.fail) {
		t.Errorf("flush: %v", err)
	}
	if _, err := g.Write([]byte("y")); !errors.Is(err, c.fail) || c.writes != 1 {
		t.Errorf("afterwards: %v, %d writes", err, c.writes)
	}
}
