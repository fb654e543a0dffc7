package compat

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of the TSV API. What is behind the last row of an answer is asked for with the cursor in its header; so is what is
// behind the last record of a list of the transaction API.
const (
	tsvRows      = 10_000
	maxTSVRows   = 100_000
	maxTSVMail   = 16 << 20 // octets of mail in an answer
	CursorHeader = "Ekiden-Next-Cursor"
)

// TSVEscapes makes a text a cell of tab-separated text (requirement B9).
var TSVEscapes = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\r", `\r`, "\n", `\n`)

// tsvWriter writes rows of tab-separated text (requirement B9). The first row, the columns' names, is written with the
// first one that follows or at the end, so that an error before it can still be an answer of its own.
type tsvWriter struct {
	w       http.ResponseWriter
	out     *bufio.Writer
	columns []string
}

func newTSV(w http.ResponseWriter, columns ...string) *tsvWriter {
	return &tsvWriter{w: w, columns: columns}
}

// row writes one row.
func (t *tsvWriter) row(cells ...string) {
	if t.out == nil {
		t.w.Header().Set("Content-Type", "text/tab-separated-values; charset=UTF-8")
		t.out = bufio.NewWriter(t.w)
		t.line(t.columns)
	}
	if cells != nil {
		t.line(cells)
	}
}

func (t *tsvWriter) line(cells []string) {
	for i, cell := range cells {
		if i > 0 {
			_ = t.out.WriteByte('\t')
		}
		_, _ = TSVEscapes.WriteString(t.out, strings.ToValidUTF8(cell, "\uFFFD")) // errors are kept by out
	}
	_ = t.out.WriteByte('\n')
}

// end writes what is left.
func (t *tsvWriter) end() {
	t.row()
	_ = t.out.Flush() // a peer that has gone away is no trouble
}

// refuseTSV answers with one line: ERROR, code, message.
func (a *API) refuseTSV(w http.ResponseWriter, f *faults) {
	challenge(w, f)
	one := f.list[0]
	message := one.Message
	if one.Field != "" {
		message = one.Field + ": " + message
	}
	w.Header().Set("Content-Type", "text/tab-separated-values; charset=UTF-8")
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, "ERROR\t"+one.Code+"\t"+message+"\n")
}

// tsvCall answers one path of the TSV API; what it returns refuses the call, unless rows were written.
type tsvCall func(*query, http.ResponseWriter) *faults

// tsv serves a path of the TSV API. What changes something needs an administrator.
func (a *API) tsv(serve tsvCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, no := a.reader(r)
		if no != nil {
			a.refuseTSV(w, no)
			return
		}
		defer a.leaveReader(who)
		ctx, cancel := context.WithTimeout(r.Context(), callTime)
		defer cancel()
		q := a.query(ctx, r, who)
		if no := serve(q, w); no != nil {
			a.refuseTSV(w, no)
		}
	}
}

// mayChange refuses whoever may only read, and pages of others that use a browser's memory.
func (q *query) mayChange() *faults {
	if !q.who.Administrator || foreign(q.r) {
		return q.fault(q.r, codeForbidden, "")
	}
	return nil
}

// writeTSV answers with rows; where there are more, next is the cursor behind the last of them.
func writeTSV(w http.ResponseWriter, columns []string, rows [][]string, next string, more bool) {
	if more {
		w.Header().Set(CursorHeader, next)
	}
	out := newTSV(w, columns...)
	for _, r := range rows {
		out.row(r...)
	}
	out.end()
}

// timeCell is a moment in a row.
func (q *query) timeCell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(q.who.Zone).Format(timeForm)
}

// events writes a row for every event that wants lets pass, oldest first.
func (q *query) events(w http.ResponseWriter, columns []string, search service.EventQuery, wants func(*mail.Event) bool,
	row func(*mail.Event) []string) *faults {
	search.Tenant, search.After = q.who.Tenant, q.values.Get("cursor")
	if len(search.After) > service.MaxCursor {
		q.faults.add(codeLong, "cursor")
	}
	search.Since, search.Until = q.span()
	if q.who.OwnData {
		search.User = q.who.Name
	}
	take := q.number("limit", tsvRows, 1, maxTSVRows)
	if len(q.faults.list) > 0 {
		return q.faults
	}
	var rows [][]string
	next, more, mails := "", false, 0
	ends := clock.Wall().Add(searchTime)
	search.Reached = func(position string) bool { // the cursor goes on from there
		next, more = position, !clock.Wall().Before(ends)
		return !more
	}
	err := q.c.Services.Log.Search(q.ctx, search, func(e mail.Event, position string) bool {
		if !wants(&e) || e.Own || q.who.OwnData && e.User != q.who.Name { // members of an older version do not narrow
			return search.Reached(position)
		}
		if more = len(rows) == take || mails > maxTSVMail; more {
			return false
		}
		rows = append(rows, row(&e))
		mails += len(e.Mail)
		return search.Reached(position)
	})
	if errors.Is(err, service.ErrInvalid) && search.After != "" { // all else was looked at here
		return q.fault(q.r, codeRange, "cursor")
	}
	if no := q.fails(w, err); no != nil {
		return no
	}
	writeTSV(w, columns, rows, next, more)
	return nil
}
