package compat

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// deliveryLog serves /srs/v1/log/delivery?since=&until=&group=&to=&status=: the nine columns of requirement R68, a row
// for each attempt, and for each end without one.
func (q *query) deliveryLog(w http.ResponseWriter) *faults {
	to := strings.ToLower(q.text("to"))
	kind, err := service.ParseStatus(q.text("status"))
	if err != nil {
		q.faults.add(codeRange, "status")
	}
	search := service.EventQuery{Kind: kind, Group: q.text("group"), To: mail.Address(partOf(to))}
	wants := func(e *mail.Event) bool {
		if to != "" && !strings.Contains(e.To.Fold(), to) {
			return false
		}
		return kind != 0 || resultOf(e.Kind) != "" && e.Kind != mail.EventBounced
	}
	columns := []string{"time", "group", "from", "to", "source", "destination", "stage", "status", "detail"}
	return q.events(w, columns, search, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.At), e.Group, string(e.From), string(e.To), source(e), destination(e), e.Stage.String(),
			logStatus(e), reason(e)}
	})
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

// bounceLog serves /srs/v1/log/bounce?since=&until= (requirement R71): reports that came in about mail. The mail they
// came in is not kept, so its column is empty.
func (q *query) bounceLog(w http.ResponseWriter) *faults {
	columns := []string{"time", "group", "domain", "from", "to", "kind", "summary", "message", "error_address", "mail"}
	wants := func(e *mail.Event) bool { return e.Kind == mail.EventBounced || e.Kind == mail.EventComplained }
	return q.events(w, columns, service.EventQuery{}, wants, func(e *mail.Event) []string {
		kind, summary := "permanent error", bounce.WordsOf(bounceStatus(e)).Name
		switch {
		case e.Kind == mail.EventComplained:
			kind, summary = "complaint", cmp.Or(e.Detail, "abuse")
		case bounce.WordsOf(e.Status).Soft:
			kind = "temporary error"
		}
		return []string{q.timeCell(e.At), e.Group, string(e.Domain), string(e.From), string(e.To), kind, summary, e.Reply.String(), string(e.To), ""}
	})
}

// exclusionLog serves /srs/v1/log/exclusion?since=&until= (requirement R72): recipients that stand on a list.
func (q *query) exclusionLog(w http.ResponseWriter) *faults {
	columns := []string{"time", "group", "domain", "from", "to"}
	wants := func(e *mail.Event) bool { return e.Kind == mail.EventSuppressed }
	return q.events(w, columns, service.EventQuery{Kind: mail.EventSuppressed}, wants, func(e *mail.Event) []string {
		return []string{q.timeCell(e.At), e.Group, string(e.Domain), string(e.From), string(e.To)}
	})
}
