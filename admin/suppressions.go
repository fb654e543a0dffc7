package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// suppressionJSON is an address on a list, in both directions.
type suppressionJSON struct {
	Address  string    `json:"address"`
	List     string    `json:"list"`
	Tenant   string    `json:"tenant"`
	Filter   string    `json:"filter,omitempty"`
	Reason   string    `json:"reason"`
	Author   string    `json:"author,omitempty"`
	Evidence string    `json:"evidence,omitempty"`
	Since    *momentJS `json:"since,omitempty"`
	Expires  *momentJS `json:"expires,omitempty"`
}

// momentJS is a time: written as RFC 3339, read as that or as UNIX seconds.
type momentJS time.Time

// MarshalJSON writes RFC 3339 with seconds.
func (m momentJS) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(m).UTC().Format(time.RFC3339))
}

// UnmarshalJSON reads RFC 3339 or UNIX seconds.
func (m *momentJS) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 && n <= farthest {
		*m = momentJS(time.Unix(n, 0))
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return momentError(text)
	}
	*m = momentJS(t)
	return nil
}

// momentError is what was written for a moment in a body and is none.
type momentError string

func (e momentError) Error() string {
	return fmt.Sprintf("expires: %.40q is no time; allowed: UNIX seconds, RFC 3339 (since: the same)", string(e))
}

func momentOf(t time.Time) *momentJS {
	if t.IsZero() {
		return nil
	}
	m := momentJS(t)
	return &m
}

// suppressions serves GET /v1/suppressions?tenant=&list=&address=&since=&until=&cursor=&limit=. since and until say
// when an address got on its list: UNIX seconds, RFC 3339 or a duration back from now.
func (s *Server) suppressions(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Suppressions == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	q := service.SuppressionQuery{Tenant: v.Get("tenant"), List: v.Get("list"), Part: v.Get("address"), After: v.Get("cursor")}
	limit, err := pageOf(v)
	if err == nil {
		q.Since, q.Until, err = spanOf(v, s.c.Clock.Now())
	}
	switch {
	case err != nil:
	case len(q.After) > maxCursor || len(q.Part) > mail.MaxPathLine:
		err = fmt.Errorf("%w: address or cursor is too long", service.ErrInvalid)
	case q.List != "" && q.List != service.BlackBox && q.List != service.BlockList && q.List != service.Unsubscribe && q.List != service.Errors && q.List != service.Leaving:
		err = fmt.Errorf("%w: list: %q is no list; allowed: blackbox, blocklist, unsubscribe, errors, leaving", service.ErrInvalid, q.List)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		Suppressions []suppressionJSON `json:"suppressions"`
		NextCursor   string            `json:"next_cursor"`
		More         bool              `json:"more"`
	}{Suppressions: []suppressionJSON{}, NextCursor: q.After}
	err = s.c.Services.Suppressions.List(r.Context(), q, func(e service.Suppression, position string) bool {
		if len(out.Suppressions) == limit {
			out.More = true
			return false
		}
		out.Suppressions = append(out.Suppressions, suppressionJSON{Address: string(e.Address), List: e.List, Tenant: e.Tenant,
			Filter: e.Filter, Reason: e.Reason, Author: e.Author, Evidence: e.Evidence, Since: momentOf(e.Since), Expires: momentOf(e.Expires)})
		out.NextCursor = position
		return true
	})
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, out)
}

// suppress serves POST /v1/suppressions {address, list, tenant, filter, reason, expires}.
func (s *Server) suppress(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Suppressions == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	var in suppressionJSON
	if status, err := readJSON(r.Body, &in); err != nil {
		problem(w, status, err.Error())
		return
	}
	now := s.c.Clock.Now()
	e := service.Suppression{Address: mail.Address(in.Address), Reason: in.Reason, Author: author, Since: now}
	if in.Expires != nil {
		e.Expires = time.Time(*in.Expires)
	}
	var err error
	tenant := in.Tenant
	if in.List != service.BlackBox {
		tenant, err = service.Whose(s.c.Services.Tenants, tenant)
	}
	if err == nil {
		e.Place, err = service.ParsePlace(in.List, tenant, in.Filter)
	}
	if err == nil {
		err = service.CheckSuppression(e, now)
	}
	added := 0
	if err == nil {
		added, err = s.c.Services.Suppressions.Add(r.Context(), []service.Suppression{e})
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Added int `json:"added"` // 0: it stood there already
	}{added})
}

// unsuppress serves DELETE /v1/suppressions?address=&list=&tenant=&filter=; or the same in a body, as POST takes it.
func (s *Server) unsuppress(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Suppressions == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	in := suppressionJSON{Address: v.Get("address"), List: v.Get("list"), Tenant: v.Get("tenant"), Filter: v.Get("filter")}
	body := bufio.NewReader(r.Body)
	if _, err := body.Peek(1); !errors.Is(err, io.EOF) { // one in chunks may be empty as well
		if status, err := readJSON(body, &in); err != nil {
			problem(w, status, err.Error())
			return
		}
	}
	address := in.Address
	var unknown error
	if in.List != service.BlackBox {
		tenant := in.Tenant
		if tenant, unknown = service.Whose(s.c.Services.Tenants, tenant); unknown == nil {
			in.Tenant = tenant
		} // what is left of a tenant that is gone can be removed all the same
	}
	at, err := service.ParsePlace(in.List, in.Tenant, in.Filter)
	if err != nil && unknown != nil {
		err = unknown
	}
	if err == nil && (address == "" || len(address) > mail.MaxPathLine) {
		err = fmt.Errorf("%w: an address is needed", service.ErrInvalid)
	}
	removed := 0
	if err == nil {
		removed, err = s.c.Services.Suppressions.Remove(r.Context(), at, []mail.Address{mail.Address(address)}, author)
	}
	if err == nil && removed == 0 && unknown != nil {
		err = unknown
	} else if err == nil && removed == 0 {
		err = fmt.Errorf("%w: %s is not on the list %s", service.ErrNotFound, address, at.List)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Removed int `json:"removed"`
	}{removed})
}

// pageOf reads limit=.
func pageOf(v url.Values) (int, error) {
	l := v.Get("limit")
	if l == "" {
		return defaultEvents, nil
	}
	n, err := strconv.Atoi(l)
	if err != nil || n < 1 || n > maxEvents {
		return 0, fmt.Errorf("%w: limit must be a number from 1 to %d", service.ErrInvalid, maxEvents)
	}
	return n, nil
}
