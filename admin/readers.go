package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// access says which API users may make a call of the native API (requirement R132). All of them read of their own tenant
// only; what changes anything is the operator's.
type access struct {
	addresses bool // the answer holds addresses: only for those who may see them
	own       bool // those with own data only as well: the call takes user=, and they are held to theirs
}

// readable tells who besides the operator may make a call; false = nobody.
func readable(method, path string) (access, bool) {
	if method != http.MethodGet {
		return access{}, false
	}
	switch path {
	case "/v1/counters", "/v1/queues", "/v1/reservations", "/v1/delivery-stops":
		return access{}, true
	case "/v1/statistics":
		return access{own: true}, true
	case "/v1/events", "/v1/messages/{id}", "/v1/error-addresses":
		return access{addresses: true, own: true}, true
	case "/v1/error-addresses/downloads":
		return access{addresses: true}, true
	case "/v1/suppressions": // lists are the whole tenant's, for every user
		return access{addresses: true, own: true}, true
	}
	return access{}, false
}

// readerKey is where a request's context holds the API user.
type readerKey struct{}

// authorOf is who makes a call, for what is written down about it.
func authorOf(r *http.Request) string {
	if u, ok := r.Context().Value(readerKey{}).(service.User); ok {
		return u.Name
	}
	return author
}

// readers lets the operator make a call, and the API users who may: with name and key as BASIC, or a token of the tenant, over HTTPS or on this
// machine, ten calls at a time.
func (s *Server) readers(c route) http.Handler {
	c.serve = s.ofTenant(c)
	operator := s.guard.operator(c.serve)
	a, ok := readable(c.method, c.path)
	if !ok || s.c.Services.Users == nil {
		return operator
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _, basic := r.BasicAuth()
		if (basic || s.compat.BearsToken(r)) && s.compat.KnowsNobody() {
			s.refuse(w, r, s.unread())
			return
		}
		if !basic && !s.compat.HasToken(r) {
			operator.ServeHTTP(w, r)
			return
		}
		user, leave, status, why := s.compat.Enter(r, a.addresses)
		if leave == nil {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="ekiden", charset="UTF-8"`)
			}
			problem(w, status, why)
			return
		}
		defer leave()
		v := r.URL.Query()
		if t := v.Get("tenant"); t != "" && t != user.Tenant {
			problem(w, http.StatusForbidden, "tenant: an API user reads of its own tenant only")
			return
		}
		v.Set("tenant", user.Tenant)
		if user.OwnData {
			if name := v.Get("user"); !a.own || name != "" && name != user.Name {
				problem(w, http.StatusForbidden, "this API user reads of mail only that it handed over itself")
				return
			}
			v.Set("user", user.Name)
		}
		r = r.Clone(context.WithValue(r.Context(), readerKey{}, user))
		r.URL.RawQuery = v.Encode()
		c.serve(w, r)
	})
}

// ofTenant refuses to read of a tenant that there is not: nothing found would pass for nothing having happened.
func (s *Server) ofTenant(c route) http.HandlerFunc {
	if c.method != http.MethodGet {
		return c.serve
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if err := service.Known(s.c.Services.Tenants, r.URL.Query().Get("tenant")); err != nil {
			s.refuse(w, r, err)
			return
		}
		c.serve(w, r)
	}
}

// unread is why a node knows nobody yet.
func (s *Server) unread() error {
	if s.c.Services.Node.Status().State == service.StateSealed {
		return service.ErrSealed
	}
	return fmt.Errorf("%w: what the members agreed on is not read yet", service.ErrUnready)
}
