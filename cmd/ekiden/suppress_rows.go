package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/mail"
)

// maxRow is the longest line of a file of addresses, in octets.
const maxRow = 16 << 10

// errBadRow marks a row that is passed over; reading goes on behind it.
var errBadRow = errors.New("bad row")

// rowReader reads a file of addresses: one per line, or columns parted by tabs or, in CSV, by commas. A first line
// that holds the word "address" in a column names the columns; without one they are address, reason, expires.
type rowReader struct {
	lines   *bufio.Scanner // of tab separated text
	parts   []string       // of the present line, used again for the next
	csv     *csv.Reader    // of CSV, else nil
	line    int            // of the row that was returned last, from 1
	columns []string       // nil until the first row has been seen
}

// rowColumns are the names a column may have.
func rowColumns() []string {
	return []string{"address", "list", "tenant", "filter", "reason", "expires"}
}

// quoted are the beginnings of a cell of a CSV that a spreadsheet would take for a formula (threat T19), and the mark itself
// that is set before them.
const quoted = "'=+-@\t\r"

// rowOf is s as a row of rowColumns, which next reads as it was.
func rowOf(s *adminpb.Suppression) []string {
	expires := ""
	if s.Expires != nil {
		expires = s.Expires.AsTime().UTC().Format(time.RFC3339)
	}
	cells := []string{s.Address, s.List, s.Tenant, s.Filter, s.Reason, expires}
	for i, c := range cells {
		if c != "" && strings.ContainsRune(quoted, rune(c[0])) || i == 0 && strings.HasPrefix(c, "#") {
			cells[i] = "'" + c
		}
	}
	return cells
}

// unquoted is a cell of a CSV without the mark of rowOf.
func unquoted(c string) string {
	if rest, ok := strings.CutPrefix(c, "'"); ok && rest != "" && strings.ContainsRune(quoted+"#", rune(rest[0])) {
		return rest
	}
	return c
}

func newRowReader(r io.Reader, comma bool) *rowReader {
	if !comma {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 4096), maxRow)
		return &rowReader{lines: s}
	}
	c := csv.NewReader(r)
	c.FieldsPerRecord, c.ReuseRecord, c.LazyQuotes = -1, true, true
	return &rowReader{csv: c}
}

// next returns the next row, io.EOF at the end, or an error that wraps errBadRow.
func (r *rowReader) next() (*adminpb.Suppression, error) {
	for {
		cells, err := r.cells()
		if err != nil {
			return nil, err
		}
		first := r.columns == nil
		if first {
			r.columns = []string{"address", "reason", "expires"}
			cells[0] = strings.TrimPrefix(cells[0], "\ufeff")
			if named, err := columnsOf(cells); named != nil || err != nil {
				r.columns = named
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		if len(cells) == 1 && cells[0] == "" || strings.HasPrefix(cells[0], "#") {
			continue
		}
		return r.row(cells)
	}
}

func (r *rowReader) cells() ([]string, error) {
	if r.csv != nil {
		cells, err := r.csv.Read()
		if err == nil || errors.Is(err, csv.ErrFieldCount) {
			r.line, _ = r.csv.FieldPos(0)
			return cells, nil
		}
		return nil, err
	}
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line+1, err)
		}
		return nil, io.EOF
	}
	r.line++
	r.parts = slices.AppendSeq(r.parts[:0], strings.SplitSeq(strings.TrimRight(r.lines.Text(), "\r"), "\t"))
	return r.parts, nil
}

// columnsOf reads a line that names columns; nil where it is a row like the others.
func columnsOf(cells []string) ([]string, error) {
	names := make([]string, len(cells))
	for i, c := range cells {
		names[i] = strings.ToLower(strings.TrimSpace(c))
	}
	if !slices.Contains(names, "address") {
		return nil, nil
	}
	for i, n := range names {
		if !slices.Contains(rowColumns(), n) {
			return nil, fmt.Errorf("unknown column %.80q; allowed: %s", n, strings.Join(rowColumns(), ", "))
		}
		if slices.Index(names, n) < i {
			return nil, fmt.Errorf("the column %.80q stands there twice", n)
		}
	}
	return names, nil
}

func (r *rowReader) row(cells []string) (*adminpb.Suppression, error) {
	if len(cells) > len(r.columns) {
		return nil, fmt.Errorf("%w: %d columns, %d are expected", errBadRow, len(cells), len(r.columns))
	}
	s := &adminpb.Suppression{}
	for i, c := range cells {
		if r.csv != nil {
			c = unquoted(c)
		}
		c = strings.TrimSpace(strings.ToValidUTF8(c, "\ufffd"))
		switch r.columns[i] {
		case "address":
			s.Address = c
		case "list":
			s.List = c
		case "tenant":
			s.Tenant = c
		case "filter":
			s.Filter = c
		case "reason":
			s.Reason = c
		case "expires":
			at, err := expiry(c)
			if err != nil {
				return nil, err
			}
			s.Expires = at
		}
	}
	if err := mail.Address(s.Address).Check(); err != nil {
		return nil, fmt.Errorf("%w: %.80q is no mail address: %w", errBadRow, s.Address, err)
	}
	return s, nil
}

// expiry reads a moment: UNIX seconds, RFC 3339 or a date; nil for "".
func expiry(s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n < 1<<37 {
		return timestamppb.New(time.Unix(n, 0)), nil
	}
	for _, layout := range [...]string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, fmt.Errorf("%w: expires %.80q must be YYYY-MM-DD, RFC 3339 or UNIX seconds", errBadRow, s)
}
