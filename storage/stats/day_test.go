package stats

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// counts is what TestDay expects of one row, in the order of Result.
func result(queued, succeeded, failed, blocked, bounced, success, ng uint64) statistics.Result {
	return statistics.Result{Queued: queued, Succeeded: succeeded, Failed: failed, Blocked: blocked, Bounced: bounced, Success: success, NG: ng}
}

// TestDay walks deliveries over midnight: acceptance and end stand on the day of the acceptance, results on the day they
// came (requirements R81, R83, D3).
func TestDay(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	next := noon.AddDate(0, 0, 1)
	for _, c := range []struct {
		name         string
		carrier      string
		end          mail.Event
		first, later statistics.Result // the day of acceptance, and the next, on which it ends
	}{
		{"delivered", "docomo", mail.Event{Kind: mail.EventDelivered}, result(1, 1, 0, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 1, 0)},
		{"user unknown", "docomo", mail.Event{Kind: mail.EventFailed, Status: mail.StatusUserUnknown}, result(1, 0, 1, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"refused", "docomo", mail.Event{Kind: mail.EventFailed, Status: mail.StatusRefused}, result(1, 0, 1, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"full at a carrier", "docomo", mail.Event{Kind: mail.EventFailed, Status: mail.StatusOverCapacity}, result(1, 0, 1, 0, 0, 0, 0), statistics.Result{}},
		{"full elsewhere", "pc", mail.Event{Kind: mail.EventFailed, Status: mail.StatusOverCapacity}, result(1, 0, 1, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"expired", "pc", mail.Event{Kind: mail.EventFailed, Status: mail.StatusTimeout}, result(1, 0, 1, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"on the block list", "pc", mail.Event{Kind: mail.EventSuppressed, Status: mail.StatusBlockListed}, result(1, 0, 0, 1, 0, 0, 0), statistics.Result{}},
		{"unsubscribed", "pc", mail.Event{Kind: mail.EventSuppressed, Status: mail.StatusUnsubscribed}, result(1, 0, 0, 1, 0, 0, 0), statistics.Result{}},
		{"in the black box", "pc", mail.Event{Kind: mail.EventSuppressed, Status: mail.StatusUserUnknown}, result(1, 0, 1, 0, 0, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"discarded", "pc", mail.Event{Kind: mail.EventDiscarded}, result(1, 0, 1, 0, 0, 0, 0), statistics.Result{}},
		{"deferred", "pc", mail.Event{Kind: mail.EventDeferred}, result(1, 0, 0, 0, 0, 0, 0), statistics.Result{}},
		{"reported later", "ezweb", mail.Event{Kind: mail.EventBounced, Status: mail.StatusRefused}, result(1, 0, 0, 0, 1, 0, 0), result(0, 0, 0, 0, 0, 0, 1)},
		{"a complaint", "ezweb", mail.Event{Kind: mail.EventComplained}, result(1, 0, 0, 0, 0, 0, 0), statistics.Result{}},
		{"our own", "pc", mail.Event{Kind: mail.EventDelivered, Own: true}, result(1, 0, 0, 0, 0, 0, 0), statistics.Result{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(Config{Carrier: func(mail.Domain) string { return c.carrier }})
			about := mail.Event{Tenant: "shop", Composition: "main", User: "app", From: "a@shop.example", To: "b@x.example", Domain: "x.example"}
			accepted := about
			accepted.Kind, accepted.At = mail.EventAccepted, noon
			table.Add(&accepted)
			end := about
			end.Kind, end.Status, end.Own, end.At, end.Taken = c.end.Kind, c.end.Status, c.end.Own, next, noon
			table.Add(&end)
			row := statistics.Row{Tenant: "shop", Composition: "main", User: "app", From: "shop.example", Carrier: c.carrier}
			first, later := table.Day(statistics.DateOf(noon)), table.Day(statistics.DateOf(next))
			if got := first.Rows[row]; got != c.first {
				t.Errorf("the first day has %+v, want %+v", got, c.first)
			}
			if got := later.Rows[row]; got != c.later {
				t.Errorf("the second day has %+v, want %+v", got, c.later)
			}
			errors := later.Errors[statistics.ErrorsOf{Tenant: "shop", User: "app", Domain: "x.example", Status: c.end.Status}]
			if want := c.end.Status != 0; (errors == 1) != want || len(first.Errors) > 0 {
				t.Errorf("%d errors of the status on its day, %d kinds the day before", errors, len(first.Errors))
			}
		})
	}
}

// disk is where days lie that a table has written.
type disk map[statistics.Date][]byte

func (d disk) load(date statistics.Date) ([]byte, error) { return d[date], nil }

func (d disk) write(t *testing.T, table *Table) {
	t.Helper()
	if err := table.Days(func(date statistics.Date, raw []byte) error { d[date] = raw; return nil }); err != nil {
		t.Fatal(err)
	}
	table.Written()
}

// TestDays counts for weeks, writes now and then, and begins anew from what was written: nothing is lost, nothing counts
// twice, and the identity of requirement R81 holds on every day.
func TestDays(t *testing.T) {
	d := disk{}
	carrier := func(to mail.Domain) string { return string(to[:2]) }
	table, one := New(Config{Carrier: carrier, Load: d.load}), New(Config{Carrier: carrier})
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local)
	begun := statistics.DateOf(now)
	var waiting []mail.Event
	for now.Before(time.Date(2026, 2, 10, 0, 0, 0, 0, time.Local)) {
		now = now.Add(time.Duration(r.IntN(3600)) * time.Second)
		e := mail.Event{At: now, Kind: mail.EventAccepted, Tenant: fmt.Sprint("t", r.IntN(3)), From: "a@f.example",
			Domain: mail.Domain(fmt.Sprintf("d%d.example", r.IntN(9)))}
		table.Add(&e)
		one.Add(&e)
		e.Taken = e.At
		waiting = append(waiting, e)
		for len(waiting) > 0 && (r.IntN(3) > 0 || now.Sub(waiting[0].Taken) > 4*24*time.Hour) {
			end := waiting[0]
			waiting = waiting[1:]
			end.At, end.Kind = now, mail.EventKind(2+r.IntN(5))
			if end.Kind == mail.EventDeferred {
				end.Kind, end.Status = mail.EventFailed, mail.StatusTimeout
			}
			table.Add(&end)
			one.Add(&end)
		}
		if r.IntN(40) == 0 {
			d.write(t, table)
			if r.IntN(2) == 0 {
				snapshot := table.Snapshot(nil)
				table = New(Config{Carrier: carrier, Load: d.load})
				if err := table.Restore(snapshot); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var all []statistics.Date
	for date := begun; date <= statistics.DateOf(now); date++ {
		all = append(all, date)
		var sum statistics.Result
		for _, row := range table.Day(date).Rows {
			sum.Add(row)
		}
		if settled := date < statistics.DateOf(now)-5; settled && (sum.Queued == 0 || sum.Queued != sum.Succeeded+sum.Failed+sum.Blocked) {
			t.Errorf("%v: %+v does not add up", date, sum)
		}
	}
	if !Same(table, one, all) {
		t.Error("what was written and read again is not what was counted")
	}
	e := mail.Event{At: now, Kind: mail.EventAccepted, Tenant: "t0", Domain: "d1.example"}
	if one.Add(&e); Same(table, one, all) {
		t.Error("one more event makes no difference")
	}
	if len(table.days.kept) > recentDays+8 {
		t.Errorf("%d days in memory", len(table.days.kept))
	}
}

func TestDayBounds(t *testing.T) {
	d := newDay()
	for i := range maxRows + 500 {
		d.row(statistics.Row{Tenant: "t", From: mail.Domain(fmt.Sprintf("d%d.example", i))}).Queued++
		d.fault(statistics.ErrorsOf{Tenant: "t", Domain: mail.Domain(fmt.Sprintf("d%d.example", i)), Status: mail.StatusTimeout})
	}
	var queued, faults uint64
	for _, r := range d.rows {
		queued += r.Queued
	}
	for _, n := range d.errors {
		faults += n
	}
	if queued != maxRows+500 || faults != maxRows+500 || len(d.rows) != maxRows+1 || len(d.errors) > maxErrors+1 {
		t.Errorf("%d in %d rows, %d in %d errors", queued, len(d.rows), faults, len(d.errors))
	}
}

func FuzzReadDay(f *testing.F) {
	d := newDay()
	d.row(statistics.Row{Tenant: "shop", Composition: "main", User: "app", From: "f.example", Carrier: "pc", Cleaning: true}).Add(result(1, 2, 3, 4, 5, 6, 7))
	d.fault(statistics.ErrorsOf{Tenant: "shop", User: "app", Domain: "x.example", Status: mail.StatusUserUnknown})
	f.Add(d.append(nil))
	f.Add([]byte{dayVersion, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := readDay(raw)
		if err != nil {
			return
		}
		again, err := readDay(first.append(nil))
		if err != nil || len(again.rows) != len(first.rows) || len(again.errors) != len(first.errors) {
			t.Errorf("a day that was read differs when written: %v", err)
		}
	})
}
