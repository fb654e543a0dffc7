package compat

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

// Bounds of parameters.
const (
	maxText  = 256 // octets of a text that is searched for
	maxItems = 1000
	maxPage  = 100_000
	maxRows  = 100 // of a page
	rows     = 10  // of a page where the caller says nothing
)

// errBody is reported for a body that is neither a form nor a flat JSON object.
var errBody = errors.New("the body must be a form or a JSON object")

// readParams reads the body of a call: a form, or a JSON object of texts, numbers, truth values, and lists of these.
func readParams(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, errBody
	}
	body, err := io.ReadAll(r.Body) // bounded by the front
	if err != nil {
		return nil, err
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		v, err := url.ParseQuery(string(body))
		if err != nil || !utf8.Valid(body) {
			return nil, errBody
		}
		return v, nil
	case "application/json":
		return parseJSON(body)
	}
	return nil, errBody
}

func parseJSON(body []byte) (url.Values, error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(body, &in); err != nil || in == nil || !utf8.Valid(body) {
		return nil, errBody
	}
	out := url.Values{}
	for name, raw := range in {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			list = []json.RawMessage{raw}
		}
		if len(list) > maxItems {
			return nil, errBody
		}
		for _, one := range list {
			text, ok := scalar(one)
			if !ok {
				return nil, errBody
			}
			out.Add(name, text)
		}
	}
	return out, nil
}

// scalar is a JSON text, number or truth value as a form would hold it; null is nothing.
func scalar(raw json.RawMessage) (string, bool) {
	var text string
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[':
		return "", false
	case raw[0] == '"':
		return text, json.Unmarshal(raw, &text) == nil && utf8.ValidString(text)
	case string(raw) == "null":
		return "", true
	}
	return string(raw), true
}

// form is the parameters of a call, from a body or an address, and what is wrong with them.
type form struct {
	values url.Values
	faults *faults
}

// text reads a parameter; "" where there is none.
func (f *form) text(name string) string {
	v := f.values.Get(name)
	if len(v) > maxText {
		f.faults.add(codeLong, name)
		return ""
	}
	return v
}

// needed reads a parameter that must be there.
func (f *form) needed(name string) string {
	if f.values.Get(name) == "" {
		f.faults.add(codeMissing, name)
		return ""
	}
	return f.text(name)
}

// number reads a whole number from low to high; absent where there is none.
func (f *form) number(name string, absent, low, high int) int {
	v := f.text(name)
	if v == "" {
		return absent
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		f.faults.add(codeRange, name)
		return absent
	}
	return n
}

// truth reads true, false, 1 or 0.
func (f *form) truth(name string) bool {
	switch f.text(name) {
	case "", "false", "0":
		return false
	case "true", "1":
		return true
	}
	f.faults.add(codeRange, name)
	return false
}

// page reads which records are wanted (requirement B3).
func (c *call) page() (skip, take int) {
	p, r := c.number("p", 0, 0, maxPage), c.number("r", rows, 1, maxRows)
	return p * r, r
}

// day reads a date as its first moment in the user's time zone, which must not lie in the future; zero where there is
// none.
func (c *call) day(name string) time.Time {
	v := c.text(name)
	if v == "" {
		return time.Time{}
	}
	t, err := time.ParseInLocation(time.DateOnly, v, c.user.Zone)
	switch {
	case err != nil:
		c.faults.add(codeRange, name)
		return time.Time{}
	case t.After(c.now):
		c.faults.add(codeDate, name)
		return time.Time{}
	}
	return t
}

// point reads date, hour and minute: the day, one hour of it, or one minute of that. Both zero where there is no date.
func (c *call) point() (since, until time.Time) {
	since = c.day("date")
	hour, minute := c.number("hour", -1, 0, 23), c.number("minute", -1, 0, 59)
	switch {
	case since.IsZero():
		if hour >= 0 || minute >= 0 {
			c.faults.add(codeMissing, "date")
		}
		return since, since
	case hour < 0 && minute >= 0:
		c.faults.add(codeMissing, "hour")
		return since, since
	case hour < 0:
		return since, since.AddDate(0, 0, 1)
	}
	y, m, d := since.Date()
	since = time.Date(y, m, d, hour, max(minute, 0), 0, 0, c.user.Zone)
	if since.After(c.now) {
		c.faults.add(codeDate, "hour")
	}
	if minute < 0 {
		return since, since.Add(time.Hour)
	}
	return since, since.Add(time.Minute)
}

// period reads start_date and end_date, both inclusive; a zero end means that there is none.
func (c *call) period() (since, until time.Time) {
	since, until = c.day("start_date"), c.day("end_date")
	if until.IsZero() {
		return since, until
	}
	if until.Before(since) {
		c.faults.add(codeDate, "end_date")
	}
	return since, until.AddDate(0, 0, 1)
}
