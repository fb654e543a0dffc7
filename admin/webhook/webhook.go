// Package webhook posts events to the addresses that tenants name, in batches of 100 or of one second (requirements
// R141, B7.1). It follows the event log by a position that is kept on disk, so that a restart loses nothing, and says
// each batch by the same name when it has to say it again.
//
// It must never be on the way of mail: it reads what is committed already, and a receiver that is slow or dead makes
// nobody wait but itself. It must never dial an address its guard has not seen, and never follow a redirect (threat
// T20). Read Hook, then stream.go.
package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Types of events.
const (
	Deliveries = "deliveries"
	Bounces    = "bounces"
	Blocks     = "blocks" // what is put on the tenant's block list and taken off it
	Alarms     = "alarms" // what the operator should look at; of no tenant
)

// Hook says where events of one type of one tenant go.
type Hook struct {
	Tenant    string // "" = the operator's, of alarms
	URL       string // https; http where Config.Plain
	Type      string // one of the types above
	Form      bool   // form-encoded, not JSON
	Published bool   // version 1 of B7.1: only its fields, and deliveries as version 1 of B3 has them
	Secret    string // signs the posts (Standard Webhooks); "" = no signature
	Second    string // signs them as well, while receivers change from one to the other; "" = there is none
	APIKey    string // the field api_key; "" = none
	Bearer    string // the Authorization header; "" = none but what the URL holds
	Statuses  string // statuses of deliveries that are posted, separated by commas; "" = all
	Zone      string // of the times in the records; "" = the zone of the process
}

// name is what the hook's progress is kept under. Secrets and forms may change without beginning anew.
func (h Hook) name() string {
	sum := sha256.Sum256([]byte(h.Tenant + "\x00" + h.URL + "\x00" + h.Type))
	return "webhook-" + hex.EncodeToString(sum[:12])
}

// Log is the event log of this node. Positions of one log sort as text.
type Log interface {
	// Follow calls f for every event behind a position, also for those that come later, until f returns false or ctx ends.
	Follow(ctx context.Context, after string, f func(e *mail.Event, position string) bool) error
	// End is the position behind the newest event.
	End() string
	// Acceptance returns an event of acceptance of a message, or an empty one where the log has none.
	Acceptance(ctx context.Context, m mail.MessageID) (mail.Event, error)
}

// Memory keeps small values, sealed and synced.
type Memory interface {
	// Load returns nil where nothing is kept.
	Load(name string) ([]byte, error)
	// Keep returns when the value is durable; nil forgets it.
	Keep(ctx context.Context, name string, value []byte) error
}

// Config is what a Poster needs.
type Config struct {
	Node    string // its name, told in each post: each member posts its own events
	Version string
	Events  Log
	Memory  Memory
	Allowed func(netip.AddrPort) error // asked about each address before it is dialled
	Plain   bool                       // http is allowed
	Clock   *clock.Clock
	Log     *slog.Logger
	Posted  func(result string, events int) // counts; result is one of the words below
}

// Results of posts.
const (
	ResultPosted  = "posted"
	ResultFailed  = "failed"  // to be tried again
	ResultDropped = "dropped" // refused by the receiver again and again, and given up
)

// Poster posts the events of all hooks. Safe for concurrent use.
type Poster struct {
	c      Config
	client *poster
	heads  compat.Heads

	mu      sync.Mutex
	streams map[string]*stream
	closed  bool
	done    sync.WaitGroup
}

// New returns a poster without hooks.
func New(c Config) *Poster {
	return &Poster{c: c, client: newPoster(c), streams: map[string]*stream{}}
}

// Use posts to these hooks from now on, and to no others. A new hook begins with the events that come; one that is
// gone is forgotten, also where it went while this node was down.
func (p *Poster) Use(hooks []Hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	wanted, end := map[string]bool{}, p.c.Events.End()
	for _, h := range hooks {
		wanted[h.name()] = true
	}
	if err := p.tidy(wanted); err != nil {
		p.c.Log.Warn("progress of webhooks that are gone is not forgotten", "error", err)
	}
	begun := map[string]bool{}
	for _, h := range hooks {
		name := h.name()
		before := p.streams[name]
		if begun[name] || before != nil && before.hook == h && !before.gone.Load() {
			begun[name] = true
			continue
		}
		begun[name] = true
		s := newStream(p, h, name, end)
		p.streams[name] = s
		p.done.Go(func() { s.run(before) })
	}
	for name, s := range p.streams {
		if !wanted[name] {
			s.gone.Store(true)
			s.cancel()
		}
	}
}

// metaHooks is what the names of the hooks are kept under of which there may be progress.
const metaHooks = "webhooks"

// tidy forgets the progress of hooks that are not wanted and have no stream that would, and notes which there are.
func (p *Poster) tidy(wanted map[string]bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	raw, err := p.c.Memory.Load(metaHooks)
	if err != nil {
		return err
	}
	var before []string
	if raw != nil {
		if err := json.Unmarshal(raw, &before); err != nil {
			return err
		}
	}
	now := maps.Clone(wanted)
	for _, name := range before {
		if wanted[name] || p.streams[name] != nil {
			now[name] = true
		} else if err := p.c.Memory.Keep(ctx, name, nil); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(now))
	if slices.Equal(names, before) {
		return nil
	}
	if raw, err = json.Marshal(names); err != nil {
		return err
	}
	return p.c.Memory.Keep(ctx, metaHooks, raw)
}

// Lag is how old the oldest event is that waits to be posted; 0 where none does.
func (p *Poster) Lag() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lag time.Duration
	for _, s := range p.streams {
		if at := s.oldest.Load(); at != 0 {
			lag = max(lag, p.c.Clock.Now().Sub(time.UnixMilli(at)))
		}
	}
	return lag
}

// Close ends posting; what was not acknowledged is posted after the next start. It must come before the log is closed.
func (p *Poster) Close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.streams {
		s.cancel()
	}
	p.mu.Unlock()
	p.done.Wait()
	p.client.close()
}
