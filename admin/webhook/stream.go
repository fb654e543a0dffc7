package webhook

import (
	"cmp"
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
	maxWindow = 8 // posts in flight at once, while the receiver takes them
	waiting   = (maxWindow + 1) * maxBatch
	markEvery = 20_000           // events of others after which the position is told nevertheless
	markTime  = time.Minute      // and how often it is then kept
	again     = time.Second      // after trouble of our own
	maxPause  = 16 * time.Minute // requirement B7.1: 1, 2, 4, 8, 16 minutes
	maxTries  = 6                // and then a post that is refused is dropped
	grace     = 3 * time.Second  // how long a stop waits for the answer to a post
)

// progress is how far a hook has come. It is kept before a wave is posted and after it was taken, so that what a
// crash interrupts is said again in the same words, under the same name.
type progress struct {
	From     string `json:"from"`            // everything before it has been posted or dropped
	Until    string `json:"until,omitempty"` // the wave from From up to here is being posted
	Taken    []int  `json:"taken,omitempty"` // posts of that wave that were taken or dropped, by their places
	Sequence uint64 `json:"sequence"`        // of the newest post before that wave
	Born     int64  `json:"born"`            // when the hook began here: makes names of posts unlike those of other logs
	Statuses string `json:"statuses"`        // the hook's when that wave was cut: it is said again as it was, whatever they are now
}

// item is one event to be posted, or with no record only a position.
type item struct {
	composition string
	record      json.RawMessage
	at          int64  // UNIX milliseconds
	number      uint64 // of the event, in the tenant's log
	position    string
}

// stream posts the events of one hook, one wave at a time (see wave.go).
type stream struct {
	p      *Poster
	hook   Hook
	name   string
	begin  string // where to begin if nothing is kept
	zone   *time.Location
	now    progress
	held   []item // read, and of the next wave
	window int    // posts in flight at once at the moment
	oldest atomic.Int64
	gone   atomic.Bool // the hook is no more: what is left to do is to forget its progress

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func newStream(p *Poster, h Hook, name, begin string) *stream {
	s := &stream{p: p, hook: h, name: name, begin: begin, zone: time.Local, window: 1, done: make(chan struct{})}
	if zone, err := time.LoadLocation(h.Zone); err == nil && h.Zone != "" {
		s.zone = zone
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// run posts until the stream is cancelled. before is the stream of the same hook as it was set up until now.
func (s *stream) run(before *stream) {
	defer s.end()
	if before != nil {
		before.cancel()
		<-before.done
	}
	for s.ctx.Err() == nil {
		if err := s.attempt(); err != nil && s.ctx.Err() == nil {
			s.p.c.Log.Warn("webhook stands still", "tenant", s.hook.Tenant, "type", s.hook.Type, "error", err)
			s.sleep(s.ctx, s.p.c.Clock.Now().Add(again))
		}
	}
}

// end forgets the progress of a hook that is gone, before a stream that follows this one may begin.
func (s *stream) end() {
	defer close(s.done)
	if !s.gone.Load() {
		return
	}
	if err := s.p.c.Memory.Keep(context.Background(), s.name, nil); err != nil {
		s.p.c.Log.Warn("progress of a webhook is not forgotten", "error", err)
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.streams[s.name] == s {
		delete(s.p.streams, s.name)
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
	from := s.now
	go func() {
		ended <- s.read(ctx, from, items)
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
	s.now = progress{Statuses: s.hook.Statuses}
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

// read follows the log and hands on what the hook wants, and of a wave that was being posted what it wanted then.
func (s *stream) read(ctx context.Context, from progress, items chan<- item) error {
	skipped := 0
	var broken error
	err := s.p.c.Events.Follow(ctx, from.From, func(e *mail.Event, position string) bool {
		if e.Kind == mail.EventAccepted && e.Tenant == s.hook.Tenant {
			s.p.heads.Note(e)
		}
		it, statuses := item{position: position}, s.hook.Statuses
		if position <= from.Until {
			statuses = from.Statuses
		}
		if s.wants(e, statuses) {
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

// wants tells whether an event is one of the hook's, with these statuses of deliveries. The engine's own mail is nobody's
// delivery.
func (s *stream) wants(e *mail.Event, statuses string) bool {
	if e.Tenant != s.hook.Tenant || e.Own {
		return false
	}
	switch s.hook.Type {
	case Bounces:
		return compat.IsBounce(e.Kind)
	case Blocks:
		return e.Kind == mail.EventBlocked || e.Kind == mail.EventReleased
	case Alarms:
		return e.Kind == mail.EventAlarm
	}
	status := compat.StatusOf(e.Kind)
	return status != "" && (statuses == "" || slices.Contains(strings.Split(statuses, ","), status))
}

func (s *stream) item(ctx context.Context, e *mail.Event, position string) (item, error) {
	head := e
	if e.Kind != mail.EventAccepted && s.hook.Type != Blocks && s.hook.Type != Alarms {
		var err error
		if head, err = s.p.heads.Head(ctx, e.Message, s.p.c.Events.Acceptance); err != nil {
			return item{}, fmt.Errorf("webhook: look up message: %w", err)
		}
	}
	var record any
	switch s.hook.Type {
	case Bounces:
		record = compat.BounceOf(e, head, s.zone)
	case Blocks:
		record = compat.BlockingOf(e, s.zone)
	case Alarms:
		record = alarmOf(e, s.p.c.Node, s.zone)
	default:
		d := compat.DeliveryOf(e, head, s.zone)
		if record = &d; s.hook.Published {
			record = d.First()
		}
	}
	raw, err := json.Marshal(record)
	return item{composition: cmp.Or(e.Composition, head.Composition), record: raw, at: e.At.UnixMilli(), number: e.Sequence, position: position}, err
}

// errEnded says that the log has nothing more to tell, for the reason that Follow returned.
var errEnded = errors.New("the log has ended")

// post makes waves of items and posts them until there is trouble.
func (s *stream) post(ctx context.Context, items <-chan item) (err error) {
	kept, unkept := s.p.c.Clock.Now(), false
	defer func() {
		if unkept {
			err = errors.Join(err, s.keep())
		}
	}()
	for {
		wave, end, err := s.gather(ctx, items)
		if err != nil {
			return err
		}
		if len(wave) == 0 { // events of others
			s.now.From = end
			if now := s.p.c.Clock.Now(); now.Sub(kept) > markTime {
				kept = now
				if err := s.keep(); err != nil {
					return err
				}
			}
			continue
		}
		s.oldest.Store(wave[0].at)
		if s.now.Until == "" {
			s.now.Until, s.now.Statuses = end, s.hook.Statuses
			if err := s.keep(); err != nil {
				return err
			}
			unkept = false
		}
		if err := s.deliver(ctx, wave); err != nil {
			return err
		}
		// With a full batch at hand, what is kept before that one says that this one is done.
		if unkept = s.atHand(items) >= maxBatch; !unkept {
			if err := s.keep(); err != nil {
				return err
			}
		}
		s.oldest.Store(0)
	}
}

// id names a post: the same after a restart, and unlike any other's.
func (s *stream) id(m *message) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d %d", s.p.c.Node, s.name, s.now.From, s.now.Born, m.Sequence))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// sleep waits until product time has come or ctx ends. It takes the very context that its caller asks afterwards: one that
// is made of another ends a moment after that.
func (s *stream) sleep(ctx context.Context, until time.Time) {
	woken := make(chan struct{})
	t := s.p.c.Clock.At(until, func() { close(woken) })
	defer t.Stop()
	select {
	case <-woken:
	case <-ctx.Done():
	}
}
