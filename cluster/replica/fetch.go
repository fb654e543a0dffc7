package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Dialer opens connections to members, under Protocol.
type Dialer interface {
	Dial(ctx context.Context, member string) (net.Conn, error)
}

// Remote asks another standby for what it has of a lineage.
type Remote struct {
	Dialer  Dialer
	Member  string
	Cluster string
	Lineage mail.Lineage
	// Epoch is the new owner's. Records raises the standby's fence to it.
	Epoch uint64
}

// open greets the standby and returns its answer.
func (r *Remote) open(ctx context.Context, p purpose, of int) (net.Conn, *blockReader, State, error) {
	conn, err := r.Dialer.Dial(ctx, r.Member)
	if err != nil {
		return nil, nil, State{}, err
	}
	h := hello{purpose: p, cluster: r.Cluster, lineage: r.Lineage, epoch: r.Epoch, next: uint64(of)}
	in, st, err := greet(conn, &h)
	if err != nil {
		_ = conn.Close()
		return nil, nil, State{}, fmt.Errorf("ask %s for lineage %08x: %w", r.Member, uint32(r.Lineage), err)
	}
	return conn, in, st, nil
}

// greet sends a greeting and reads the state that answers it.
func greet(conn net.Conn, h *hello) (*blockReader, State, error) {
	_ = conn.SetDeadline(clock.Wall().Add(greetingWait))
	if _, err := conn.Write(h.encode(nil)); err != nil {
		return nil, State{}, err
	}
	in := newBlockReader(conn, maxAnswer)
	b, err := in.next()
	if err != nil {
		return nil, State{}, err
	}
	if b.kind == kindRefused {
		return nil, State{}, &RefusedError{Epoch: b.epoch, Why: string(b.payload)}
	}
	st, err := parseState(&b)
	if err != nil {
		return nil, State{}, err
	}
	return in, st, conn.SetDeadline(time.Time{})
}

// State asks what the standby has, and changes nothing there.
func (r *Remote) State(ctx context.Context) (State, error) {
	conn, _, st, err := r.open(ctx, forState, 0)
	if err != nil {
		return State{}, err
	}
	return st, conn.Close()
}

// Records fences the standby and reads a generation of what it has, see Store.Records.
func (r *Remote) Records(ctx context.Context, of int, live func(key, value []byte) error, dead func(key []byte) error) error {
	conn, in, _, err := r.open(ctx, forFetching, of)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in.limit = MaxPayload
	for n := uint64(0); ; n++ {
		b, err := in.next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return fmt.Errorf("read lineage %08x from %s: %w", uint32(r.Lineage), r.Member, io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("read lineage %08x from %s: %w", uint32(r.Lineage), r.Member, err)
		case b.kind == kindEnd && b.number == n:
			return nil
		case b.kind != kindRecords || b.number != n+1:
			return fmt.Errorf("%w: kind %d, number %d after %d", ErrMalformed, b.kind, b.number, n)
		}
		for p := b.payload; len(p) > 0; {
			var op Op
			if op, p, err = cutOp(p); err != nil {
				return err
			}
			switch {
			case !op.Delete:
				err = live(op.Key, op.Value)
			case dead != nil:
				err = dead(op.Key)
			}
			if err != nil {
				return err
			}
		}
	}
}

// Fence makes the standby refuse the epochs below, and tells what it has for good then.
func (r *Remote) Fence(ctx context.Context) (State, error) {
	conn, _, st, err := r.open(ctx, forFencing, 0)
	if err != nil {
		return State{}, err
	}
	return st, conn.Close()
}

// Local is this member's own part of a takeover at an epoch.
func (s *Store) Local(id mail.Lineage, epoch uint64) Source { return local{s, id, epoch} }

type local struct {
	s     *Store
	id    mail.Lineage
	epoch uint64
}

func (l local) Fence(context.Context) (State, error) {
	err := l.s.Fence(l.id, l.epoch)
	return l.s.State(l.id), err
}

func (l local) Records(_ context.Context, of int, live func(key, value []byte) error, dead func(key []byte) error) error {
	err := l.s.Records(l.id, of, live, dead)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// Source is a standby seen by the one that takes over: its own Store.Local, or a Remote.
type Source interface {
	Fence(ctx context.Context) (State, error)
	Records(ctx context.Context, of int, live func(key, value []byte) error, dead func(key []byte) error) error
}

// Union fences all sources and gives every record of a lineage that lives in their union: the generation, whoever has it,
// that got the furthest has the last word on a key, and one that is full ends the search, so that nothing which it saw
// deleted comes back from an older one. A record may come twice, where its standby moves it just then. Find out first who
// can be reached (Remote.State) and decide whether that is enough. An error of each, or of a source, ends the union; it may
// be begun anew.
//
// It remembers a digest of each key while more than one generation is read: about 40 octets per key.
func Union(ctx context.Context, sources []Source, each func(key, value []byte) error) error {
	type ranked struct {
		Source
		of int
		Generation
	}
	var order []ranked
	for _, src := range sources {
		st, err := src.Fence(ctx)
		if err != nil {
			return err
		}
		if st.Run == 0 {
			continue
		}
		order = append(order, ranked{src, 0, Generation{st.High, st.Full}})
		for i, g := range st.Older {
			order = append(order, ranked{src, i + 1, g})
		}
	}
	slices.SortStableFunc(order, func(a, b ranked) int {
		switch {
		case a.High != b.High:
			return cmp.Compare(b.High, a.High)
		case a.Full != b.Full && a.Full:
			return -1
		case a.Full != b.Full:
			return 1
		}
		return 0
	})
	names, seen := newDigester(), map[digest]struct{}{}
	for i, src := range order {
		last := src.Full || i == len(order)-1
		dead := func(key []byte) error {
			seen[names.of(key)] = struct{}{}
			return nil
		}
		if last { // nobody asks for it any more, and it costs as much to read as what lives
			dead = nil
		}
		err := src.Records(ctx, src.of, func(key, value []byte) error {
			if last && len(seen) == 0 {
				return each(key, value)
			}
			d := names.of(key)
			if _, ok := seen[d]; ok {
				return nil
			}
			if !last {
				seen[d] = struct{}{}
			}
			return each(key, value)
		}, dead)
		if err != nil || src.Full {
			return err
		}
	}
	return nil
}
