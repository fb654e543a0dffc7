package events

import (
	"context"

	"github.com/ekiden-mta/ekiden/mail"
)

// Follow calls f for every event from the cursor on, first what is stored, then what is committed, in the order of
// commits and each with the position behind it, until f returns false, ctx ends or the log is closed. Nothing is left
// out: a follower slower than the log reads the blocks it missed from disk, and keeps nobody waiting.
func (l *Log) Follow(ctx context.Context, from Cursor, f func(mail.Event, Cursor) bool) error {
	l.mu.Lock()
	l.followers++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		if l.followers--; l.followers == 0 {
			l.recent = [recentBlocks]recentBlock{}
		}
		l.mu.Unlock()
	}()
	for {
		l.mu.Lock()
		last, wake := l.last, l.wake
		raw, at, inMemory := l.held(from)
		l.mu.Unlock()
		switch {
		case from.Block > last.Block:
			select {
			case <-wake:
			case <-ctx.Done():
				return ctx.Err()
			case <-l.closed:
				return ErrClosed
			}
		case inMemory:
			more := true
			err := Decode(raw, func(i uint32, e *mail.Event) bool {
				if i >= from.Index {
					more = f(*e, Cursor{Day: at.Day, Block: at.Block, Index: i + 1})
				}
				return more
			})
			if err != nil {
				l.skip(at, err)
			}
			if !more {
				return nil
			}
			from = at.Next()
		default:
			more := true
			err := l.Search(ctx, Query{After: from}, func(e mail.Event, at Cursor) bool {
				from = at
				more = f(e, at)
				return more
			})
			if err != nil || !more {
				return err
			}
			// Everything committed before the search began has been handed out.
			from = Cursor{Day: max(from.Day, last.Day), Block: max(from.Block, last.Block) + 1}
		}
	}
}

// held returns the block from stands in if it is kept in memory.
func (l *Log) held(from Cursor) (raw string, at Cursor, ok bool) {
	r := &l.recent[from.Block%recentBlocks]
	if r.raw == "" || r.at.Block != from.Block {
		return "", Cursor{}, false
	}
	return r.raw, r.at, true
}
