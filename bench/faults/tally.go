package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ekiden-mta/ekiden/bench/verdict"
)

// tally is what ledger and record say together.
type tally struct {
	verdict.Verdict
	copies  int // arrivals beyond the first, of messages without a 250 as well
	altered int // copies that differ from one another
	silent  int // dots left without an answer on purpose
	dupes   map[string]int
}

// check reads both files.
func check(ledger, record string) (tally, error) {
	t := tally{dupes: map[string]int{}}
	var err error
	if t.Verdict, err = verdict.Check(ledger, record); err != nil {
		return t, err
	}
	seen := map[string]string{}
	err = eachLine(record, func(line []byte) error {
		var a struct {
			Event, Token, Content, Stage string
			Rcpt                         []string
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		switch a.Event {
		case "unanswered":
			t.silent++
		case "message":
			for _, rcpt := range a.Rcpt {
				key := a.Token + " " + rcpt
				content, again := seen[key]
				if !again {
					seen[key] = a.Content
					continue
				}
				t.copies++
				t.dupes[key]++
				if content != a.Content {
					t.altered++
				}
			}
		}
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("faults: read record: %w", err)
	}
	return t, nil
}

// judge notes every broken promise of t but its copies, which depend on the fault.
func (t *tally) judge(r *Report, where string) {
	if t.Delivered != t.Accepted {
		r.broke("%s: of %d acknowledged %d were delivered, %d lost, %d refused: %.300q", where, t.Accepted, t.Delivered, t.Lost, t.Refused, t.Examples)
	}
	if t.Wrong+t.altered > 0 {
		r.broke("%s: %d messages arrived with other bytes, %d copies differ: %.300q", where, t.Wrong, t.altered, t.Examples)
	}
	if t.Violations > 0 {
		r.broke("%s: %d breaches of the outbound wire form: %.300q", where, t.Violations, t.Examples)
	}
}

// eachLine calls f for every complete line; a file that is not there has none.
func eachLine(path string, f func([]byte) error) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for r := bufio.NewReaderSize(file, 1<<20); ; {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(line)
		}
		if err != nil {
			return err
		}
	}
}

// tail follows a file that grows by lines.
type tail struct {
	path  string
	lines int
	bytes int64 // of complete lines
	buf   []byte
}

// look reads on. A file that is not there yet is empty.
func (t *tail) look() error {
	f, err := os.Open(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if t.buf == nil {
		t.buf = make([]byte, 1<<20)
	}
	for {
		n, err := f.ReadAt(t.buf, t.bytes)
		end := bytes.LastIndexByte(t.buf[:n], '\n') + 1
		t.lines += bytes.Count(t.buf[:end], []byte{'\n'})
		t.bytes += int64(end)
		if err == io.EOF || end == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
