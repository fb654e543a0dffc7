package sim

import (
	"bytes"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Every receiver's hidden quota is found out and used, few messages are refused on the way, and nobody blocks. The
// command plays more seeds and longer times.
func TestPace(t *testing.T) {
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	var runs []PaceResult
	for _, m := range Models() {
		for seed := int64(1); seed <= 2; seed++ {
			r := Pace(seed, &m, rules, 6*time.Hour)
			if r.Err != nil {
				t.Errorf("%s, seed %d: %v", m.Name, seed, r.Err)
			}
			runs = append(runs, r)
		}
	}
	var report bytes.Buffer
	met, err := Report(&report, runs)
	if err != nil || !met {
		t.Errorf("goals missed (%v):\n%s", err, report.String())
	}
	t.Log("\n" + report.String())
}
