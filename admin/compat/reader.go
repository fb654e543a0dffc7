package compat

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// operatorName is who does what is done with the admin token.
const operatorName = "operator"

// reader is who calls the log API or the TSV API: the operator with the admin token, or an API user with its name and
// key (BASIC).
type reader struct {
	service.User
	operator bool
}

// reader finds out who calls, and refuses who may not. leave must follow where there are no faults.
func (a *API) reader(r *http.Request) (reader, *faults) {
	tenant := r.URL.Query().Get("tenant")
	name, key, basic := r.BasicAuth()
	token, ok := a.token(r)
	if !basic && !ok {
		if a.BearsToken(r) && a.KnowsNobody() { // before it counts as a wrong admin token
			return reader{}, a.fault(r, codeTrouble, "")
		}
		if status, err := a.c.Operator(r); err != nil {
			if status == http.StatusTooManyRequests {
				return reader{}, a.fault(r, codeCrowded, "")
			}
			return reader{}, a.fault(r, codeLogin, "")
		}
		switch err := service.Known(a.c.Services.Tenants, tenant); {
		case errors.Is(err, service.ErrInvalid): // nothing found would pass for nothing having happened
			return reader{}, a.fault(r, codeNotFound, "tenant")
		case err != nil:
			return reader{}, a.fault(r, codeTrouble, "")
		}
		return reader{operator: true, User: service.User{Name: operatorName, Tenant: tenant, HTTP: true, Administrator: true,
			ViewAddresses: true, Zone: time.Local}}, nil
	}
	user, no := token, (*faults)(nil)
	if ok {
		no = a.admit(r, user, true)
	} else {
		user, no = a.basic(r, name, key, true)
	}
	if no != nil {
		return reader{}, no
	}
	if tenant != "" && tenant != user.Tenant {
		a.leave(user.Name)
		return reader{}, a.fault(r, codeForbidden, "")
	}
	return reader{User: user}, nil
}

// basic lets an API user in who may use the HTTP APIs, and see addresses where the answer has some. leave must follow
// where there are no faults.
func (a *API) basic(r *http.Request, name, key string, addresses bool) (service.User, *faults) {
	if !private(r) || !a.c.Services.Users.AllowsAPI(Origin(r)) {
		return service.User{}, a.fault(r, codeAddress, "")
	}
	user, no := a.login(r, name, key)
	if no != nil {
		return user, no
	}
	return user, a.admit(r, user, addresses)
}

// token finds out whose the bearer token of a call is; false where it has none of a tenant's.
func (a *API) token(r *http.Request) (service.User, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || a.c.Services.Tokens == nil {
		return service.User{}, false
	}
	return a.c.Services.Tokens.Bearer(strings.TrimSpace(token))
}

// admit lets a user who has proved itself make a call, if it may and has not ten under way.
func (a *API) admit(r *http.Request, user service.User, addresses bool) *faults {
	switch {
	case !private(r) || !a.c.Services.Users.AllowsAPI(Origin(r)):
		return a.fault(r, codeAddress, "")
	case !user.HTTP, addresses && !user.ViewAddresses:
		return a.fault(r, codeForbidden, "")
	case !a.take(user.Name):
		return a.fault(r, codeCrowded, "")
	}
	return nil
}

// BearsToken tells whether a call bears what looks like a token of a tenant, in force or not.
func (a *API) BearsToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(strings.TrimSpace(token), service.TokenPrefix)
}

// HasToken tells whether a call bears a token of a tenant, which Enter will look at.
func (a *API) HasToken(r *http.Request) bool {
	_, ok := a.token(r)
	return ok
}

// Enter lets an API user make a call of the native API by BASIC or by a token; its calls count as one with those of the compatible
// APIs. Where it may not, leave is nil, and status and why say it; else leave must be called at the end.
func (a *API) Enter(r *http.Request, addresses bool) (u service.User, leave func(), status int, why string) {
	name, key, _ := r.BasicAuth()
	no := a.fault(r, codeForbidden, "")
	if token, ok := a.token(r); ok {
		u, no = token, a.admit(r, token, addresses)
	} else if !foreign(r) {
		u, no = a.basic(r, name, key, addresses)
	}
	if no != nil {
		return service.User{}, nil, no.status, no.list[0].Message
	}
	return u, func() { a.leave(u.Name) }, http.StatusOK, ""
}

func (a *API) leaveReader(u reader) {
	if !u.operator {
		a.leave(u.Name)
	}
}

// challenge says how to log in.
func challenge(w http.ResponseWriter, f *faults) {
	if f.status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Bearer realm="ekiden"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="ekiden", charset="UTF-8"`)
	}
}

// query is a call's parameters in its address.
type query struct {
	*API
	form
	ctx context.Context
	r   *http.Request
	who reader
	now time.Time

	missing []service.Absent // by look-ups
}

// acceptance is API.acceptance; members that may know more of a message than was found are missing from the answer.
func (q *query) acceptance(ctx context.Context, m mail.MessageID) (mail.Event, error) {
	found, err := q.API.acceptance(ctx, m)
	if partial := (*service.Partial)(nil); errors.As(err, &partial) {
		q.missing = together(q.missing, partial.Missing)
	}
	return found, err
}

// query begins the answer to a reader.
func (a *API) query(ctx context.Context, r *http.Request, who reader) *query {
	return &query{API: a, form: form{r.URL.Query(), &faults{ja: japanese(r)}}, ctx: ctx, r: r, who: who, now: a.c.Clock.Now()}
}

// instant reads a moment in the forms of the native API; zero where there is none.
func (q *query) instant(name string) time.Time {
	t, err := service.ParseInstant(q.text(name), q.now)
	if err != nil {
		q.faults.add(codeRange, name)
	}
	return t
}

// span reads since and until.
func (q *query) span() (since, until time.Time) {
	since, until = q.instant("since"), q.instant("until")
	if !since.IsZero() && !until.IsZero() && until.Before(since) {
		q.faults.add(codeDate, "until")
	}
	return since, until
}

// fails turns an error of a service into faults; nil where it is only that members are missing, who are told.
func (q *query) fails(w http.ResponseWriter, err error) *faults {
	if len(q.faults.list) > 0 {
		return q.faults
	}
	TellMissing(w, q.missing)
	var partial *service.Partial
	switch {
	case err == nil:
		return nil
	case errors.As(err, &partial):
		TellMissing(w, partial.Missing)
		return nil
	case errors.Is(err, service.ErrInvalid):
		return q.fault(q.r, codeRange, "")
	case errors.Is(err, service.ErrNotFound):
		return q.fault(q.r, codeNotFound, "")
	case errors.Is(err, service.ErrRefused), errors.Is(err, service.ErrConflict):
		return q.fault(q.r, codeForbidden, "")
	case !errors.Is(err, context.Canceled):
		q.c.Log.Warn("call failed", "path", q.r.URL.Path, "error", err)
	}
	return q.fault(q.r, codeTrouble, "")
}

// foreign tells whether a browser sends a request for a page of somebody else. It would send a key that it remembers.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// partOf is the part of a recipient that the log is asked for: it takes a whole address for an exact one.
func partOf(to string) string {
	if at := strings.IndexByte(to, '@'); at <= 0 || at == len(to)-1 {
		return to
	}
	return ""
}
