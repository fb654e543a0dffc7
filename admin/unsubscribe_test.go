package admin

import (
	"bytes"
	"context"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// fakeLinks knows one token.
type fakeLinks struct {
	left int
	err  error
}

func (f *fakeLinks) Known(token string) error {
	if token != "genuine" {
		return service.ErrNotFound
	}
	return f.err
}

func (f *fakeLinks) Leave(_ context.Context, token string) error {
	err := f.Known(token)
	if err == nil {
		f.left++
	}
	return err
}

func multipartForm(t *testing.T, name, value string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.WriteField("other", "x"); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteField(name, value); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

// TestLeave: only POST with the words of RFC 8058 and a token of ours takes anybody off a list.
func TestLeave(t *testing.T) {
	const urlencoded = "application/x-www-form-urlencoded"
	parts, partsBody := multipartForm(t, "List-Unsubscribe", "One-Click")
	wrongParts, wrongBody := multipartForm(t, "List-Unsubscribe", "Two-Click")
	for _, row := range []struct {
		name, method, token, contentType, body string
		err                                    error
		status, left                           int
		says                                   string
	}{
		{"a provider's POST", "POST", "genuine", urlencoded, "List-Unsubscribe=One-Click", nil, 200, 1, "no more mail"},
		{"as form data", "POST", "genuine", parts, partsBody, nil, 200, 1, "配信停止を受け付けました"},
		{"GET asks", "GET", "genuine", "", "", nil, 200, 0, `value="One-Click"`},
		{"HEAD too", "HEAD", "genuine", "", "", nil, 200, 0, ""},
		{"GET of a forged link", "GET", "forged", "", "", nil, 404, 0, "not valid"},
		{"a forged link", "POST", "forged", urlencoded, "List-Unsubscribe=One-Click", nil, 404, 0, "not valid"},
		{"other words", "POST", "genuine", urlencoded, "List-Unsubscribe=yes", nil, 400, 0, "not valid"},
		{"other words as form data", "POST", "genuine", wrongParts, wrongBody, nil, 400, 0, "not valid"},
		{"no body", "POST", "genuine", urlencoded, "", nil, 400, 0, "not valid"},
		{"no type", "POST", "genuine", "", "List-Unsubscribe=One-Click", nil, 400, 0, "not valid"},
		{"a large body", "POST", "genuine", urlencoded, "List-Unsubscribe=One-Click&x=" + strings.Repeat("x", 5000), nil, 413, 0, "not valid"},
		{"no majority", "POST", "genuine", urlencoded, "List-Unsubscribe=One-Click", service.ErrNoQuorum, 503, 0, "try again later"},
		{"another method", "PUT", "genuine", urlencoded, "List-Unsubscribe=One-Click", nil, 403, 0, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			links := &fakeLinks{err: row.err}
			f := mustFront(t, func(c *Config) { c.Services.Links = links })
			req, err := http.NewRequestWithContext(t.Context(), row.method, f.url+"/unsubscribe/"+row.token, strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", row.contentType)
			req.Header.Set("Origin", "https://webmail.example") // no cookie, no rights: where it comes from does not matter
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var page bytes.Buffer
			if _, err := page.ReadFrom(resp.Body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != row.status || links.left != row.left || !strings.Contains(page.String(), row.says) {
				t.Errorf("%d, %d left, %s", resp.StatusCode, links.left, page.String())
			}
		})
	}
}

// TestLeaveGuesses: who tries tokens is turned away, who has one is not.
func TestLeaveGuesses(t *testing.T) {
	links := &fakeLinks{}
	f := mustFront(t, func(c *Config) { c.Services.Links = links })
	post := func(token string) int {
		t.Helper()
		resp, err := http.Post(f.url+"/unsubscribe/"+token, "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for range guessBurst {
		if status := post("guess"); status != 404 {
			t.Fatalf("guess: %d", status)
		}
	}
	if status := post("guess"); status != 429 {
		t.Errorf("one guess too many: %d", status)
	}
	for range 3 * guessBurst {
		if status := post("genuine"); status != 200 {
			t.Fatalf("a genuine link: %d", status)
		}
	}
}

func FuzzOneClick(f *testing.F) {
	f.Add("application/x-www-form-urlencoded", []byte("List-Unsubscribe=One-Click"))
	f.Add("multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n"))
	f.Add("multipart/form-data", []byte("--\r\n"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if len(body) > maxLeaveBody {
			return
		}
		if oneClick(contentType, body) && !bytes.Contains(body, []byte("Click")) && !bytes.ContainsAny(body, "%=") {
			t.Errorf("%q with %q counts as a click", contentType, body)
		}
	})
}

// FuzzLeave: whatever is posted, the endpoint answers one of its pages and never lets a wrong token leave.
func FuzzLeave(f *testing.F) {
	f.Add("forged", "application/x-www-form-urlencoded", []byte("List-Unsubscribe=One-Click"))
	f.Add("a/b", "x", []byte(nil))
	f.Fuzz(func(t *testing.T, token, contentType string, body []byte) {
		links := &fakeLinks{}
		s := &Server{c: Config{Services: Services{Links: links}}}
		r := httptest.NewRequest("POST", "/unsubscribe/x", bytes.NewReader(body))
		r.SetPathValue("token", token)
		r.Header["Content-Type"] = []string{contentType}
		w := httptest.NewRecorder()
		s.leave(w, r)
		if token != "genuine" && links.left != 0 || w.Code == http.StatusOK != (links.left == 1) {
			t.Errorf("%d for the token %q, %d left", w.Code, token, links.left)
		}
	})
}
