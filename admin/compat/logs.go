package compat

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Bounds of the log API (requirements B8, R77).
const (
	logRows    = 100 // of a page where the caller says nothing
	maxLogRows = 1000
	logDays    = 31  // that are shown
	cursorMark = "c" // begins a page that is a place in the log; others are numbers
)

// logRecord is one record of the log API.
type logRecord struct {
	Time         string `json:"time"`
	SourceIP     string `json:"source_ip"`
	Result       string `json:"result"`
	Code         int    `json:"code"`
	To           string `json:"to"`
	EnvelopeFrom string `json:"envelope_from"`
	Message      string `json:"message"` // the receiver's words, or ours
	MessageID    string `json:"message_id"`
	Bounce       string `json:"bounce,omitempty"` // soft or hard (R98)
}

// logs serves GET /baremail/v1/logs?kind=&from=&to=&since=&until=&source_ip=&code=&page=&limit= (requirement B8).
func (a *API) logs(w http.ResponseWriter, r *http.Request) {
	who, no := a.reader(r)
	if no != nil {
		challenge(w, no)
		a.refuse(w, no, false)
		return
	}
	defer a.leaveReader(who)
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	q := a.query(ctx, r, who)
	p := q.logPage()
	var out struct {
		Logs []logRecord `json:"logs"`
		Next *string     `json:"next"` // the page behind this one; null at the end
	}
	out.Logs = []logRecord{}
	if len(q.faults.list) == 0 {
		var err error
		out.Logs, out.Next, err = q.readLog(p)
		no = q.fails(w, err)
	} else {
		no = q.faults
	}
	if no != nil {
		a.refuse(w, no, false)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_ = json.NewEncoder(w).Encode(out) // a peer that has gone away is no trouble
}

// logPage is which records of the log API are wanted.
type logPage struct {
	search     service.EventQuery
	received   bool
	from, to   string
	client     netip.Addr // of received ones; invalid = any
	code       int        // 0 = any
	skip, take int
}

func (q *query) logPage() (p logPage) {
	p.from, p.to = strings.ToLower(q.text("from")), strings.ToLower(q.text("to"))
	p.search = service.EventQuery{Tenant: q.who.Tenant, To: mail.Address(partOf(p.to)), From: mail.Address(p.from)}
	switch q.text("kind") {
	case "", "sent":
	case "received":
		p.received, p.search.Kinds = true, []mail.EventKind{mail.EventAccepted}
	default:
		q.faults.add(codeRange, "kind")
	}
	if q.who.OwnData {
		p.search.User = q.who.Name
	}
	p.search.Since, p.search.Until = q.span()
	if oldest := q.now.AddDate(0, 0, -logDays); p.search.Since.Before(oldest) {
		p.search.Since = oldest
	}
	if text := q.text("source_ip"); text != "" {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			q.faults.add(codeRange, "source_ip")
		}
		if p.received {
			p.client = ip.Unmap()
		} else {
			p.search.Source = ip.Unmap()
		}
	}
	p.code = q.number("code", 0, 100, 599)
	p.take = q.number("limit", logRows, 1, maxLogRows)
	if page := q.values.Get("page"); strings.HasPrefix(page, cursorMark) && len(page) <= service.MaxCursor {
		p.search.After = page[len(cursorMark):]
	} else {
		p.skip = q.number("page", 0, 0, maxPage) * p.take
	}
	return p
}

// readLog returns the records of a page, oldest first, and where the next one begins; nil at the end.
func (q *query) readLog(p logPage) (list []logRecord, next *string, err error) {
	list = []logRecord{}
	at := ""
	var broken error
	ends := clock.Wall().Add(searchTime)
	p.search.Reached = func(position string) bool {
		at = position
		if p.skip > 0 || clock.Wall().Before(ends) {
			return true
		}
		page := cursorMark + at
		next = &page
		return false
	}
	err = q.c.Services.Log.Search(q.ctx, p.search, func(e mail.Event, position string) bool {
		if e.Kind == mail.EventAccepted {
			q.heads.Note(&e)
		}
		if !p.wants(&e) {
			return p.search.Reached(position)
		}
		accepted := &e
		if foreign := q.who.OwnData && e.User != q.who.Name; !p.received && (foreign || p.skip == 0 && len(list) < p.take) {
			if accepted, broken = q.heads.Head(q.ctx, e.Message, q.acceptance); broken != nil {
				return false
			}
		}
		switch {
		case q.who.OwnData && e.User != q.who.Name && accepted.User != q.who.Name:
		case p.skip > 0:
			p.skip--
		case len(list) == p.take:
			page := cursorMark + at
			next = &page
			return false
		default:
			list = append(list, logRecordOf(&e, accepted, q.who.Zone))
		}
		return p.search.Reached(position)
	})
	if broken != nil {
		err = broken
	}
	return list, next, err
}

// wants tells whether an event is a record of the page's kind.
func (p *logPage) wants(e *mail.Event) bool {
	if e.Own || p.to != "" && !strings.Contains(e.To.Fold(), p.to) || p.from != "" && !strings.Contains(e.From.Fold(), p.from) {
		return false
	}
	if p.received {
		return e.Kind == mail.EventAccepted && (!p.client.IsValid() || e.Client.Unmap() == p.client) && (p.code == 0 || p.code == receivedCode)
	}
	return resultOf(e.Kind) != "" && (p.code == 0 || p.code == bounce.Code(e))
}

// receivedCode is what everything was answered that we took.
const receivedCode = 250

// resultOf is what became of an attempt; "" of events that are none.
func resultOf(k mail.EventKind) string {
	switch k {
	case mail.EventDelivered:
		return "success"
	case mail.EventDeferred:
		return "retry"
	case mail.EventFailed, mail.EventSuppressed, mail.EventDiscarded, mail.EventBounced:
		return "failure"
	}
	return ""
}

func logRecordOf(e, accepted *mail.Event, zone *time.Location) logRecord {
	r := logRecord{Time: e.At.In(zone).Format(time.RFC3339), Result: resultOf(e.Kind), Code: bounce.Code(e), To: string(e.To),
		EnvelopeFrom: string(e.From), MessageID: accepted.HeaderID, Bounce: bounce.Kind(e)}
	if r.MessageID == "" {
		r.MessageID = e.Message.String()
	}
	ip := e.Source
	if e.Kind == mail.EventAccepted {
		r.Result, r.Code, ip = "success", receivedCode, e.Client
	} else {
		r.Message = reason(e)
	}
	if ip.IsValid() {
		r.SourceIP = ip.String()
	}
	return r
}
