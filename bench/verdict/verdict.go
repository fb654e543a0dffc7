// Package verdict holds what a relay promised (the ledger of 250s that bench/load wrote) against what arrived (the
// record that bench/sink wrote): lost, duplicated and changed messages.
//
// It reads these two files and nothing else. It must never ask the relay, whose word is what is being tested.
package verdict

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// maxLine bounds a line of either file: a message may have 1000 recipients.
const maxLine = 1 << 20

// maxExamples is how many tokens of each kind of trouble are kept for the reader.
const maxExamples = 10

// ErrLine is reported for a line that is neither a ledger's nor a record's.
var ErrLine = errors.New("line cannot be read")

// Verdict is the comparison. Everything but Messages counts deliveries: one recipient of one message.
type Verdict struct {
	Messages   int `json:"messages"`   // in the ledger
	Accepted   int `json:"accepted"`   // in the ledger
	Delivered  int `json:"delivered"`  // of them, at the sink at least once
	Refused    int `json:"refused"`    // of them, never delivered but refused for good by the sink: a final outcome
	Lost       int `json:"lost"`       // of them, neither
	Duplicates int `json:"duplicates"` // arrivals beyond the first
	Wrong      int `json:"wrong"`      // arrivals whose content is not what was sent
	Unledgered int `json:"unledgered"` // arrivals without a 250 in the ledger: the client was cut before it read it
	Violations int `json:"violations"` // breaches of the outbound oracle

	First    time.Time     `json:"first"`    // first MAIL of the ledger
	LastOK   time.Time     `json:"last_ok"`  // last 250 of the ledger
	Arrived  time.Time     `json:"arrived"`  // first arrival
	Last     time.Time     `json:"last"`     // last arrival
	P50      time.Duration `json:"p50_ns"`   // from MAIL to arrival, first arrivals only
	P99      time.Duration `json:"p99_ns"`   //
	Examples []string      `json:"examples"` // what went wrong, at most ten of each kind
	counts   map[string]int
}

// OK tells whether nothing was lost and nothing changed. Duplicates are judged by the caller: a fault may allow some.
func (v Verdict) OK() bool { return v.Lost == 0 && v.Wrong == 0 && v.Violations == 0 }

// String is one line for people and logs.
func (v Verdict) String() string {
	return fmt.Sprintf("accepted=%d delivered=%d refused=%d lost=%d dup=%d wrong=%d unledgered=%d violations=%d",
		v.Accepted, v.Delivered, v.Refused, v.Lost, v.Duplicates, v.Wrong, v.Unledgered, v.Violations)
}

// promise is one delivery of the ledger.
type promise struct {
	content string
	mailAt  time.Time
	arrived int
	refused bool
}

// Check compares the files. A missing record is an empty one: then everything is lost.
func Check(ledger, record string) (Verdict, error) {
	v := Verdict{counts: map[string]int{}}
	book, err := v.readLedger(ledger)
	if err != nil {
		return v, fmt.Errorf("verdict: %w", err)
	}
	delays, err := v.readRecord(record, book)
	if err != nil {
		return v, fmt.Errorf("verdict: %w", err)
	}
	for key, p := range book {
		switch {
		case p.arrived > 0:
			v.Delivered++
			v.Duplicates += p.arrived - 1
			if p.arrived > 1 {
				v.example("duplicate", key)
			}
		case p.refused:
			v.Refused++
		default:
			v.Lost++
			v.example("lost", key)
		}
	}
	if len(delays) > 0 {
		slices.Sort(delays)
		v.P50, v.P99 = delays[len(delays)/2], delays[len(delays)*99/100]
	}
	return v, nil
}

func (v *Verdict) example(kind, what string) {
	if v.counts[kind]++; v.counts[kind] <= maxExamples {
		v.Examples = append(v.Examples, kind+" "+what)
	}
}

// name is what a delivery is known by in both files.
func name(token, rcpt string) string { return token + " " + rcpt }

func (v *Verdict) readLedger(path string) (map[string]*promise, error) {
	book := map[string]*promise{}
	err := eachLine(path, func(line []byte) error {
		f := strings.Split(string(line), " ")
		if len(f) != 7 {
			return ErrLine
		}
		at, err1 := time.Parse(time.RFC3339Nano, f[1])
		mailAt, err2 := time.Parse(time.RFC3339Nano, f[4])
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("%w: %w", ErrLine, err)
		}
		v.Messages++
		if v.First.IsZero() || mailAt.Before(v.First) {
			v.First = mailAt
		}
		if at.After(v.LastOK) {
			v.LastOK = at
		}
		for _, rcpt := range strings.Split(f[6], ",") {
			v.Accepted++
			book[name(f[0], rcpt)] = &promise{content: f[5], mailAt: mailAt}
		}
		return nil
	})
	return book, err
}

// arrival is a line of the record, as far as the verdict needs it.
type arrival struct {
	Event      string    `json:"event"`
	Time       time.Time `json:"time"`
	Rcpt       []string  `json:"rcpt"`
	Code       int       `json:"code"`
	Token      string    `json:"token"`
	Content    string    `json:"content"`
	Violations int       `json:"violations"`
}

func (v *Verdict) readRecord(path string, book map[string]*promise) ([]time.Duration, error) {
	var delays []time.Duration
	refused := map[string]bool{} // at RCPT: no message, so no token
	err := eachLine(path, func(line []byte) error {
		var a arrival
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("%w: %w", ErrLine, err)
		}
		v.Violations += a.Violations
		if a.Violations > 0 {
			v.example("violation", a.Token)
		}
		for _, rcpt := range a.Rcpt {
			p := book[name(a.Token, rcpt)]
			switch {
			case a.Event == "refused" && a.Code >= 500 && a.Token == "":
				refused[rcpt] = true
			case a.Event == "refused" && a.Code >= 500 && p != nil:
				p.refused = true
			case a.Event != "message":
			case p == nil:
				v.Unledgered++
			default:
				if p.arrived++; p.arrived == 1 {
					delays = append(delays, a.Time.Sub(p.mailAt))
				}
				if p.content != a.Content {
					v.Wrong++
					v.example("wrong", name(a.Token, rcpt))
				}
			}
		}
		if a.Event == "message" {
			if v.Arrived.IsZero() || a.Time.Before(v.Arrived) {
				v.Arrived = a.Time
			}
			if a.Time.After(v.Last) {
				v.Last = a.Time
			}
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for key, p := range book {
		if _, rcpt, _ := strings.Cut(key, " "); refused[rcpt] {
			p.refused = true
		}
	}
	return delays, err
}

// eachLine calls f for every line. A last line without its end was cut by the death of its writer before it was
// complete, so what it promises was never said: it is left out.
func eachLine(path string, f func([]byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if len(line) < maxLine {
				return nil // the end, or a torn last line
			}
			return fmt.Errorf("%s:%d: %w", path, n, bufio.ErrBufferFull)
		}
		if err := f(line[:len(line)-1]); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
}
