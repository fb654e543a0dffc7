package admin

import (
	"bytes"
	"errors"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// maxLeaveBody bounds what a request to leave a list may hold, in octets: one name and one value.
const maxLeaveBody = 4 << 10

// askLeave serves GET of a link to leave a list: a page that asks. It changes nothing, because mail scanners follow every
// link (RFC 8058 §1).
func (s *Server) askLeave(w http.ResponseWriter, r *http.Request) {
	if err := s.c.Services.Links.Known(r.PathValue("token")); err != nil {
		s.refuseLeave(w, r, err)
		return
	}
	leavePage(w, http.StatusOK, leaveAsk)
}

// leave serves POST: the recipient leaves the list where the body says List-Unsubscribe=One-Click (RFC 8058 §3.2), as a
// mailbox provider sends it, or the page's button. There is no cookie and no redirect.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLeaveBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		leavePage(w, http.StatusRequestEntityTooLarge, leaveWrong)
		return
	case err != nil || !oneClick(r.Header.Get("Content-Type"), body):
		leavePage(w, http.StatusBadRequest, leaveWrong)
		return
	}
	if err := s.c.Services.Links.Leave(r.Context(), r.PathValue("token")); err != nil {
		s.refuseLeave(w, r, err)
		return
	}
	leavePage(w, http.StatusOK, leaveDone)
}

// oneClick tells whether a form of either encoding holds List-Unsubscribe=One-Click.
func oneClick(contentType string, body []byte) bool {
	const name, value = "List-Unsubscribe", "One-Click"
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		return err == nil && form.Get(name) == value
	case "multipart/form-data":
		form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
		for {
			part, err := form.NextPart()
			if err != nil {
				return false
			}
			if part.FormName() != name || part.FileName() != "" {
				continue
			}
			text, err := io.ReadAll(part) // at most the body
			return err == nil && string(text) == value
		}
	}
	return false
}

// refuseLeave tells why nobody has left. Wrong tokens of one peer are counted; right ones never, for a mailbox provider
// sends many.
func (s *Server) refuseLeave(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, service.ErrNotFound):
		if !s.links.guess(peerOf(r), clock.Wall()) {
			w.Header().Set("Retry-After", "60")
			leavePage(w, http.StatusTooManyRequests, leaveLater)
			return
		}
		leavePage(w, http.StatusNotFound, leaveUnknown)
	default: // no majority, sealed, or too many at once: whoever asks is to come back
		s.c.Log.Warn("a request to be unsubscribed was turned away", "error", err)
		w.Header().Set("Retry-After", "60")
		leavePage(w, http.StatusServiceUnavailable, leaveLater)
	}
}

// leaveText is what a page says, in the languages of its readers.
type leaveText struct {
	English, Japanese string
	Ask               bool
}

var (
	leaveAsk     = leaveText{"Do you want to stop getting mail of this list?", "このメールの配信を停止しますか?", true}
	leaveDone    = leaveText{"You will get no more mail of this list, from tomorrow at the latest.", "配信停止を受け付けました。遅くとも翌日から配信されません。", false}
	leaveUnknown = leaveText{"This link is not valid. Use the whole link from the mail.", "リンクが正しくありません。メールに記載されたリンク全体をお使いください。", false}
	leaveWrong   = leaveText{"This request is not valid. Open the link from the mail.", "リクエストが正しくありません。メールのリンクを開いてください。", false}
	leaveLater   = leaveText{"This does not work at the moment. Please try again later.", "現在処理できません。しばらくしてから再度お試しください。", false}
)

func leavePage(w http.ResponseWriter, status int, t leaveText) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Robots-Tag", "noindex")
	if t.Ask {
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	}
	w.WriteHeader(status)
	_ = leaveTemplate().Execute(w, t) // the reader has gone: no trouble
}

func leaveTemplate() *template.Template {
	return template.Must(template.New("leave").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Unsubscribe</title>
<p>{{.English}}</p>
<p lang="ja">{{.Japanese}}</p>
{{if .Ask}}<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>Unsubscribe / <span lang="ja">配信停止</span></button></form>
{{end}}`))
}
