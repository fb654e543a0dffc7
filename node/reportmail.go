package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/report"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// Users who want it are told every morning what became of the day before (requirement R84). The members agree on who
// writes the mails of a day, in the book and before any is written: a day is told once, or where that member ends in the
// same moment, not at all.

// metaReports is where the members keep the last day that was told.
const metaReports = "report mail"

// reports is how far a member knows the days to be told.
type reports struct {
	told   atomic.Int32 // statistics.Date
	asking atomic.Bool  // the members are being asked
}

// mindReports sees to yesterday's report mail, beside everything else: there may be no majority for a while.
func (n *Node) mindReports(e *engine, now time.Time) {
	if !toldUpTo(statistics.Date(e.reports.told.Load()), statistics.DateOf(now)-1) && e.reports.asking.CompareAndSwap(false, true) {
		e.done.Go(func() {
			defer e.reports.asking.Store(false)
			n.report(e, now)
		})
	}
}

// toldUpTo tells whether the days up to yesterday are told, by what is known as the last of them. Another member's clock may be past
// midnight already; what is later than that was told before a clock was set back, and says nothing of these days.
func toldUpTo(last, yesterday statistics.Date) bool { return last == yesterday || last == yesterday+1 }

// report writes yesterday's report mail once it has been worked up, if nobody else does.
func (n *Node) report(e *engine, now time.Time) {
	yesterday := statistics.DateOf(now) - 1
	m := n.member.Load()
	if m == nil || statistics.Date(e.nightly.through.Load()) < yesterday || !e.holds() {
		return
	}
	told, version := statistics.Date(0), uint64(0)
	if v, ok := m.book.State().Meta(metaReports); ok {
		day, err := strconv.ParseInt(string(v.Data), 10, 32)
		if err != nil {
			n.log.Error("the last day of report mail cannot be read", "error", err)
		}
		told, version = statistics.Date(day), v.Version
	}
	if !toldUpTo(told, yesterday) {
		ctx, cancel := context.WithTimeout(e.life, agreeWait)
		defer cancel()
		_, err := m.command(ctx, &ledger.PutMeta{Signed: m.by(""), Name: metaReports, Base: version, Data: []byte(strconv.Itoa(int(yesterday)))})
		switch {
		case errors.Is(err, service.ErrConflict): // another member writes them
		case err != nil:
			return // the next look is soon
		case told > 0 && told < yesterday: // a cluster that begins has no yesterday, nor has one whose clocks were set back
			n.writeReports(ctx, e, yesterday)
		}
	}
	e.reports.told.Store(int32(yesterday))
}

// writeReports writes the report mail of a day to everybody who wants it.
func (n *Node) writeReports(ctx context.Context, e *engine, date statistics.Date) {
	for _, member := range n.book.now.Load().index.Members() {
		for i := range member.Composition.Users {
			u := &member.Composition.Users[i]
			if !u.ReportMail {
				continue
			}
			if err := n.writeReport(ctx, e, member, u, date); err != nil {
				n.log.Warn("a report mail is not written", "user", u.Name, "date", date.String(), "error", err)
			}
		}
	}
}

func (n *Node) writeReport(ctx context.Context, e *engine, m *settings.Member, u *settings.User, date statistics.Date) error {
	q := service.StatisticsQuery{First: date, Last: date, Tenant: m.Tenant.Name}
	if u.OwnData {
		q.User = u.Name
	}
	counted, err := n.counted.Statistics(ctx, q)
	var partial *service.Partial
	if err != nil && !errors.As(err, &partial) {
		return err
	}
	_, sum := statistics.DailyOf(counted.Rows, false)
	id := mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}
	d := report.Daily{Notify: mail.Address(u.Name), Host: n.cfg.Node.Hostname, ID: id.String(), At: n.clock.Now().Truncate(time.Millisecond),
		Date: date.String(), Tenant: q.Tenant, User: q.User, Sent: sum.Valid(), Done: sum.Succeeded, Failed: sum.Failed, Blocked: sum.Blocked,
		Rates: [2]string{statistics.Rate(sum.Succeeded, sum.Valid()), statistics.Rate(sum.Failed, sum.Valid())}}
	for _, v := range counted.Errors {
		if v.Status == mail.StatusRefused {
			d.Refused += v.Count
		}
	}
	if partial != nil {
		for _, a := range partial.Missing {
			d.Missing = append(d.Missing, a.Name)
		}
	}
	own := e.bounces.own(ownMail{id: id, tenant: q.Tenant, composition: m.Composition.Name, member: m, to: d.Notify, at: d.At,
		headerID: "<" + d.ID + "@" + d.Host + ">", subject: d.Title(), body: d.Mail()})
	done := make(chan error, 1)
	e.store.Put(own, func(err error) { done <- err })
	if err := <-done; err != nil {
		return fmt.Errorf("node: store report mail: %w", err)
	}
	e.bounces.stored(own)
	return nil
}
