//go:build unix

package socket

import "syscall"

// Writer writes to one connection. It waits as the connection's own Write does, and heeds its deadline. Not for concurrent use.
type Writer struct {
	raw  syscall.RawConn
	more func(uintptr) (done bool) // send, bound once

	p   []byte // of the write under way
	n   int    // octets of p that are out
	err error  // why no more will be
}

// NewWriter returns a Writer to the connection below raw.
func NewWriter(raw syscall.RawConn) *Writer {
	w := &Writer{raw: raw}
	w.more = w.send
	return w
}

// Write is io.Writer's.
func (w *Writer) Write(p []byte) (n int, err error) {
	w.p, w.n, w.err = p, 0, nil
	err = w.raw.Write(w.more)
	w.p = nil
	if err != nil {
		return w.n, err
	}
	return w.n, w.err
}

// send writes what the socket takes of p now, and tells whether the write is over.
func (w *Writer) send(fd uintptr) bool {
	for w.n < len(w.p) {
		n, err := Send(fd, w.p[w.n:])
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			w.err = err
			return true
		}
		w.n += n
	}
	return true
}
