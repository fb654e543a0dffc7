package wire

import "bytes"

// Fault says why a body cannot be taken.
type Fault uint8

// The faults of a body, worst last: a later one replaces an earlier one.
const (
	FaultNone     Fault = iota
	FaultTooLarge       // more octets than the limit
	FaultMemory         // all connections together hold too much
	FaultHeader         // header section too large
	FaultLine           // a line longer than the limit
	FaultBytes          // bare CR, bare LF or NUL
)

// bodyReader takes a message out of the octets that follow DATA (RFC 5321 §4.5.2) or BDAT (RFC 3030). It takes
// pieces of any size; the end of DATA is CRLF "." CRLF and nothing else.
//
// buf holds what is finished, unstuffed, and from tail on the raw octets of a line whose LF has not come yet.
// After a fault it only looks for the end.
type bodyReader struct {
	env       *Env
	buf       []byte
	tail      int
	limit     int // octets of the finished body
	maxLine   int
	normalize bool
	dots      bool // dot-stuffed (DATA); false = BDAT
	crlf      bool // the previous line ended with CRLF, or this is the first one
	inHeader  bool
	fields    int
	fault     Fault
	skipped   int64   // octets swallowed after a fault
	last      [4]byte // the last octets swallowed, oldest first, to find the end across pieces
}

func (r *bodyReader) reset(env *Env, o *Options, limit int, dots bool) {
	*r = bodyReader{
		env: env, limit: limit, maxLine: o.MaxLine, normalize: o.Normalize, dots: dots, crlf: true, inHeader: true,
	}
}

// feed takes octets from p. used says how many of them belong to the body; done that the end was among them (never
// with BDAT, whose end the caller knows).
func (r *bodyReader) feed(p []byte) (used int, done bool) {
	if r.buf == nil && r.fault == FaultNone {
		r.buf = r.env.body(min(len(p), bodySizes[2]))
	}
	plain := true // run may try
	for start := 0; start < len(p); {
		if r.fault != FaultNone {
			n, done := r.swallow(p[start:])
			return start + n, done
		}
		if plain && r.tail == len(r.buf) {
			var n int
			n, plain = r.run(p[start:])
			if start += n; n > 0 {
				continue
			}
		}
		i := bytes.IndexByte(p[start:], '\n')
		if i < 0 {
			if r.partial(p[start:]) {
				return len(p), false
			}
			continue // swallow what partial did not take
		}
		end := start + i + 1
		line := p[start:end]
		if r.tail < len(r.buf) { // the line began in an earlier piece: finish it in buf
			if !r.put(line) {
				continue
			}
			line = r.buf[r.tail:]
			r.buf = r.buf[:r.tail]
		}
		if r.line(line) {
			return end, true
		}
		start = end
	}
	return len(p), false
}

// run takes as many ordinary lines as p begins with in one go: complete, none with a leading dot, nothing to object
// to. It leaves everything else to line; plain is false where the rest of p is not worth another try.
func (r *bodyReader) run(p []byte) (taken int, plain bool) {
	lines, fields, inHeader := 0, r.fields, r.inHeader
	for taken < len(p) {
		first := p[taken]
		if first == '.' && r.dots {
			break
		}
		i := bytes.IndexByte(p[taken:], '\r')
		if i < 0 || taken+i+1 >= len(p) || p[taken+i+1] != '\n' || i > r.maxLine {
			break
		}
		if inHeader {
			if i == 0 {
				inHeader = false
			} else if first != ' ' && first != '\t' {
				fields++
			}
			if fields > r.env.limits.HeaderFields || inHeader && len(r.buf)+taken+i+2 > r.env.limits.HeaderBytes {
				return 0, false
			}
		}
		taken += i + 2
		lines++
	}
	if taken == 0 {
		return 0, true
	}
	// Each CR found above ends a line, so there is a bare LF only if there are more LFs than lines.
	if bytes.Count(p[:taken], lineFeed) != lines || bytes.IndexByte(p[:taken], 0) >= 0 || len(r.buf)+taken > r.limit {
		return 0, false
	}
	b, ok := r.env.grow(r.buf, taken)
	if !ok {
		return 0, false
	}
	r.buf = append(b, p[:taken]...)
	r.tail, r.fields, r.inHeader, r.crlf = len(r.buf), fields, inHeader, true
	return taken, true
}

var lineFeed = []byte{'\n'}

// partial keeps the octets of a line that has not ended, or fails and takes none.
func (r *bodyReader) partial(p []byte) bool {
	if len(r.buf)-r.tail+len(p) > r.maxLine+2 {
		r.fail(FaultLine)
		return false
	}
	return r.put(p)
}

// put appends raw octets, or fails. It leaves room for two more, so that finishing the line in place never moves buf.
func (r *bodyReader) put(p []byte) bool {
	b, ok := r.env.grow(r.buf, len(p)+2)
	if !ok {
		r.fail(FaultMemory)
		return false
	}
	r.buf = append(b, p...)
	return true
}

// line takes one line with its LF, which may lie behind r.buf's end in the same array. It tells whether the line was
// the end of DATA.
func (r *bodyReader) line(l []byte) (done bool) {
	text := l[:len(l)-1]
	crlf := len(text) > 0 && text[len(text)-1] == '\r'
	if crlf {
		text = text[:len(text)-1]
	}
	if r.dots && len(text) > 0 && text[0] == '.' {
		if len(text) == 1 && crlf && r.crlf {
			return true
		}
		if len(text) > 1 { // a lone dot that is not the end is text (only where bare LF is repaired)
			text = text[1:]
		}
	}
	r.crlf = crlf
	if !crlf || bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		if !r.normalize {
			r.fail(FaultBytes)
			return false
		}
		for i, c := range text {
			if c == '\r' || c == 0 {
				text[i] = ' '
			}
		}
	}
	if len(text) > r.maxLine {
		r.fail(FaultLine)
		return false
	}
	if r.inHeader && !r.header(text) {
		return false
	}
	return r.keep(text)
}

// keep appends a finished line. It always returns false, for line's sake.
func (r *bodyReader) keep(text []byte) bool {
	if len(r.buf)+len(text)+2 > r.limit {
		r.fail(FaultTooLarge)
		return false
	}
	if len(r.buf)+len(text)+2 > cap(r.buf) {
		b, ok := r.env.grow(r.buf, len(text)+2+len(r.buf)/2)
		if !ok {
			r.fail(FaultMemory)
			return false
		}
		r.buf = b
	}
	r.buf = append(append(r.buf, text...), '\r', '\n')
	r.tail = len(r.buf)
	return false
}

// header counts the header section, which ends at the first empty line.
func (r *bodyReader) header(text []byte) bool {
	if len(text) == 0 {
		r.inHeader = false
		return true
	}
	if text[0] != ' ' && text[0] != '\t' {
		r.fields++
	}
	if r.fields > r.env.limits.HeaderFields || len(r.buf)+len(text)+2 > r.env.limits.HeaderBytes {
		r.fail(FaultHeader)
		return false
	}
	return true
}

// fail gives up the body and notes what the search for its end must know about the octets already taken.
func (r *bodyReader) fail(f Fault) {
	r.last = [4]byte{0, 0, 0, '\n'}
	if r.crlf {
		r.last[2] = '\r'
	}
	r.remember(r.buf[r.tail:])
	r.fault = f
	r.skipped = int64(len(r.buf))
	r.env.release(r.buf)
	r.buf, r.tail = nil, 0
}

// swallow looks for the end of DATA.
func (r *bodyReader) swallow(p []byte) (used int, done bool) {
	for r.dots && used < len(p) {
		i := bytes.IndexByte(p[used:], '\n')
		if i < 0 {
			break
		}
		r.remember(p[used : used+i])
		used += i + 1
		r.skipped += int64(i + 1)
		if r.last == [4]byte{'\r', '\n', '.', '\r'} {
			return used, true
		}
		r.last = [4]byte{r.last[1], r.last[2], r.last[3], '\n'}
	}
	r.remember(p[used:])
	r.skipped += int64(len(p) - used)
	return len(p), false
}

// remember notes p as the last octets seen.
func (r *bodyReader) remember(p []byte) {
	if len(p) >= len(r.last) {
		copy(r.last[:], p[len(p)-len(r.last):])
		return
	}
	copy(r.last[:], r.last[len(p):])
	copy(r.last[len(r.last)-len(p):], p)
}

// finish ends a BDAT body, whose last line may lack its CRLF.
func (r *bodyReader) finish() {
	if r.fault != FaultNone || r.tail == len(r.buf) {
		return
	}
	if r.put([]byte("\r\n")) {
		line := r.buf[r.tail:]
		r.buf = r.buf[:r.tail]
		r.line(line)
	}
}
