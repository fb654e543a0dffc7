package load

import (
	"crypto/sha256"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// letter is one message as it will stand on the wire. A session reuses its letters.
type letter struct {
	number  int
	token   []byte
	rcpts   [][]byte
	paths   []byte // backing of rcpts
	data    []byte // the message, dots unstuffed: no line of ours starts with one
	sum     [sha256.Size]byte
	content [sha256.Size]byte // without steering headers
	mailAt  time.Time         // when its MAIL was written
}

// writer makes letters. Safe for concurrent use: it never changes.
type writer struct {
	cfg      Config
	prefix   string
	date     string
	filler   []byte // body lines, long enough for every message
	kept     []byte // headers that stay
	steering []byte // headers that the relay removes
	domains  []string
}

func newWriter(cfg Config) *writer {
	w := &writer{cfg: cfg, prefix: cfg.Prefix, date: clock.Wall().Format(time.RFC1123Z)}
	if w.prefix == "" {
		w.prefix = strconv.FormatInt(clock.Wall().UnixMicro(), 36)
	}
	for _, h := range cfg.Headers {
		field := []byte(h.Name + ": " + h.Value + "\r\n")
		if cfg.steers(h.Name) {
			w.steering = append(w.steering, field...)
		} else {
			w.kept = append(w.kept, field...)
		}
	}
	if w.domains = cfg.DomainList; len(w.domains) == 0 {
		for i := range cfg.Domains {
			w.domains = append(w.domains, "d"+strconv.Itoa(i)+".example")
		}
	}
	// Text that compresses about as prose does, so that a store that compresses gains nothing unreal.
	seed := uint32(2463534242)
	for len(w.filler) < cfg.Size+80 {
		for range 70 {
			seed ^= seed << 13
			seed ^= seed >> 17
			seed ^= seed << 5
			w.filler = append(w.filler, "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"[seed%64])
		}
		w.filler = append(w.filler, '\r', '\n')
	}
	return w
}

// write makes message number n.
func (w *writer) write(l *letter, n int) {
	l.number = n
	l.token = append(append(l.token[:0], w.prefix...), '-')
	l.token = strconv.AppendInt(l.token, int64(n), 10)
	l.paths, l.rcpts = l.paths[:0], l.rcpts[:0]
	for i := range w.cfg.Recipients {
		k := n*w.cfg.Recipients + i
		start := len(l.paths)
		l.paths = append(l.paths, w.cfg.LocalParts[k%len(w.cfg.LocalParts)]...)
		l.paths = strconv.AppendInt(l.paths, int64(k), 10)
		l.paths = append(l.paths, '@')
		l.paths = append(l.paths, w.domains[k%len(w.domains)]...)
		l.rcpts = append(l.rcpts, l.paths[start:len(l.paths):len(l.paths)])
	}
	b := append(l.data[:0], w.steering...)
	b = append(b, "X-Bench-Token: "...)
	b = append(b, l.token...)
	b = append(b, "\r\nMessage-ID: <"...)
	b = append(b, l.token...)
	b = append(b, "@load.example>\r\nDate: "...)
	b = append(b, w.date...)
	b = append(b, "\r\nFrom: <"...)
	b = append(b, w.cfg.From...)
	b = append(b, ">\r\nTo: <"...)
	b = append(b, l.rcpts[0]...)
	b = append(b, ">\r\nSubject: bench\r\n"...)
	b = append(b, w.kept...)
	b = append(b, '\r', '\n')
	if missing := w.cfg.Size - len(b); missing > 2 {
		b = append(b, w.filler[:missing-2]...)
		for i := len(b) - 1; b[i] == '\r' || b[i] == '\n'; i-- { // never an empty or half line end
			b[i] = '='
		}
		b = append(b, '\r', '\n')
	}
	l.data = b
	l.sum = sha256.Sum256(b)
	l.content = l.sum
	if len(w.steering) > 0 {
		l.content = sha256.Sum256(b[len(w.steering):])
	}
}
