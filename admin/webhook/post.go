package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of one post.
const (
	postTimeout   = 15 * time.Second // from the look-up of the name to the last octet of the answer
	maxAnswer     = 64 << 10         // octets of the answer that are read; they are not looked at
	maxAnswerHead = 16 << 10
)

// errPlain is reported for http where it is not allowed.
var errPlain = errors.New("only https is allowed")

// refusedError is an answer that says no to this very post: to say it again changes nothing.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return "the receiver refuses: " + http.StatusText(e.status) }

// poster is the HTTP client of all hooks.
type poster struct {
	client  http.Client
	version string
	plain   bool
	now     func() time.Time
}

func newPoster(c Config) *poster {
	dialer := &net.Dialer{Timeout: postTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("webhook: %q is no address: %w", address, err)
		}
		return c.Allowed(a)
	}}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: postTimeout, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: maxWindow, ResponseHeaderTimeout: postTimeout, MaxResponseHeaderBytes: maxAnswerHead, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{}} // HTTP/1.1 (B7.1)
	return &poster{version: c.Version, plain: c.Plain, now: c.Clock.Now, client: http.Client{Transport: transport, Timeout: postTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (p *poster) close() { p.client.CloseIdleConnections() }

// message is one post (requirement B7.1, contract 11).
type message struct {
	Type        string            `json:"event_type"`
	Sequence    uint64            `json:"sequence"` // of the posts of this node to this hook: 1, 2, 3 …
	Node        string            `json:"node"`
	First       uint64            `json:"first_event"` // numbers of the first and the last event in the tenant's log at the node
	Last        uint64            `json:"last_event"`
	Cursor      string            `json:"cursor"` // NODE@POSITION behind the last event: GET /v1/events goes on there in that node's log
	Composition string            `json:"server_composition"`
	APIKey      string            `json:"api_key,omitempty"`
	Events      []json.RawMessage `json:"event"`
}

// encode returns the body and its type. published leaves out of a form what only ekiden posts.
func (m *message) encode(form, published bool) (body []byte, kind string, err error) {
	if !form {
		body, err = json.Marshal(m)
		return body, "application/json", err
	}
	list, err := json.Marshal(m.Events)
	if err != nil {
		return nil, "", err
	}
	v := url.Values{"event_type": {m.Type}, "server_composition": {m.Composition}, "event": {string(list)}}
	if !published {
		v.Set("sequence", strconv.FormatUint(m.Sequence, 10))
		v.Set("node", m.Node)
		v.Set("first_event", strconv.FormatUint(m.First, 10))
		v.Set("last_event", strconv.FormatUint(m.Last, 10))
		v.Set("cursor", m.Cursor)
	}
	if m.APIKey != "" {
		v.Set("api_key", m.APIKey)
	}
	return []byte(v.Encode()), "application/x-www-form-urlencoded", nil
}

// post returns nil once the receiver has taken m. id is the same whenever the same post is said again.
func (p *poster) post(ctx context.Context, h *Hook, id string, m *message) error {
	body, kind, err := m.encode(h.Form, h.Published)
	if err != nil {
		return fmt.Errorf("webhook: encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	if req.URL.Scheme != "https" && !p.plain {
		return errPlain
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "ekiden/"+p.version)
	req.Header.Set("Accept-Encoding", "gzip, deflate")
	if h.Bearer != "" {
		req.Header.Set("Authorization", "Bearer "+h.Bearer)
	}
	at := strconv.FormatInt(p.now().Unix(), 10)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	if h.Secret != "" {
		signature := sign(h.Secret, id, at, body)
		if h.Second != "" {
			signature += " " + sign(h.Second, id, at, body)
		}
		req.Header.Set("Webhook-Signature", signature)
	}
	resp, err := p.client.Do(req)
	if shown := (*url.Error)(nil); errors.As(err, &shown) {
		err = shown.Err // without the address: its query may hold a secret
	}
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer resp.Body.Close()
	// Read so that the connection can be used again; an answer without end closes it.
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	switch s := resp.StatusCode; {
	case s/100 == 2: // the answer's body is of no interest, nor is its end
		return nil
	case s/100 == 4 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests:
		return &refusedError{s}
	case err != nil:
		return fmt.Errorf("webhook: answer %d: %w", s, err)
	default:
		return fmt.Errorf("webhook: answer %d", s)
	}
}

// sign makes the signature of the Standard Webhooks: HMAC-SHA256 over id, timestamp and body. A secret that begins with
// whsec_ is base64 of the key, any other is the key itself.
func sign(secret, id, at string, body []byte) string {
	key := []byte(secret)
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
			key = raw
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
