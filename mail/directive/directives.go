package directive

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// What a message may ask for itself (R32). A value outside counts as absent.
const (
	MinLifetime = 60 * time.Second
	MaxLifetime = 432_000 * time.Second
	MinRetry    = 10 * time.Second
	MaxRetry    = 86_400 * time.Second
)

// extension handles a field whose name starts with x: the chosen names, the fixed ones, and X-Api-Data. It tells
// whether the field is a steering header.
func (d *Directives) extension(f field, names *Names, h *Header) bool {
	if d.named(f, names) {
		return true
	}
	const relay = "X-Relay-"
	if len(f.name) > len(relay) && bytes.EqualFold(f.name[:len(relay)], []byte(relay)) {
		return d.relay(f)
	}
	if f.is("X-Delivery-Time-Specified") {
		d.timeSpecified(f)
		return true
	}
	if f.is("X-Api-Data") {
		first(&h.APIData, f.value)
	}
	return false
}

// named handles the fields whose names the composition chose.
func (d *Directives) named(f field, names *Names) bool {
	switch {
	case f.isOwn(names.Cleaning):
		switch v := trimmed(f.value); v {
		case "true":
			d.Cleaning = true
		case "false", "":
		default:
			d.warn(f, v, `the only value is "true"`)
		}
	case f.isOwn(names.Appoint):
		v := trimmed(f.value)
		if t, ok := unix(v); ok {
			if d.Start.IsZero() {
				d.Start = t
			}
		} else {
			d.warn(f, v, "not a decimal number of at most 10 digits")
		}
	case f.isOwn(names.Group):
		v := trimmed(f.value)
		switch {
		case !printable(v, MaxGroup):
			d.warn(f, v, "not 1 to 64 printable ASCII characters")
		case d.Group == "":
			d.Group = v
		}
	default:
		return false
	}
	return true
}

// relay handles the headers of fixed name, in any case (R30).
func (d *Directives) relay(f field) bool {
	switch {
	case f.is("X-Relay-Start-Time"):
		v := trimmed(f.value)
		t, ok := unix(v)
		if !ok {
			var err error
			t, err = time.Parse(time.RFC3339, v)
			ok = err == nil
		}
		if !ok {
			d.warn(f, v, "neither Unix seconds nor RFC 3339")
		} else if d.Start.IsZero() {
			d.Start = t
		}
	case f.is("X-Relay-Lifetime"):
		d.seconds(f, &d.Lifetime, MinLifetime, MaxLifetime)
	case f.is("X-Relay-Retry-Interval"):
		d.seconds(f, &d.Retry, MinRetry, MaxRetry)
	case f.is("X-Relay-Quiet-Hours"):
		v := trimmed(f.value)
		if !quietHours(v) {
			d.warn(f, v, "not HHMM-HHMM with two different times")
		} else if d.QuietHours == "" {
			d.QuietHours = v
		}
	case f.is("X-Relay-Idempotency-Key"):
		v := trimmed(f.value)
		if !printable(v, MaxKey) {
			d.warn(f, v, "not 1 to 128 printable ASCII characters")
		} else if d.Key == "" {
			d.Key = v
		}
	default:
		return false
	}
	return true
}

// japan is the zone of X-Delivery-Time-Specified, whatever that of the process is; it has had no summer time since 1951.
var japan = time.FixedZone("JST", 9*60*60)

// timeSpecified reads the form of a reservation that another service has (requirement R31).
func (d *Directives) timeSpecified(f field) {
	v := trimmed(f.value)
	t, err := time.ParseInLocation("2006/01/02 15:04", v, japan)
	if err != nil {
		d.warn(f, v, "not yyyy/MM/dd HH:mm")
	} else if d.Start.IsZero() {
		d.Start = t
	}
}

// timeForm is how a reservation is written at the beginning of a subject.
const timeForm = "[2006/01/02 15:04] "

// subjectTime reads a reservation at the beginning of a Subject whose value ends at end of the message, has it cut out, and
// returns the value behind it (requirement R31). One inside an encoded word is none.
func (d *Directives) subjectTime(value []byte, end int, h *Header) []byte {
	text := bytes.TrimLeft(value, " \t")
	if len(text) < len(timeForm) {
		return value
	}
	t, err := time.ParseInLocation(timeForm, string(text[:len(timeForm)]), japan)
	if err != nil {
		return value
	}
	if d.Start.IsZero() {
		d.Start = t
	}
	at := end - len(text)
	h.Cut = append(h.Cut, Range{at, at + len(timeForm)})
	return text[len(timeForm):]
}

func (d *Directives) seconds(f field, p *time.Duration, lo, hi time.Duration) {
	v := trimmed(f.value)
	n, err := strconv.ParseUint(v, 10, 32)
	length := time.Duration(n) * time.Second
	if err != nil || length < lo || length > hi {
		d.warn(f, v, fmt.Sprintf("not a number of seconds from %d to %d", lo/time.Second, hi/time.Second))
		return
	}
	if *p == 0 {
		*p = length
	}
}

// maxWarnings bounds what one message may make us write.
const maxWarnings = 8

func (d *Directives) warn(f field, value, text string) {
	if len(d.Warnings) < maxWarnings {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%.100s: %.100q ignored: %s", f.name, value, text))
	}
}

// trimmed is the value of a field on one line, without white space around it (RFC 5322 §2.2.3).
func trimmed(value []byte) string { return string(bytes.TrimSpace(unfold(value))) }

// unfold takes the line ends out of value; it copies only where there are any inside.
func unfold(value []byte) []byte {
	value = bytes.TrimRight(value, "\r\n")
	if bytes.IndexByte(value, '\n') < 0 {
		return value
	}
	out := make([]byte, 0, len(value))
	for _, c := range value {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return out
}

// unix reads a decimal integer of at most 10 digits (R28).
func unix(s string) (time.Time, bool) {
	if len(s) == 0 || len(s) > 10 {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return time.Unix(int64(n), 0), err == nil
}

func printable(s string, most int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= most
}

func quietHours(s string) bool {
	return len(s) == 9 && s[4] == '-' && timeOfDay(s[:4]) && timeOfDay(s[5:]) && s[:4] != s[5:]
}

func timeOfDay(s string) bool {
	h, err1 := strconv.ParseUint(s[:2], 10, 8)
	m, err2 := strconv.ParseUint(s[2:], 10, 8)
	return err1 == nil && err2 == nil && h < 24 && m < 60
}
