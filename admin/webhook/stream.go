package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of a batch (requirement R141) and of what waits for it.
const (
	maxBatch  = 100
	batchTime = time.Second
	waiting   = 2 * maxBatch
	markEvery = 20_000           // events of others after which the position is told nevertheless
	markTime  = time.Minute      // and how often it is then kept
	again     = time.Second      // after trouble of our own
	maxPause  = 16 * time.Minute // requirement B7.1: 1, 2, 4, 8, 16 minutes
	maxTries  = 6                // and then a post that is refused is dropped
	grace     = 3 * time.Second  // how long a stop waits for the answer to a post
)

// progress is how far a hook has come. It is kept before a batch is posted and after it was taken, so that what a
// crash interrupts is said again in the same words, under the same name.
type progress struct {
	From     string `json:"from"`            // everything before it has been posted or dropped
	Until    string `json:"until,omitempty"` // the batch from From up to here is being posted
	Done     int    `json:"done,omitempty"`  // posts of that batch that were taken: one for each composition
	Sequence uint64 `json:"sequence"`        // of the newest post before that batch
	Born     int64  `json:"born"`            // when the hook began here: makes names of posts unlike those of other logs
}

// item is one event to be posted, or with no record only a position.
type item struct {
	composition string
	record      json.RawMessage
	at          int64 // UNIX milliseconds
	position    string
}

// stream posts the events of one hook, one batch at a time.
type stream struct {
	p      *Poster
	hook   Hook
	name   string
	begin  string // where to begin if nothing is kept
	zone   *time.Location
	now    progress
	held   *item // read, and of the next batch
	oldest atomic.Int64

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func newStream(p *Poster, h Hook, name, begin string) *stream {
	s := &stream{p: p, hook: h, name: name, begin: begin, zone: time.Local, done: make(chan struct{})}
	if zone, err := time.LoadLocation(h.Zone); err == nil && h.Zone != "" {
		s.zone = zone
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// run posts until the stream is cancelled. before is the stream of the same hook as it was set up until now.
func (s *stream) run(before *stream) {
	defer close(s.done)
	if before != nil {
		before.cancel()
		<-before.done
	}
	for s.ctx.Err() == nil {
		if err := s.attempt(); err != nil && s.ctx.Err() == nil {
			s.p.c.Log.Warn("webhook stands still", "tenant", s.hook.Tenant, "type", s.hook.Type, "error", err)
			s.sleep(s.p.c.Clock.Now().Add(again))
		}
	}
}

// forget ends the stream and its progress.
func (s *stream) forget() {
	s.cancel()
	<-s.done
	if err := s.p.c.Memory.Keep(context.Background(), s.name, nil); err != nil {
		s.p.c.Log.Warn("progress of a webhook is not forgotten", "error", err)
	}
}

// attempt loads the progress, follows the log and posts, until there is trouble.
func (s *stream) attempt() error {
	if err := s.load(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	items := make(chan item, waiting)
	ended := make(chan error, 1)
	go func() {
		ended <- s.read(ctx, items)
		close(items)
	}()
	err := s.post(ctx, items)
	cancel()
	if followed := <-ended; err == nil || errors.Is(err, errEnded) {
		err = followed
	}
	s.held = nil
	return err
}

// load reads how far the hook has come. One that begins starts behind what is in the log already.
func (s *stream) load() error {
	raw, err := s.p.c.Memory.Load(s.name)
	if err != nil {
		return fmt.Errorf("webhook: load progress: %w", err)
	}
	if raw == nil {
		s.now = progress{From: s.begin, Born: clock.Wall().UnixNano()}
		return s.keep()
	}
	s.now = progress{}
	if err := json.Unmarshal(raw, &s.now); err != nil {
		return fmt.Errorf("webhook: progress does not parse: %w", err)
	}
	return nil
}

// keep outlives the end of the stream: what was taken must not be said again.
func (s *stream) keep() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), grace)
	defer cancel()
	raw, err := json.Marshal(&s.now)
	if err == nil {
		err = s.p.c.Memory.Keep(ctx, s.name, raw)
	}
	if err != nil {
		return fmt.Errorf("webhook: keep progress: %w", err)
	}
	return nil
}

// read follows the log and hands on what the hook wants.
func (s *stream) read(ctx context.Context, items chan<- item) error {
	skipped := 0
	var broken error
	err := s.p.c.Events.Follow(ctx, s.now.From, func(e *mail.Event, position string) bool {
		if e.Kind == mail.EventAccepted && e.Tenant == s.hook.Tenant {
			s.p.heads.Note(e)
		}
		it := item{position: position}
		if s.wants(e) {
			if it, broken = s.item(ctx, e, position); broken != nil {
				return false
			}
		} else if skipped++; skipped%markEvery != 0 {
			return true
		}
		select {
		case items <- it:
			return true
		case <-ctx.Done():
			return false
		}
	})
	if broken != nil {
		err = broken
	}
	return err
}

// wants tells whether an event is one of the hook's. The engine's own mail is nobody's delivery.
func (s *stream) wants(e *mail.Event) bool {
	if e.Tenant != s.hook.Tenant || e.Own {
		return false
	}
	if s.hook.Type == Bounces {
		return compat.IsBounce(e.Kind)
	}
	status := compat.StatusOf(e.Kind)
	return status != "" && (s.hook.Statuses == "" || slices.Contains(strings.Split(s.hook.Statuses, ","), status))
}

func (s *stream) item(ctx context.Context, e *mail.Event, position string) (item, error) {
	head := e
	if e.Kind != mail.EventAccepted {
		var err error
		if head, err = s.p.heads.Head(ctx, e.Message, s.p.c.Events.Acceptance); err != nil {
			return item{}, fmt.Errorf("webhook: look up message: %w", err)
		}
	}
	var record any = compat.DeliveryOf(e, head, s.zone)
	if s.hook.Type == Bounces {
		record = compat.BounceOf(e, head, s.zone)
	}
	raw, err := json.Marshal(record)
	return item{composition: head.Composition, record: raw, at: e.At.UnixMilli(), position: position}, err
}

// errEnded says that the log has nothing more to tell, for the reason that Follow returned.
var errEnded = errors.New("the log has ended")

// post makes batches of items and posts them until there is trouble.
func (s *stream) post(ctx context.Context, items <-chan item) (err error) {
	kept, unkept := s.p.c.Clock.Now(), false
	defer func() {
		if unkept {
			err = errors.Join(err, s.keep())
		}
	}()
	for {
		batch, end, err := s.gather(ctx, items)
		if err != nil {
			return err
		}
		if len(batch) == 0 { // events of others
			s.now.From = end
			if now := s.p.c.Clock.Now(); now.Sub(kept) > markTime {
				kept = now
				if err := s.keep(); err != nil {
					return err
				}
			}
			continue
		}
		s.oldest.Store(batch[0].at)
		if s.now.Until == "" {
			s.now.Until = end
			if err := s.keep(); err != nil {
				return err
			}
			unkept = false
		}
		if err := s.deliver(ctx, batch); err != nil {
			return err
		}
		// With a full batch at hand, what is kept before that one says that this one is done.
		if unkept = len(items) >= maxBatch; !unkept {
			if err := s.keep(); err != nil {
				return err
			}
		}
		s.oldest.Store(0)
	}
}

// gather waits for a batch: 100 events, or what comes within a second of the first, or exactly what was being posted when
// the last attempt ended. No events are a position only.
func (s *stream) gather(ctx context.Context, items <-chan item) (batch []item, end string, err error) {
	var full <-chan time.Time
	for {
		it := item{}
		if s.held != nil {
			it, s.held = *s.held, nil
		} else {
			select {
			case next, ok := <-items:
				if !ok {
					return nil, "", errEnded
				}
				it = next
			case <-full:
				return batch, end, nil
			case <-ctx.Done():
				return nil, "", ctx.Err()
			}
		}
		if s.now.Until != "" && it.position > s.now.Until { // its last events were purged
			s.held = &it
			return batch, s.now.Until, s.skipPurged(batch)
		}
		switch {
		case it.record != nil:
			batch, end = append(batch, it), it.position
		case len(batch) == 0 && s.now.Until == "":
			return nil, it.position, nil
		default:
			continue // the position of the last event says as much
		}
		switch {
		case s.now.Until != "":
			if end == s.now.Until {
				return batch, end, nil
			}
		case len(batch) == maxBatch:
			return batch, end, nil
		case full == nil:
			timer := time.NewTimer(batchTime)
			defer timer.Stop()
			full = timer.C
		}
	}
}

// skipPurged closes a batch of which nothing is left in the log.
func (s *stream) skipPurged(batch []item) error {
	if len(batch) > 0 {
		return nil
	}
	s.now.From, s.now.Until, s.now.Done = s.now.Until, "", 0
	return s.keep()
}

// deliver posts a batch, one post for each composition in it, until all are taken or given up.
func (s *stream) deliver(ctx context.Context, batch []item) error {
	var order []string
	of := map[string][]json.RawMessage{}
	for _, it := range batch {
		if of[it.composition] == nil {
			order = append(order, it.composition)
		}
		of[it.composition] = append(of[it.composition], it.record)
	}
	for i, composition := range order {
		if i < s.now.Done {
			continue
		}
		m := &message{Type: s.hook.Type, Sequence: s.now.Sequence + uint64(i) + 1, Node: s.p.c.Node, Composition: composition,
			APIKey: s.hook.APIKey, Events: of[composition]}
		if err := s.insist(ctx, m); err != nil {
			return err
		}
		if s.now.Done = i + 1; s.now.Done < len(order) {
			if err := s.keep(); err != nil {
				return err
			}
		}
	}
	s.now = progress{From: s.now.Until, Sequence: s.now.Sequence + uint64(len(order)), Born: s.now.Born}
	return nil
}

// insist posts m until the receiver takes it. A receiver that cannot be reached is waited for as long as the log keeps
// the events; one that refuses this very post six times does not get it (requirement B7.1).
func (s *stream) insist(ctx context.Context, m *message) error {
	id := s.id(m)
	said, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	pause := time.Minute
	for try := 1; ; try, pause = try+1, min(2*pause, maxPause) {
		err := s.p.client.post(said, &s.hook, id, m)
		if err == nil {
			s.p.c.Posted(ResultPosted, len(m.Events))
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.p.c.Posted(ResultFailed, len(m.Events))
		log := s.p.c.Log.With("tenant", s.hook.Tenant, "type", m.Type, "sequence", m.Sequence, "events", len(m.Events), "error", err)
		if refused := (*refusedError)(nil); errors.As(err, &refused) && try >= maxTries {
			s.p.c.Posted(ResultDropped, len(m.Events))
			log.Error("a webhook's receiver refuses a post; it is dropped")
			return nil
		}
		log.Warn("a webhook's receiver does not take a post", "again_in", pause)
		if s.sleep(s.p.c.Clock.Now().Add(pause)); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// id names a post: the same after a restart, and unlike any other's.
func (s *stream) id(m *message) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d %d", s.p.c.Node, s.name, s.now.From, s.now.Born, m.Sequence))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// sleep waits until product time has come or the stream is cancelled.
func (s *stream) sleep(until time.Time) {
	woken := make(chan struct{})
	t := s.p.c.Clock.At(until, func() { close(woken) })
	defer t.Stop()
	select {
	case <-woken:
	case <-s.ctx.Done():
	}
}
