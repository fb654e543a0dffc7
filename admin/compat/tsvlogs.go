package compat

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// deliveryLog serves /srs/v1/log/delivery?since=&until=&group=&to=&status=: the nine columns of requirement R68, a row
// for each attempt, and for each end without one. status takes words of the column of that name, or of the native API, separated
// by commas.
func (q *query) deliveryLog(w http.ResponseWriter) *faults {
	to := strings.ToLower(q.text("to"))
	kinds, ofStatus := q.statuses()
	search := service.EventQuery{Kinds: kinds, Group: q.text("group"), To: mail.Address(partOf(to))}
	wants := func(e *mail.Event) bool {
		if to != "" && !strings.Contains(e.To.Fold(), to) || !ofStatus(e) {
			return false
		}
		return len(kinds) > 0 || resultOf(e.Kind) != "" && e.Kind != mail.EventBounced
	}
	columns := []string{"time", "group", "from", "to", "source", "destination", "stage", "status", "detail"}
	return q.events(w, columns, search, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.At), e.Group, string(e.From), string(e.To), source(e), destination(e), e.Stage.String(),
			logStatus(e), reason(e)}
	})
}

// statuses reads the parameter status: which kinds of events to look for, and which of those are wanted.
func (q *query) statuses() (kinds []mail.EventKind, wanted func(*mail.Event) bool) {
	written := map[string]mail.EventKind{"success": mail.EventDelivered, "temporary failure": mail.EventDeferred, "failure": mail.EventFailed,
		"dns temporary failure": mail.EventDeferred, "dns failure": mail.EventFailed}
	var whole []mail.EventKind
	var words []string // of the column, which part a kind
	for word := range strings.SplitSeq(q.text("status"), ",") {
		if kind, ok := written[strings.TrimSpace(word)]; ok {
			kinds, words = append(kinds, kind), append(words, strings.TrimSpace(word))
			continue
		}
		of, err := service.ParseStatuses(word)
		if err != nil || len(of) == 0 && q.text("status") != "" {
			q.faults.add(codeRange, "status")
		}
		kinds, whole = append(kinds, of...), append(whole, of...)
	}
	return kinds, func(e *mail.Event) bool {
		return len(words) == 0 || slices.Contains(whole, e.Kind) || slices.Contains(words, logStatus(e))
	}
}

// logStatus is the status of requirement R68: success, temporary failure, failure, and where it was the name service.
func logStatus(e *mail.Event) string {
	switch {
	case e.Kind == mail.EventDeferred && e.Stage == mail.StageDNS:
		return "dns temporary failure"
	case e.Kind == mail.EventFailed && e.Stage == mail.StageDNS:
		return "dns failure"
	}
	switch e.Kind {
	case mail.EventDelivered:
		return "success"
	case mail.EventDeferred:
		return "temporary failure"
	case mail.EventFailed:
		return "failure"
	}
	return service.StatusWord(e.Kind)
}

func source(e *mail.Event) string {
	if !e.Source.IsValid() {
		return ""
	}
	return e.Source.String()
}

func destination(e *mail.Event) string {
	if !e.Remote.IsValid() {
		return ""
	}
	return e.Remote.Addr().String()
}

// domainLog serves /srs/v1/log/domain?since=&until= (requirement R69): a row for each question put to the DNS. Questions are
// no tenant's where there are several.
func (q *query) domainLog(w http.ResponseWriter) *faults {
	wants := func(*mail.Event) bool { return true }
	return q.events(w, []string{"time", "domain", "status", "detail"}, service.EventQuery{Kinds: []mail.EventKind{mail.EventLookup}}, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.At), string(e.Domain), e.Reply.Text, e.Detail}
	})
}

// connectionLog serves /srs/v1/log/connection?since=&until= (requirement R70): a row for each TCP connection to a receiver, or
// attempt at one, that has ended. A tenant sees those that carried its mail alone.
func (q *query) connectionLog(w http.ResponseWriter) *faults {
	columns := []string{"start", "end", "domain", "source", "destination", "status", "succeeded", "deferred", "failed", "greeting"}
	wants := func(*mail.Event) bool { return true }
	count := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	return q.events(w, columns, service.EventQuery{Kinds: []mail.EventKind{mail.EventConnection}}, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.Taken), q.timeCell(e.At), string(e.Domain), source(e), destination(e), connectionStatus(e),
			count(e.Served.Delivered), count(e.Served.Deferred), count(e.Served.Failed), e.Reply.String()}
	})
}

// connectionStatus says how a connection went, as the counters of requirement R60 tell: not established, established then
// trouble before any mail, or broken off later.
func connectionStatus(e *mail.Event) string {
	word := "success"
	switch e.Stage {
	case mail.StageNone:
		if e.Detail != "" {
			word = "stopped"
		}
	case mail.StageDNS, mail.StageConnect:
		word = "connection failure"
	case mail.StageGreeting, mail.StageEHLO, mail.StageTLS:
		word = "connection error"
	default:
		word = "broken off"
	}
	if e.Detail != "" {
		word += ": " + e.Detail
	}
	return word
}

// bounceLog serves /srs/v1/log/bounce?since=&until= (requirement R71): reports that came in about mail, with the
// mail they came in.
func (q *query) bounceLog(w http.ResponseWriter) *faults {
	columns := []string{"time", "group", "domain", "from", "to", "kind", "summary", "message", "error_address", "mail"}
	wants := func(e *mail.Event) bool { return e.Kind.IsLate() }
	return q.events(w, columns, service.EventQuery{Mail: true}, wants, func(e *mail.Event) []string {
		kind, summary := "permanent error", bounce.WordsOf(bounceStatus(e)).Name
		switch {
		case e.Kind == mail.EventReceived:
			kind, summary = "no error", e.Detail
		case e.Kind == mail.EventComplained:
			kind, summary = "complaint", cmp.Or(e.Detail, "abuse")
		case bounce.Kind(e) == bounce.Soft:
			kind = "temporary error"
		}
		return []string{q.timeCell(e.At), e.Group, string(e.Domain), string(e.From), string(e.To), kind, summary, e.Reply.String(), string(e.To), e.Mail}
	})
}

// exclusionLog serves /srs/v1/log/exclusion?since=&until= (requirement R72): recipients that error-address
// management kept from mail (E-42).
func (q *query) exclusionLog(w http.ResponseWriter) *faults {
	columns := []string{"time", "group", "domain", "from", "to"}
	excluded := suppression.Verdict(suppression.ErrorCount).Detail
	wants := func(e *mail.Event) bool { return e.Kind == mail.EventSuppressed && e.Detail == excluded }
	return q.events(w, columns, service.EventQuery{Kinds: []mail.EventKind{mail.EventSuppressed}}, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.At), e.Group, string(e.Domain), string(e.From), string(e.To)}
	})
}
