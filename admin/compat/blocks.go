package compat

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// Block is one record of blocks/list (requirement B5).
type Block struct {
	Created  string `json:"created" xml:"created"` // when mail to it was stopped
	Email    string `json:"email" xml:"email"`
	ID       string `json:"id" xml:"id"`
	Occurred string `json:"occurred" xml:"occurred"` // how often the error did; 0 where somebody stopped it
	Status   string `json:"status" xml:"status"`     // of the error; empty where somebody stopped it
}

// blockOf is the record of an event of a block list.
func blockOf(e *mail.Event, zone *time.Location) Block {
	b := Block{Created: e.Due.In(zone).Format(timeForm), Email: string(e.To), ID: blockID(e.To), Occurred: strconv.Itoa(int(e.Attempt))}
	if e.Status != mail.StatusNone {
		b.Status = strconv.Itoa(int(e.Status))
	}
	return b
}

// Blocking is one record of the webhook about blocks (requirement B7.1).
type Blocking struct {
	Created   string `json:"created"`
	Email     string `json:"email"`
	Status    string `json:"status"`
	Occurred  string `json:"occurred"`
	Operation string `json:"operation"` // added, removed
}

// BlockingOf is the record of an event of a block list.
func BlockingOf(e *mail.Event, zone *time.Location) Blocking {
	b := blockOf(e, zone)
	out := Blocking{Created: e.At.In(zone).Format(timeForm), Email: b.Email, Status: b.Status, Occurred: b.Occurred, Operation: "added"}
	if e.Kind == mail.EventReleased {
		out.Operation = "removed"
	}
	return out
}

// blockID names an address of a tenant's block list, the same on every member.
func blockID(a mail.Address) string { return base64.RawURLEncoding.EncodeToString([]byte(a.Fold())) }

// blockQuery is which blocks are wanted.
type blockQuery struct {
	email        string
	since, until time.Time // of the stop; zero = no bound
	removed      bool      // released ones
}

func (c *call) blockQuery() blockQuery {
	c.composition() // the list is of the whole tenant
	q := blockQuery{email: c.text("email"), removed: c.truth("removed")}
	q.since, q.until = c.period()
	return q
}

// released is the search for the releases wanted, and what tells which of those found are.
func (c *call) released(q blockQuery) (search service.EventQuery, wants func(*mail.Event) bool) {
	part := strings.ToLower(q.email)
	within := service.SuppressionQuery{Since: q.since, Until: q.until}
	return service.EventQuery{Tenant: c.user.Tenant, Kinds: []mail.EventKind{mail.EventReleased}}, func(e *mail.Event) bool {
		return within.Within(e.Due) && strings.Contains(e.To.Fold(), part)
	}
}

// eachBlock calls each with the blocks wanted, until it returns false.
func (c *call) eachBlock(q blockQuery, each func(Block) bool) error {
	if q.removed {
		search, wants := c.released(q)
		return c.c.Services.Log.Search(c.ctx, search, func(e mail.Event, _ string) bool {
			return !wants(&e) || each(blockOf(&e, c.user.Zone))
		})
	}
	query := service.SuppressionQuery{Tenant: c.user.Tenant, List: service.BlockList, Part: q.email, Since: q.since, Until: q.until}
	return c.c.Services.Suppressions.List(c.ctx, query, func(s service.Suppression, _ string) bool {
		e := mail.Event{To: s.Address, Due: s.Since}
		status, occurred := suppression.ParseStopReason(s.Reason)
		e.Status, e.Attempt = status, uint16(occurred)
		return each(blockOf(&e, c.user.Zone))
	})
}

// blocks serves blocks/list: addresses on the block list of the user's tenant, or those that were released, as the log has them.
func (c *call) blocks() (*answer, error) {
	q := c.blockQuery()
	skip, take := c.page()
	search, wants := c.released(q)
	if q.removed && c.values.Get("cursor") != "" {
		skip, search.After = c.place()
	}
	if len(c.faults.list) > 0 {
		return nil, c.faults
	}
	out := &answer{name: "blocks", item: "block"}
	show := func(b Block) (more bool) {
		if skip > 0 {
			skip--
			return true
		}
		out.list = append(out.list, b)
		return len(out.list) < take
	}
	if !q.removed {
		return out, c.eachBlock(q, show)
	}
	return out, c.inTime(search, &skip, func(e *mail.Event) (bool, error) {
		return !wants(e) || show(blockOf(e, c.user.Zone)), nil
	})
}

// downloadBlocks serves blocks/download: the same list as CSV in a ZIP.
func (c *call) downloadBlocks(w http.ResponseWriter) error {
	q := c.blockQuery()
	if len(c.faults.list) > 0 {
		return c.faults
	}
	return c.download(w, "blocks", []string{"created", "email", "status", "occurred"}, func(row func(...string) bool) error {
		return c.eachBlock(q, func(b Block) bool { return row(b.Created, b.Email, b.Status, b.Occurred) })
	})
}

// emails reads the addresses that are named.
func (c *call) emails() (list []mail.Address) {
	for _, email := range c.values["email"] {
		if a := mail.Address(email); a.Check() != nil || a.IsNull() {
			c.faults.add(codeForm, "email")
		} else {
			list = append(list, a)
		}
	}
	return list
}

// cancelBlocks serves blocks/cancel: the addresses, named by themselves or by id, get mail again.
func (c *call) cancelBlocks() (*answer, error) {
	c.composition()
	list := c.emails()
	for _, id := range c.values["id"] {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
		if a := mail.Address(raw); err != nil || a.Check() != nil || a.IsNull() {
			c.faults.add(codeRange, "id")
		} else {
			list = append(list, a)
		}
	}
	if len(list) == 0 && len(c.faults.list) == 0 {
		c.faults.add(codeMissing, "email")
	}
	if len(list) > maxItems {
		c.faults.add(codeLong, "email")
	}
	if len(c.faults.list) > 0 {
		return nil, c.faults
	}
	at := service.Place{List: service.BlockList, Tenant: c.user.Tenant}
	n, err := c.c.Services.Suppressions.Remove(c.ctx, at, list, c.user.Name)
	if err == nil && n == 0 || errors.Is(err, service.ErrNotFound) {
		c.faults.add(codeNotFound, "")
		return nil, c.faults
	}
	return &answer{name: "message", text: "success"}, err
}
