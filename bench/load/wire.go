package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
)

const maxReply = 16 << 10 // octets of one reply, all lines together

var errReply = errors.New("reply is no SMTP")

// wire is the client's end of a connection: gathered writes, bounded replies.
type wire struct {
	conn net.Conn
	out  []byte
	buf  []byte
	r, w int
}

func newWire(c net.Conn) *wire { return &wire{conn: c, buf: make([]byte, maxReply)} }

func (w *wire) put(words ...string) {
	for _, s := range words {
		w.out = append(w.out, s...)
	}
}

func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// reply reads one reply and returns its code and its text with the codes, which is valid until the next call.
func (w *wire) reply() (int, []byte, error) {
	start := w.r
	for at := w.r; ; {
		i := bytes.IndexByte(w.buf[at:w.w], '\n')
		if i < 0 {
			if w.w == len(w.buf) {
				if start == 0 {
					return 0, nil, fmt.Errorf("%w: longer than %d octets", errReply, maxReply)
				}
				copy(w.buf, w.buf[start:w.w])
				at, w.w, start = at-start, w.w-start, 0
			}
			n, err := w.conn.Read(w.buf[w.w:])
			if n == 0 {
				if err == nil {
					err = io.ErrNoProgress
				}
				return 0, nil, err
			}
			w.w += n
			continue
		}
		line := w.buf[at : at+i]
		at += i + 1
		code, more, ok := parseLine(line)
		if !ok {
			return 0, nil, fmt.Errorf("%w: %.80q", errReply, line)
		}
		if more {
			continue
		}
		text := w.buf[start:at]
		if w.r = at; w.r == w.w {
			w.r, w.w = 0, 0
		}
		return code, text, nil
	}
}

// parseLine reads the code of a reply line and whether more lines follow (RFC 5321 §4.2.1).
func parseLine(line []byte) (code int, more, ok bool) {
	if len(line) < 3 {
		return 0, false, false
	}
	for _, b := range line[:3] {
		if b < '0' || b > '9' {
			return 0, false, false
		}
		code = code*10 + int(b-'0')
	}
	return code, len(line) > 3 && line[3] == '-', code >= 200 && code < 600
}
