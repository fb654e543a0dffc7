package compat

import (
	"net/http"
	"strconv"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// queue serves /srs/v1/queue?unit=total|hour|5min&group=&domain=: the twelve counters in the order of requirement R60.
func (q *query) queue(w http.ResponseWriter) *faults {
	if q.who.OwnData { // they are of the whole tenant
		return q.fault(q.r, codeForbidden, "")
	}
	unit, err := service.ParseUnit(q.text("unit"))
	if err != nil {
		q.faults.add(codeRange, "unit")
	}
	search := service.CounterQuery{Unit: unit, Group: q.text("group"), Tenant: q.who.Tenant}
	if domain := q.text("domain"); domain != "" {
		if search.Domain, err = mail.ParseDomain(domain); err != nil {
			q.faults.add(codeRange, "domain")
		}
	}
	if len(q.faults.list) > 0 {
		return q.faults
	}
	buckets, err := q.c.Services.Numbers.Counters(q.ctx, search)
	if no := q.fails(w, err); no != nil {
		return no
	}
	columns := []string{"bucket_start"}
	for i := range service.CounterCount {
		columns = append(columns, service.CounterName(i))
	}
	out := newTSV(w, columns...)
	for _, b := range buckets {
		start := int64(0) // of all time
		if !b.Start.IsZero() {
			start = b.Start.Unix()
		}
		row := []string{strconv.FormatInt(start, 10)}
		for _, n := range b.Counters {
			row = append(row, strconv.FormatInt(n, 10))
		}
		out.row(row...)
	}
	out.end()
	return nil
}

// errorAddresses serves /srs/v1/error-address?address=&min=: what was counted against addresses (requirement R100).
func (q *query) errorAddresses(w http.ResponseWriter) *faults {
	search := service.SuppressionQuery{Tenant: q.who.Tenant, List: service.Errors, Part: q.text("address"), After: q.values.Get("cursor")}
	if len(search.After) > service.MaxCursor {
		q.faults.add(codeLong, "cursor")
	}
	least, take := q.number("min", 1, 1, 99), q.number("limit", tsvRows, 1, maxTSVRows)
	if len(q.faults.list) > 0 {
		return q.faults
	}
	var rows [][]string
	next, more := "", false
	err := q.c.Services.Suppressions.List(q.ctx, search, func(s service.Suppression, position string) bool {
		counted := suppression.ParseErrors(s.Reason)
		if counted.Total() < least {
			return true
		}
		if more = len(rows) == take; more {
			return false
		}
		last, status := suppression.ParseEvidence(s.Evidence)
		excluded, threshold := "0", q.c.Services.Users.ErrorThreshold(s.Tenant)
		if threshold > 0 && counted.Excluded(threshold) {
			excluded = "1"
		}
		rows, next = append(rows, []string{string(s.Address), strconv.Itoa(counted.Total()), q.timeCell(s.Since), q.timeCell(last),
			strconv.Itoa(int(status)), excluded}), position
		return true
	})
	if no := q.fails(w, err); no != nil {
		return no
	}
	writeTSV(w, []string{"address", "count", "first", "last", "last_status", "excluded"}, rows, next, more)
	return nil
}

// resetErrors serves /srs/v1/error-address/reset?address=: what was counted against it is forgotten.
func (q *query) resetErrors(w http.ResponseWriter) *faults {
	if no := q.mayChange(); no != nil {
		return no
	}
	if q.text("address") == "" {
		return q.fault(q.r, codeMissing, "address")
	}
	address := mail.Address(q.text("address"))
	if address.Check() != nil || address.IsNull() {
		q.faults.add(codeForm, "address")
		return q.faults
	}
	tenants := map[string]bool{q.who.Tenant: q.who.Tenant != ""}
	if q.who.Tenant == "" { // the operator, of all tenants
		search := service.SuppressionQuery{List: service.Errors, Part: string(address)}
		err := q.c.Services.Suppressions.List(q.ctx, search, func(s service.Suppression, _ string) bool {
			if s.Address.Fold() == address.Fold() {
				tenants[s.Tenant] = true
			}
			return true
		})
		if no := q.fails(w, err); no != nil {
			return no
		}
	}
	reset := 0
	for tenant, found := range tenants {
		if !found {
			continue
		}
		n, err := q.c.Services.Suppressions.Reset(q.ctx, tenant, []mail.Address{address}, q.who.Name)
		if no := q.fails(w, err); no != nil {
			return no
		}
		reset += n
	}
	if reset == 0 {
		return q.fault(q.r, codeNotFound, "address")
	}
	out := newTSV(w, "result")
	out.row("success")
	out.end()
	return nil
}

// group serves /srs/v1/group?name=&op=status|stop|resume|discard: the emergency stop of a delivery group.
func (q *query) group(w http.ResponseWriter) *faults {
	if q.who.OwnData { // it is of the whole tenant
		return q.fault(q.r, codeForbidden, "")
	}
	if q.text("name") == "" {
		return q.fault(q.r, codeMissing, "name")
	}
	name, err := service.ParseGroup(q.text("name"))
	if err != nil {
		q.faults.add(codeRange, "name")
		return q.faults
	}
	groups, found := q.c.Services.Groups, false
	switch op := q.text("op"); op {
	case "", "status":
	case "stop", "resume", "discard":
		if no := q.mayChange(); no != nil {
			return no
		}
		switch op {
		case "stop":
			st, err := groups.Stop(q.ctx, service.GroupStop{Tenant: q.who.Tenant, Group: name, Author: q.who.Name})
			if no := q.fails(w, err); no != nil {
				return no
			}
			return q.groupRow(w, name, st.State, int64(st.Held+st.InFlight))
		case "resume":
			err = groups.Resume(q.ctx, q.who.Tenant, name, q.who.Name)
		case "discard":
			_, err = groups.Discard(q.ctx, q.who.Tenant, name, q.who.Name)
		}
		if no := q.fails(w, err); no != nil {
			return no
		}
		found = true // a group that is open and had no mail is not listed
	default:
		q.faults.add(codeRange, "op")
		return q.faults
	}
	list, err := groups.Groups(q.ctx)
	if no := q.fails(w, err); no != nil {
		return no
	}
	state, remaining := service.GroupOpen, int64(0)
	for _, g := range list {
		if g.Name != name || q.who.Tenant != "" && g.Tenant != q.who.Tenant && g.Tenant != "" {
			continue
		}
		found = true
		remaining += g.Counters[service.Undelivered] + g.Counters[service.Retry] + g.Counters[service.InDelivery]
		if g.State != service.GroupOpen {
			state = g.State
		}
	}
	if !found {
		return q.fault(q.r, codeNotFound, "name")
	}
	return q.groupRow(w, name, state, remaining)
}

func (q *query) groupRow(w http.ResponseWriter, name, state string, remaining int64) *faults {
	out := newTSV(w, "name", "state", "remaining")
	out.row(name, state, strconv.FormatInt(remaining, 10))
	out.end()
	return nil
}
