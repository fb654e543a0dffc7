package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/metrics"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// newAlarms are the alarms of a node that has nothing else.
func newAlarms() (*Node, *bytes.Buffer) {
	var log bytes.Buffer
	n := &Node{clock: &clock.Clock{}, metrics: metrics.New("test"), log: slog.New(slog.NewTextHandler(&log, nil))}
	n.alarms.node = n
	n.metrics.Alarms.From(n.alarms.report)
	return n, &log
}

// TestAlarms: an alarm is told once where it begins, stands until it is lowered or its time is over, and begins anew then.
func TestAlarms(t *testing.T) {
	n, log := newAlarms()
	a := alarm{Name: "late_bounces", About: "docomo", Text: "too many", Lasts: time.Hour}
	lines := func() int { return strings.Count(log.String(), "msg=alarm ") }
	shown := func() string {
		w := httptest.NewRecorder()
		n.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		var out []string
		for l := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(l, "ekiden_alarms") {
				out = append(out, strings.TrimSpace(l))
			}
		}
		return strings.Join(out, " ")
	}
	n.alarms.raise(a)
	n.clock.Advance(50 * time.Minute)
	a.Text = "even more"
	n.alarms.raise(a)
	n.clock.Advance(50 * time.Minute) // beyond the first hour, within the second
	told := n.alarms.notices()
	if !n.alarms.stands("late_bounces", "docomo") || n.alarms.stands("late_bounces", "au") {
		t.Error("docomo's stands, au's does not")
	}
	if lines() != 1 || len(told) != 1 || told[0].Code != "late_bounces" || !strings.HasPrefix(told[0].Detail, "even more (since ") {
		t.Errorf("%d lines, notices %+v", lines(), told)
	}
	if got := shown(); got != `ekiden_alarms{alarm="late_bounces"} 1 ekiden_alarms_total{alarm="late_bounces"} 1` {
		t.Errorf("metrics: %s", got)
	}
	n.clock.Advance(10 * time.Minute)
	if told := n.alarms.notices(); len(told) != 0 || n.alarms.stands("late_bounces", "docomo") {
		t.Errorf("its time is over: %+v", told)
	}
	n.alarms.raise(a)
	n.alarms.lower("late_bounces", "docomo")
	n.alarms.lower("late_bounces", "docomo")
	if lines() != 2 || len(n.alarms.list()) != 0 || strings.Count(log.String(), "alarm ended") != 2 {
		t.Errorf("lowered: %+v\n%s", n.alarms.list(), log)
	}
	for i := range alarmsMost + 10 {
		a.About = fmt.Sprint(i)
		n.alarms.raise(a)
	}
	if got := len(n.alarms.list()); got != alarmsMost || lines() != alarmsMost+12 {
		t.Errorf("%d stand, %d lines", got, lines())
	}
}

// TestLatesOfAnotherEngine: what one engine has counted as taken, the next does not count again.
func TestLatesOfAnotherEngine(t *testing.T) {
	n, _ := newAlarms()
	n.numbers = &numbers{}
	n.numbers.tally("docomo")[mail.EventDelivered].Add(100)
	for _, row := range []struct {
		name string
		more int64
		want bounce.LateHour
	}{{"what was there before", 0, bounce.LateHour{}}, {"what comes", 7, bounce.LateHour{Taken: 7}}} {
		x := &lates{}
		x.begin(n)
		x.sample(n, "docomo", n.numbers.tally("docomo")[mail.EventDelivered].Add(row.more))
		if got := x.of("docomo").Sum(n.clock.Now()); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}
