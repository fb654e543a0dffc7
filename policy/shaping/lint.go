package shaping

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/policy/settings"
)

// rowPrefix begins the name of a receiver's row where rules are told by name.
const rowPrefix = "receivers/"

// Finding is a row, or a figure of one, that does not do what its writer meant.
type Finding struct {
	Receiver string
	Rule     string // "receivers/" and the receiver
	Text     string // what is wrong with it
	Meant    bool   // a built-in row that an operator's stands before: as it should be, if it was meant
}

// Lint finds rows that no mail can ever come to, because others that match the same come before them or because they name
// nobody, and figures that no mail can ever reach, because another of the row is always met first.
func (r *Rules) Lint() (out []Finding) {
	taken, all := r.owners()
	for i := range r.all {
		row := &r.all[i]
		found := func(by int, format string, args ...any) {
			out = append(out, Finding{Receiver: row.Name, Rule: rowPrefix + row.Name, Text: fmt.Sprintf(format, args...),
				Meant: i < r.builtin && by >= r.builtin})
		}
		if row.Name == defaultRule {
			r.figures(row, func(text string) { found(i, "%s", text) })
			continue
		}
		lost, most := map[int][]string{}, 0
		for _, p := range patterns(row) {
			most++
			if by := taken[p]; by != i {
				lost[by] = append(lost[by], p)
			} else if all >= 0 && all != i && strings.HasPrefix(p, "mx ") {
				lost[all] = append(lost[all], p)
			}
		}
		for _, by := range slices.Sorted(maps.Keys(lost)) {
			verb := "loses " + strings.Join(lost[by], ", ") + " to"
			if len(lost[by]) == most {
				verb = "never matches: all it names is that of"
			}
			found(by, "%s %s", verb, rowPrefix+r.all[by].Name)
		}
		if most == 0 {
			found(i, "never matches: it names neither domains nor mx")
		}
		r.figures(row, func(text string) { found(i, "%s", text) })
	}
	return out
}

// patterns are what a row names, such as "domain *.ezweb.ne.jp" and "mx .google.com".
func patterns(row *settings.ReceiverRule) (all []string) {
	for _, d := range row.Domains {
		all = append(all, "domain "+strings.ToLower(d))
	}
	for _, h := range row.MX {
		all = append(all, "mx "+strings.ToLower(h))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// owners tells which row has each pattern: the last that names it. all is the row that has every domain, so that no MX host
// is looked at any more; -1 = none.
func (r *Rules) owners() (taken map[string]int, all int) {
	taken, all = map[string]int{}, -1
	for i := range r.all {
		for _, p := range patterns(&r.all[i]) {
			taken[p] = i
		}
	}
	if i, ok := taken["domain *"]; ok {
		all = i
	}
	return taken, all
}

// figures finds those of a row that are never reached.
func (r *Rules) figures(row *settings.ReceiverRule, found func(string)) {
	l := r.limits(row)
	// As fast as the row can ever be, messages a second; 0 = no bound.
	fastest, by := l.Rate, fmt.Sprintf("the rate is %.4g a second", l.Rate)
	if l.Interval > 0 {
		if pace := float64(l.Connections) * float64(time.Second) / float64(l.Interval); fastest == 0 || pace < fastest {
			fastest, by = pace, fmt.Sprintf("%d connections with an interval of %s carry %.4g a second", l.Connections, l.Interval, pace)
		}
	}
	never := func(name string, value any, why string) {
		found(fmt.Sprintf("%s %v is never reached: %s", name, value, why))
	}
	bounded := fastest > 0
	switch {
	case row.Start > 0 && row.Fixed:
		found(fmt.Sprintf("start %v counts for nothing: a fixed row learns nothing", row.Start))
	case row.Start > 0 && bounded && row.Start > fastest*1.001:
		never("start", row.Start, by)
	}
	if row.Rate > 0 && bounded && row.Rate > fastest*1.001 {
		never("rate", row.Rate, by)
	}
	if row.HourlyCap > 0 {
		switch {
		case bounded && float64(row.HourlyCap) > 3600*fastest*1.001:
			never("hourly_cap", row.HourlyCap, by)
		case l.DailyCap > 0 && row.HourlyCap > l.DailyCap:
			never("hourly_cap", row.HourlyCap, fmt.Sprintf("daily_cap is %d", l.DailyCap))
		}
	}
	if row.DailyCap > 0 {
		switch {
		case bounded && float64(row.DailyCap) > 86400*fastest*1.001:
			never("daily_cap", row.DailyCap, by)
		case l.HourlyCap > 0 && row.DailyCap > 24*l.HourlyCap:
			never("daily_cap", row.DailyCap, fmt.Sprintf("hourly_cap is %d", l.HourlyCap))
		}
	}
	if row.PerConnection > 1 && l.SessionTime > 0 && l.Interval > 0 && time.Duration(row.PerConnection-1)*l.Interval > l.SessionTime {
		never("per_connection", row.PerConnection, fmt.Sprintf("session_time is %s and interval %s", l.SessionTime, l.Interval))
	}
}

// Names tells whether any destination can have a receiver of that name: what is said of another is never asked for.
func (r *Rules) Names(receiver string) bool {
	for _, prefix := range [...]string{"mx:", "domain:", "route:"} {
		if strings.HasPrefix(receiver, prefix) {
			return true
		}
	}
	return r.has(receiver)
}

func (r *Rules) has(name string) bool {
	return slices.ContainsFunc(r.all, func(row settings.ReceiverRule) bool { return row.Name == name })
}

// RowOf is the row whose limits hold for a receiver, by its name: that of the name, or the default one. ok is false for a
// relay of the operator's, which has none.
func (r *Rules) RowOf(receiver string) (row string, ok bool) {
	switch {
	case strings.HasPrefix(receiver, "route:"):
		return "", false
	case r.has(receiver):
		return receiver, true
	}
	return defaultRule, true
}

// Row is a receiver's row as a list shows it.
type Row struct {
	Name         string
	Matches      []string // "docomo.ne.jp", "mx .google.com"
	Own          bool     // an operator's
	Limits       string   // in words
	Source, Date string
}

// Rows lists the rows, an operator's first.
func (r *Rules) Rows() (out []Row) {
	for _, i := range slices.Concat(span(r.builtin, len(r.all)), span(0, r.builtin)) {
		row := &r.all[i]
		one := Row{Name: row.Name, Own: i >= r.builtin, Source: row.Source, Date: row.Date}
		for _, p := range patterns(row) {
			one.Matches = append(one.Matches, strings.TrimPrefix(p, "domain "))
		}
		l := r.limits(row)
		one.Limits = l.words()
		out = append(out, one)
	}
	return out
}

func span(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// words tells what the limits are, shortly.
func (l *Limits) words() string {
	parts := []string{fmt.Sprintf("%d connections", l.Connections)}
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(l.PerConnection > 0, "%d messages each", l.PerConnection)
	add(l.Interval > 0, "%s apart", l.Interval)
	add(l.Rate > 0, "%.4g/s", l.Rate)
	add(l.Start > 0, "from %.4g/s", l.Start)
	add(l.HourlyCap > 0, "%d an hour", l.HourlyCap)
	add(l.DailyCap > 0, "%d a day", l.DailyCap)
	add(l.Size > 0, "messages of %d KiB", l.Size>>10)
	add(l.Fixed, "fixed")
	return strings.Join(parts, ", ")
}
