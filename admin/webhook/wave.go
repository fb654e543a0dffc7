package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A wave is what is posted at once: one batch, or, where the log is ahead of the receiver, several full ones. All posts
// of a wave are taken before the next one begins, and one that is not taken is tried again by itself, before those that
// had not begun: so a receiver in trouble hears little, and hears things in their order. The window doubles with each wave
// that is taken at once, and starts anew with one post after trouble.

// gather waits for a wave: 100 events, or what comes within a second of the first, and then as many full batches as are
// at hand within the window; or exactly what was being posted when the last attempt ended. No events are a position only.
func (s *stream) gather(ctx context.Context, items <-chan item) (wave []item, end string, err error) {
	if s.now.Until != "" {
		return s.replay(ctx, items)
	}
	var full <-chan time.Time
	for len(wave) < maxBatch {
		it, err := s.next(ctx, items, full)
		switch {
		case errors.Is(err, errTime):
			return wave, end, nil
		case err != nil:
			return nil, "", err
		case it.record == nil && len(wave) == 0:
			return nil, it.position, nil
		case it.record == nil:
			continue // the position of the last event says as much
		}
		wave, end = append(wave, it), it.position
		if full == nil {
			timer := time.NewTimer(batchTime)
			defer timer.Stop()
			full = timer.C
		}
	}
	for len(wave) < s.window*maxBatch && s.atHand(items) >= maxBatch {
		batch := s.batch(ctx, items)
		if len(batch) < maxBatch {
			s.held = append(batch, s.held...)
			break
		}
		wave, end = append(wave, batch...), batch[maxBatch-1].position
	}
	return wave, end, nil
}

// errTime says that a batch waits no longer.
var errTime = errors.New("a batch is due")

// next is the next item; errTime where full comes first.
func (s *stream) next(ctx context.Context, items <-chan item, full <-chan time.Time) (item, error) {
	if len(s.held) > 0 {
		it := s.held[0]
		s.held = s.held[1:]
		return it, nil
	}
	select {
	case it, ok := <-items:
		if !ok {
			return item{}, errEnded
		}
		return it, nil
	case <-full:
		return item{}, errTime
	case <-ctx.Done():
		return item{}, ctx.Err()
	}
}

// atHand is how many items need no waiting for.
func (s *stream) atHand(items <-chan item) int { return len(s.held) + len(items) }

// batch takes a batch of what is at hand, which is less where there are positions in it.
func (s *stream) batch(ctx context.Context, items <-chan item) (batch []item) {
	for left := s.atHand(items); left > 0 && len(batch) < maxBatch; left-- {
		it, err := s.next(ctx, items, nil)
		if err != nil {
			break // whoever waits for the next item hears it as well
		}
		if it.record != nil {
			batch = append(batch, it)
		}
	}
	return batch
}

// replay reads the wave that was being posted when the last attempt ended.
func (s *stream) replay(ctx context.Context, items <-chan item) (wave []item, end string, err error) {
	end = s.now.Until // which skipPurged takes away
	for {
		it, err := s.next(ctx, items, nil)
		if err != nil {
			return nil, "", err
		}
		if it.position > end { // its last events were purged
			s.held = append([]item{it}, s.held...)
			return wave, end, s.skipPurged(wave)
		}
		if it.record != nil {
			wave = append(wave, it)
		}
		if it.position == end {
			return wave, end, s.skipPurged(wave)
		}
	}
}

// skipPurged closes a wave of which nothing is left in the log.
func (s *stream) skipPurged(wave []item) error {
	if len(wave) > 0 {
		return nil
	}
	s.now = progress{From: s.now.Until, Sequence: s.now.Sequence, Born: s.now.Born}
	return s.keep()
}

// posts cuts a wave into batches, and each of these into one post for each composition in it.
func (s *stream) posts(wave []item) (out []*message) {
	for batch := range slices.Chunk(wave, maxBatch) {
		first := len(out)
		for _, it := range batch {
			i := slices.IndexFunc(out[first:], func(m *message) bool { return m.Composition == it.composition })
			if i < 0 {
				i = len(out) - first
				out = append(out, &message{Type: s.hook.Type, Sequence: s.now.Sequence + uint64(len(out)) + 1, Node: s.p.c.Node,
					Composition: it.composition, APIKey: s.hook.APIKey, First: it.number, Events: []json.RawMessage{}})
			}
			m := out[first+i]
			m.Events, m.Last, m.Cursor = append(m.Events, it.record), it.number, s.p.c.Node+"@"+it.position
		}
	}
	return out
}

// deliver posts a wave until all of it is taken or given up.
func (s *stream) deliver(ctx context.Context, wave []item) error {
	posts := s.posts(wave)
	failures := s.burst(ctx, posts)
	trouble := false
	for i := range posts {
		if slices.Contains(s.now.Taken, i) {
			continue
		}
		s.window = 1
		if err := s.keep(); err != nil {
			return err
		}
		if err := s.insist(ctx, posts[i], failures[i], trouble); err != nil {
			return err
		}
		s.now.Taken, trouble = append(s.now.Taken, i), true
	}
	s.now = progress{From: s.now.Until, Sequence: s.now.Sequence + uint64(len(posts)), Born: s.now.Born}
	return nil
}

// burst says every post once, a window of them at a time, until one is not taken, and notes which were. It returns what
// went wrong with each; posts that were not begun have no failure.
func (s *stream) burst(ctx context.Context, posts []*message) []error {
	failures, taken := make([]error, len(posts)), make([]bool, len(posts))
	said, cancel := s.said(ctx)
	defer cancel()
	var next atomic.Int64
	var trouble atomic.Bool
	var all sync.WaitGroup
	for range min(s.window, len(posts)) {
		all.Go(func() {
			for !trouble.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				switch {
				case i >= len(posts):
					return
				case slices.Contains(s.now.Taken, i):
					continue
				}
				if failures[i] = s.try(said, posts[i]); failures[i] != nil {
					trouble.Store(true)
				} else {
					taken[i] = true
				}
			}
		})
	}
	all.Wait()
	for i, ok := range taken {
		if ok {
			s.now.Taken = append(s.now.Taken, i)
		}
	}
	s.window = min(2*s.window, maxWindow)
	return failures
}

// said outlives the end of ctx a little: the answer to a post that is on its way must be known.
func (s *stream) said(ctx context.Context) (context.Context, context.CancelFunc) {
	said, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return said, func() { stop(); cancel() }
}

// try says a post once.
func (s *stream) try(ctx context.Context, m *message) error {
	err := s.p.client.post(ctx, &s.hook, s.id(m), m)
	if err == nil {
		s.p.c.Posted(ResultPosted, len(m.Events))
	}
	return err
}

// insist posts m until the receiver takes it. failure is what went wrong with a first try, nil where there was none; over
// tells that the receiver has taken another post since then, so that m need not wait. A receiver that cannot be reached
// is waited for as long as the log keeps the events; one that refuses this very post six times does not get it
// (requirement B7.1).
func (s *stream) insist(ctx context.Context, m *message, failure error, over bool) error {
	said, cancel := s.said(ctx)
	defer cancel()
	pause, refusals := time.Minute, 0
	for {
		if failure == nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if failure = s.try(said, m); failure == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.p.c.Posted(ResultFailed, len(m.Events))
		log := s.p.c.Log.With("tenant", s.hook.Tenant, "type", m.Type, "sequence", m.Sequence, "events", len(m.Events), "error", failure)
		if refused := (*refusedError)(nil); errors.As(failure, &refused) {
			refusals++
		}
		if refusals >= maxTries {
			s.p.c.Posted(ResultDropped, len(m.Events))
			log.Error("a webhook's receiver refuses a post; it is dropped")
			return nil
		}
		if failure = nil; over {
			over = false
			continue
		}
		log.Warn("a webhook's receiver does not take a post", "again_in", pause)
		s.sleep(ctx, s.p.c.Clock.Now().Add(pause))
		pause = min(2*pause, maxPause)
	}
}
