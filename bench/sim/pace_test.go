package sim

import (
	"bytes"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Every receiver's hidden quotas are found out and used, few messages are refused on the way, nobody blocks more than
// once, no limit is exceeded, nothing begins in quiet hours, and what concerns one sender slows down nobody else. The
// command plays more seeds and longer times, and holds them against the goals.
func TestPace(t *testing.T) {
	const least = 0.9 // of the quota, in a run this short
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	var runs []PaceResult
	for _, m := range Models() {
		r := Pace(1, &m, rules, 5*time.Hour, nil)
		switch {
		case r.Err != nil:
			t.Errorf("%s: %v", m.Name, r.Err)
		case r.Used < least || r.RefusedShare() >= MostRefused || r.Most > 1 || r.Slowed+r.Exceeded+r.QuietStarts > 0:
			t.Errorf("%s: %+v", m.Name, r)
		case m.Scoped > 0 && r.Scoped == 0:
			t.Errorf("%s: no answer concerned one sender's mail", m.Name)
		case m.Grey > 0 && r.Strayed >= r.Greylisted/50: // but for what its own could not connect for
			t.Errorf("%s: %d of %d greylisted messages came again from another source", m.Name, r.Strayed, r.Greylisted)
		}
		runs = append(runs, r)
	}
	var report bytes.Buffer
	if _, err := Report(&report, runs); err != nil {
		t.Error(err)
	}
	t.Log("\n" + report.String())
}

// TestKindsOfMailAreOneSource: with cleaning mail and mail of two filters on the way, one of them of a fixed pace, no limit of
// a source is exceeded, none of it begins while the receiver has said to stop, and none goes to the suppressed.
func TestKindsOfMailAreOneSource(t *testing.T) {
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Models() {
		m.Kinds = true
		r := Pace(2, &m, rules, 3*time.Hour, nil)
		if r.Err != nil || r.Exceeded+r.Slowed > 0 || r.Used < 0.8 || r.Most > 1 {
			t.Errorf("%s: %+v", m.Name, r)
		}
		if r.Apart < r.Accepted/20 {
			t.Errorf("%s: %d of %d messages were of a kind with limits of its own", m.Name, r.Apart, r.Accepted)
		}
	}
}

func TestASeedIsAPace(t *testing.T) {
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	m := &Models()[6]
	if a, b := Pace(7, m, rules, time.Hour, nil), Pace(7, m, rules, time.Hour, nil); a != b {
		t.Errorf("the same seed gave\n%+v\n%+v", a, b)
	}
}
