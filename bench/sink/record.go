package sink

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// recorder appends JSON lines to the record. A session writes its lines with one system call before it answers, so
// that a 250 is never without its line; what was written survives the death of the process.
type recorder struct {
	f    *os.File
	once sync.Once
	err  error
	mu   sync.Mutex
}

func openRecord(path string) (*recorder, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sink: open record: %w", err)
	}
	return &recorder{f: f}, nil
}

// write appends whole lines.
func (r *recorder) write(lines []byte) error {
	if _, err := r.f.Write(lines); err != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		return err
	}
	return nil
}

func (r *recorder) close() error {
	var err error
	r.once.Do(func() { err = r.f.Close() })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	return err
}

// entry is one line of the record. Event is "message" for a message answered with 250, "unanswered" for one whose
// dot got no answer on purpose, "refused" for a recipient or message refused with Code.
func (s *session) entry(event string, at time.Time, code int, stage string, rcpts [][]byte) {
	b := s.lines
	b = append(b, `{"event":"`...)
	b = append(b, event...)
	b = append(b, `","time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","source":"`...)
	b = s.source.AppendTo(b)
	b = append(b, `","listener":"`...)
	b = append(b, s.listener.addr...)
	b = append(b, `","receiver":`...)
	b = appendJSON(b, []byte(s.receiver().Name))
	b = append(b, `,"session":`...)
	b = strconv.AppendUint(b, s.id, 10)
	b = append(b, `,"tls":`...)
	b = strconv.AppendBool(b, s.tls)
	b = append(b, `,"from":`...)
	b = appendJSON(b, s.from)
	b = append(b, `,"rcpt":[`...)
	for i, r := range rcpts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, r)
	}
	b = append(b, ']')
	if code != 0 {
		b = append(b, `,"code":`...)
		b = strconv.AppendInt(b, int64(code), 10)
		b = append(b, `,"stage":"`...)
		b = append(b, stage...)
		b = append(b, '"')
	}
	if stage == "dot" {
		b = s.body.appendJSON(b, s.sums[:0])
	}
	s.lines = append(b, '}', '\n')
}

func (c *content) appendJSON(b, sum []byte) []byte {
	b = append(b, `,"token":`...)
	b = appendJSON(b, c.key())
	b = append(b, `,"message_id":`...)
	b = appendJSON(b, c.messageID)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, c.size, 10)
	b = append(b, `,"trace":`...)
	b = strconv.AppendInt(b, c.trace, 10)
	b = append(b, `,"sha256":"`...)
	b = hex.AppendEncode(b, c.whole.Sum(sum))
	b = append(b, `","content":"`...)
	b = hex.AppendEncode(b, c.inner.Sum(sum))
	b = append(b, `","violations":`...)
	return strconv.AppendInt(b, int64(c.violated()), 10)
}

// appendJSON appends p as a JSON string; octets that are no UTF-8 become U+FFFD.
func appendJSON(b, p []byte) []byte {
	b = append(b, '"')
	for i := 0; i < len(p); {
		switch c := p[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRune(p[i:])
			b = utf8.AppendRune(b, r)
			i += n
		}
	}
	return append(b, '"')
}
