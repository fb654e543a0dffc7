package compat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/secret"
	"github.com/ekiden-mta/ekiden/mail"
)

const (
	maxCalls   = 10               // of one user at a time (requirement B1)
	callTime   = 50 * time.Second // for one answer; below what the front gives a connection
	searchTime = 40 * time.Second // then a page of a log ends with what there is, and the place to go on from
	guesses    = 50               // wrong keys that one address, or one user, may send at once
	forgiven   = 6 * time.Second  // until one of them is forgotten
	verifying  = 2                // keys at once
)

// MissingHeader names the members that did not answer, so that what they know is not in an answer.
const MissingHeader = "Ekiden-Missing"

// Config is what the compatible APIs need.
type Config struct {
	Services service.Services
	Operator func(r *http.Request) (status int, err error) // checks the admin token
	Clock    *clock.Clock                                  // product clock
	Log      *slog.Logger
}

// API serves the compatible APIs. Safe for concurrent use.
type API struct {
	c       Config
	checker *secret.Checker
	heads   Heads

	mu    sync.Mutex
	calls map[string]int // under way, by user
}

// New returns the compatible APIs.
func New(c Config) *API {
	return &API{c: c, calls: map[string]int{},
		checker: secret.NewChecker(secret.Limits{Burst: guesses, Every: forgiven, Concurrent: verifying})}
}

// Paths are where Handler is to be served.
func Paths() []string { return []string{"/transaction/", "/baremail/", "/srs/"} }

// Handler serves all compatible APIs.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /baremail/v1/logs", a.logs)
	for path, serve := range map[string]tsvCall{"queue": (*query).queue, "log/delivery": (*query).deliveryLog,
		"log/domain": (*query).domainLog, "log/connection": (*query).connectionLog,
		"log/bounce": (*query).bounceLog, "log/exclusion": (*query).exclusionLog, "error-address": (*query).errorAddresses,
		"error-address/reset": (*query).resetErrors, "group": (*query).group} {
		mux.HandleFunc("GET /srs/v1/"+path, a.tsv(serve))
	}
	mux.HandleFunc("/srs/", func(w http.ResponseWriter, r *http.Request) { a.refuseTSV(w, a.fault(r, codeNotFound, "")) })
	mux.HandleFunc("POST /transaction/{version}/{resource}/{action}", a.transaction)
	mux.HandleFunc("/transaction/", func(w http.ResponseWriter, r *http.Request) {
		asXML := strings.HasSuffix(r.URL.Path, ".xml")
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			a.refuse(w, &faults{status: http.StatusMethodNotAllowed, list: []fault{{string(codeNotFound), "", "POST only"}}}, asXML)
			return
		}
		a.refuse(w, a.fault(r, codeNotFound, ""), asXML)
	})
	return mux
}

// call is one call of the transaction API.
type call struct {
	*API
	form
	ctx     context.Context
	version int
	user    service.User
	now     time.Time
	missing []service.Absent
	next    string // cursor to what is behind the records of the answer; "" = nothing is
}

// action answers a call. A *faults, or what is in call.faults, refuses it.
type action struct {
	serve      func(*call) (*answer, error)
	download   func(*call, http.ResponseWriter) error // instead of serve: what it writes is the answer; errors come before that
	administer bool                                   // the user must be an administrator
	addresses  bool                                   // the answer has addresses in it
}

func (a *API) action(resource, name string) (action, bool) {
	lists := a.c.Services.Suppressions != nil
	switch resource + "/" + name {
	case "deliveries/list":
		return action{serve: (*call).deliveries, addresses: true}, true
	case "bounces/list":
		return action{serve: (*call).bounces, addresses: true}, true
	case "statistics/list":
		return action{serve: (*call).statistics}, a.c.Services.Statistics != nil
	case "blocks/list":
		return action{serve: (*call).blocks, addresses: true}, lists
	case "blocks/download":
		return action{download: (*call).downloadBlocks, addresses: true}, lists
	case "blocks/cancel":
		return action{serve: (*call).cancelBlocks, administer: true}, lists
	case "unsubscribes/download":
		return action{download: (*call).downloadUnsubscribes, addresses: true}, lists
	case "unsubscribes/cancel":
		return action{serve: (*call).cancelUnsubscribes, administer: true}, lists
	}
	return action{}, false
}

// transaction serves POST /transaction/v1|v2/RESOURCE/ACTION.json|.xml.
func (a *API) transaction(w http.ResponseWriter, r *http.Request) {
	name, format, _ := strings.Cut(r.PathValue("action"), ".")
	asXML := format == "xml"
	version := slices.Index([]string{"v1", "v2"}, r.PathValue("version")) + 1
	act, ok := a.action(r.PathValue("resource"), name)
	if !ok || version == 0 || format != "json" && !asXML {
		a.refuse(w, a.fault(r, codeNotFound, ""), asXML)
		return
	}
	limit := callTime
	if act.download != nil {
		limit = downloadTime
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	c := &call{API: a, form: form{faults: &faults{ja: japanese(r)}}, ctx: ctx, version: version, now: a.c.Clock.Now()}
	if err := c.enter(r, act); err != nil {
		a.refuse(w, err, asXML)
		return
	}
	defer a.leave(c.user.Name)
	if act.download != nil {
		if err := act.download(c, w); err != nil {
			a.trouble(w, r, err, asXML)
		}
		return
	}
	answer, err := act.serve(c)
	if err == nil && len(c.faults.list) > 0 {
		err = c.faults
	}
	if err = c.incomplete(err); err != nil {
		a.trouble(w, r, err, asXML)
		return
	}
	TellMissing(w, c.missing)
	if c.next != "" {
		w.Header().Set(CursorHeader, c.next)
	}
	if err := write(w, http.StatusOK, answer, asXML); err != nil {
		a.c.Log.Error("answer not written", "path", r.URL.Path, "error", err)
	}
}

// enter finds out who calls, and whether he may; leave must follow where it returns nil.
func (c *call) enter(r *http.Request, act action) error {
	if !private(r) || !c.c.Services.Users.AllowsAPI(Origin(r)) {
		return c.API.fault(r, codeAddress, "")
	}
	var err error
	if c.values, err = readParams(r); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return c.API.fault(r, codeLong, "")
		}
		return c.API.fault(r, codeForm, "")
	}
	user, err := c.caller(r)
	if err != nil {
		return err
	}
	switch {
	case !user.HTTP, act.administer && !user.Administrator, act.addresses && !user.ViewAddresses:
		return c.API.fault(r, codeForbidden, "")
	case !c.take(user.Name):
		return c.API.fault(r, codeCrowded, "")
	}
	c.user = user
	return nil
}

// caller is who calls: by a token of the tenant in the head, or by the parameters api_user and api_key.
func (c *call) caller(r *http.Request) (service.User, error) {
	if user, ok := c.token(r); ok {
		return user, nil
	}
	name, key := c.needed("api_user"), c.needed("api_key")
	if len(c.faults.list) > 0 {
		if r.Header.Get("Authorization") != "" { // a token that is none in force
			return service.User{}, c.API.stranger(r)
		}
		return service.User{}, c.faults
	}
	user, no := c.login(r, name, key)
	if no != nil {
		return user, no
	}
	return user, nil
}

// stranger refuses who has not proved to be anybody, which a node that knows nobody cannot tell.
func (a *API) stranger(r *http.Request) *faults {
	if a.KnowsNobody() {
		return a.fault(r, codeTrouble, "")
	}
	return a.fault(r, codeLogin, "")
}

// KnowsNobody tells whether the node has no users and no tokens yet: it is sealed, or reads what the members agreed on.
func (a *API) KnowsNobody() bool {
	return a.c.Services.Node != nil && a.c.Services.Node.Status().Unread
}

// login verifies a key. A node that knows nobody looks at none: a right one would count as a wrong one, and lock its user out.
func (a *API) login(r *http.Request, name, key string) (service.User, *faults) {
	if a.KnowsNobody() {
		return service.User{}, a.fault(r, codeTrouble, "")
	}
	var u service.User
	verdict := a.checker.Check(clock.Wall(), secret.Household(Origin(r)).String(), name, key, func(name string) (hash string, found bool) {
		u, hash, found = a.c.Services.Users.User(name)
		return hash, found
	})
	switch verdict {
	case secret.Good:
		return u, nil
	case secret.Busy:
		return service.User{}, a.fault(r, codeCrowded, "")
	}
	return service.User{}, a.fault(r, codeLogin, "")
}

// take begins a call of a user, unless ten are under way.
func (a *API) take(user string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls[user] >= maxCalls {
		return false
	}
	a.calls[user]++
	return true
}

func (a *API) leave(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls[user]--; a.calls[user] == 0 {
		delete(a.calls, user)
	}
}

// fault is a refusal for one reason.
func (a *API) fault(r *http.Request, c code, field string) *faults {
	f := &faults{ja: japanese(r)}
	f.add(c, field)
	return f
}

// incomplete takes the members that did not answer out of err.
func (c *call) incomplete(err error) error {
	var partial *service.Partial
	if !errors.As(err, &partial) {
		return err
	}
	c.missing = together(c.missing, partial.Missing)
	return nil
}

// acceptance is API.acceptance; members that may know more of a message than was found are missing from the answer.
func (c *call) acceptance(ctx context.Context, m mail.MessageID) (mail.Event, error) {
	found, err := c.API.acceptance(ctx, m)
	_ = c.incomplete(err) // told; whoever asks must know as well
	return found, err
}

// together adds to list those of more that are not in it.
func together(list, more []service.Absent) []service.Absent {
	for _, m := range more {
		if !slices.ContainsFunc(list, func(have service.Absent) bool { return have.Name == m.Name }) {
			list = append(list, m)
		}
	}
	return list
}

// trouble answers with an error: a refusal as it is, our own trouble as a temporary failure, and to the log.
func (a *API) trouble(w http.ResponseWriter, r *http.Request, err error, asXML bool) {
	var no *faults
	if !errors.As(err, &no) {
		if !errors.Is(err, context.Canceled) {
			a.c.Log.Warn("call failed", "path", r.URL.Path, "error", err)
		}
		no = a.fault(r, codeTrouble, "")
	}
	a.refuse(w, no, asXML)
}

func (a *API) refuse(w http.ResponseWriter, err error, asXML bool) {
	var no *faults
	if !errors.As(err, &no) {
		no = &faults{}
		no.add(codeTrouble, "")
	}
	out := &answer{name: "errors", item: "error"}
	for _, f := range no.list {
		out.list = append(out.list, f)
	}
	if err := write(w, no.status, out, asXML); err != nil {
		a.c.Log.Error("refusal not written", "error", err)
	}
}

// acceptance finds the event of acceptance of a message, on whatever member it is; empty where there is none.
func (a *API) acceptance(ctx context.Context, m mail.MessageID) (found mail.Event, err error) {
	err = a.c.Services.Log.Search(ctx, service.EventQuery{Message: m, Kinds: []mail.EventKind{mail.EventAccepted}, One: true}, func(e mail.Event, _ string) bool {
		found = e
		return false
	})
	if found.Kind != 0 {
		err = nil // whoever is missing has no other
	}
	return found, err
}

// private tells whether nobody can read along: HTTPS, or a caller on this machine.
func private(r *http.Request) bool { return r.TLS != nil || Origin(r).IsLoopback() }

// Origin is the caller's address.
func Origin(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// TellMissing names members in the head of an answer, each once.
func TellMissing(w http.ResponseWriter, missing []service.Absent) {
	for _, m := range missing {
		if !slices.Contains(w.Header().Values(MissingHeader), m.Name) {
			w.Header().Add(MissingHeader, m.Name)
		}
	}
}
