package stats

import (
	"maps"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// recentDays is how many days stay in memory: as long as mail may wait (five days), and a little more.
const recentDays = 8

// days are the days' counts: the recent ones in memory, all of them wherever Config.Load finds them.
type days struct {
	Config
	kept map[statistics.Date]*day

	date       statistics.Date // of the last moment looked up
	begin, end int64
	lost       int // days that could not be read: counted on from nothing
}

// dateOf is DateOf, quick while time goes on.
func (s *days) dateOf(t time.Time) statistics.Date {
	at := t.Unix()
	if at < s.begin || at >= s.end {
		s.date = statistics.DateOf(t)
		s.begin, s.end = s.date.Begin().Unix(), (s.date + 1).Begin().Unix()
		if at < s.begin || at >= s.end { // a zone that leaps over midnight
			s.begin, s.end = at, at+1
		}
	}
	return s.date
}

// of returns the day's counts to count on, from memory or wherever they were written.
func (s *days) of(date statistics.Date) *day {
	if d := s.kept[date]; d != nil {
		return d
	}
	d := s.load(date)
	s.kept[date] = d
	return d
}

func (s *days) load(date statistics.Date) *day {
	if s.Load == nil {
		return newDay()
	}
	raw, err := s.Load(date)
	if err == nil && raw != nil {
		var d *day
		if d, err = readDay(raw); err == nil {
			return d
		}
	}
	if err != nil {
		s.lost++
	}
	return newDay()
}

// add counts an event, and tells whether it counts.
func (s *days) add(e *mail.Event) bool {
	carrier := s.Carrier(e.Domain)
	accepted, ended := statistics.Count(e, carrier)
	if accepted == (statistics.Result{}) {
		return false
	}
	k := statistics.Row{Tenant: e.Tenant, Composition: e.Composition, User: e.User, From: e.From.Domain(), Carrier: carrier,
		Cleaning: e.Cleaning}
	taken := e.Taken
	switch {
	case e.Kind == mail.EventAccepted:
		taken = e.At
	case taken.IsZero():
		taken = e.Message.Seq.Time()
	}
	first, today := s.dateOf(taken), s.dateOf(e.At)
	if first == today {
		accepted.Add(ended)
		ended = statistics.Result{}
	}
	d := s.of(first)
	d.row(k).Add(accepted)
	d.dirty = true
	fault := statistics.IsError(e)
	if ended == (statistics.Result{}) && !fault {
		return true
	}
	d = s.of(today)
	if d.dirty = true; ended != (statistics.Result{}) {
		d.row(k).Add(ended)
	}
	if fault {
		d.fault(statistics.ErrorsOf{Tenant: e.Tenant, User: e.User, Domain: e.Domain, Status: e.Status})
	}
	return true
}

// Day returns what is counted of a day.
func (t *Table) Day(date statistics.Date) Day {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.days.look(date)
}

func (s *days) look(date statistics.Date) Day {
	if d := s.kept[date]; d != nil {
		return d.copy()
	}
	return s.load(date).copy()
}

// Lost tells how many days could not be read and were counted on from nothing: rebuild them.
func (t *Table) Lost() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.days.lost
}

// Days hands the days that were counted on since the last Written to f, in the form that Config.Load returns: they are to
// be written together with the Snapshot of the same moment.
func (t *Table) Days(f func(statistics.Date, []byte) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for date, d := range t.days.kept {
		if !d.dirty {
			continue
		}
		if err := f(date, d.append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// Written tells that what Days last handed out is durable, and nothing was counted since.
func (t *Table) Written() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var newest statistics.Date
	for date := range t.days.kept {
		newest = max(newest, date)
	}
	for date, d := range t.days.kept {
		if d.dirty = false; date < newest-recentDays {
			delete(t.days.kept, date)
		}
	}
}

// Take gives t what other counted, as if t had counted it since its beginning. other must not be used any more.
func (t *Table) Take(other *Table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take(other)
	t.dirty = true
	for _, d := range t.days.kept {
		d.dirty = true
	}
}

// Same tells whether both counted the same: overall, under every name, in every window, and on the days given besides
// those that either has in memory.
func Same(a, b *Table, dates []statistics.Date) bool {
	a.mu.Lock()
	b.mu.Lock()
	defer a.mu.Unlock()
	defer b.mu.Unlock()
	if a.all != b.all || a.own != b.own {
		return false
	}
	for i, of := range a.breakdowns() {
		if !of.same(b.breakdowns()[i]) {
			return false
		}
	}
	dates = slices.AppendSeq(slices.AppendSeq(slices.Clone(dates), maps.Keys(a.days.kept)), maps.Keys(b.days.kept))
	slices.Sort(dates)
	for _, date := range slices.Compact(dates) {
		x, y := a.days.look(date), b.days.look(date)
		if !maps.Equal(x.Rows, y.Rows) || !maps.Equal(x.Errors, y.Errors) {
			return false
		}
	}
	return true
}
