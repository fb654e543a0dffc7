// Package hooks is a tenant's HTTP server for webhooks: it takes what an engine posts and tells afterwards which events
// of the mail in a ledger never came, and which came again.
//
// It keeps posts as they came and reads them only when it is asked, so that it costs a measurement little. It must never
// ask the engine what it posted.
package hooks

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	maxPost    = 4 << 20 // octets of a post; 100 events have about 40,000
	headerWait = 10 * time.Second
)

// post is one that was taken.
type post struct {
	body  []byte
	again int // how often it came again
}

// Receiver listens on loopback. Safe for concurrent use.
type Receiver struct {
	URL    string
	server *http.Server

	mu      sync.Mutex
	posts   map[string]*post // by webhook-id
	order   []string         // as they came first
	events  int              // in posts, each once
	again   int              // posts that came again
	changed int              // of them, with other words than before
	last    time.Time        // when the newest post came
}

// Listen starts a receiver on a loopback port that is free.
func Listen() (*Receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	r := &Receiver{URL: "http://" + l.Addr().String() + "/", posts: map[string]*post{}}
	r.server = &http.Server{Handler: http.HandlerFunc(r.take), ReadHeaderTimeout: headerWait}
	go func() { _ = r.server.Serve(l) }()
	return r, nil
}

// Close ends it.
func (r *Receiver) Close() { _ = r.server.Close() }

// take keeps a post. It counts as taken before it is answered: what the engine hears of it is another matter.
func (r *Receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxPost))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	id := req.Header.Get("Webhook-Id")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = clock.Wall()
	if known := r.posts[id]; known != nil {
		known.again++
		r.again++
		if sha256.Sum256(known.body) != sha256.Sum256(body) {
			r.changed++
		}
		return
	}
	r.posts[id] = &post{body: body}
	r.order = append(r.order, id)
	r.events += bytes.Count(body, []byte(`"messageId"`))
}

// Events is how many events came, those of posts that came again not counted twice.
func (r *Receiver) Events() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events
}

// Last is when the newest post came.
func (r *Receiver) Last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
