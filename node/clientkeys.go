package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// A client that repeats a message under its idempotency key, at whichever member, hears the id of the first and no second
// mail goes out (requirement N10, docs/adr/0018). Each store knows the keys of its own queue, in the commit of the message.
// Before a member stores a message with a key it asks the others that have a queue, and they ask it: who asks notes the key
// first, and who is asked for a key that is noted answers so. Of two members that ask each other at least one hears of the
// other, so no two store.

const (
	pathKey     = "/member/key"
	maxKeyCall  = 4 << 10          // octets of a question or an answer; a key has 161 at most
	keyTry      = 2 * time.Second  // one question
	keyPatience = 10 * time.Minute // a member that nobody saw for longer is not waited for
)

// errKeyUnsure: another member stores a message under this key right now, or may have stored one and cannot be asked.
var errKeyUnsure = errors.New("it is not known whether another member has the message")

// clientKey is an idempotency key of a tenant.
type clientKey struct{ Tenant, Key string }

// keyAnswer is what a member says of a key: that it named a message, or that it is being asked for there.
type keyAnswer struct {
	Message string `json:",omitempty"`
	Busy    bool   `json:",omitempty"`
}

// clientKeys is this member's part in it. Safe for concurrent use.
type clientKeys struct {
	member *member
	mu     sync.Mutex
	asked  map[clientKey]int // submissions under way
}

func newClientKeys(m *member) *clientKeys {
	return &clientKeys{member: m, asked: map[clientKey]int{}}
}

// keysOfClients is what messages with a key are looked up in, nil alone.
func (n *Node) keysOfClients() *clientKeys {
	if m := n.member.Load(); m != nil {
		return m.keysOf
	}
	return nil
}

func (k *clientKeys) note(key clientKey, d int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked[key] += d; k.asked[key] == 0 {
		delete(k.asked, key)
	}
}

func (k *clientKeys) noted(key clientKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[key] > 0
}

// put stores a where no other member has a message of its key. It waits for their answers.
func (k *clientKeys) put(a *mail.Accepted, s intakeStore, done func(error)) {
	key := clientKey{a.Tenant, a.Key}
	k.note(key, 1)
	twin, err := k.ask(context.Background(), key, s.Store)
	if err == nil && !twin.IsZero() {
		err = &queue.DuplicateError{ID: twin}
	}
	if err == nil && !s.holds() {
		err = errNoLease
	}
	if err != nil {
		k.note(key, -1)
		done(err)
		return
	}
	s.put(a, func(err error) {
		k.note(key, -1) // not before: until then only the note tells of the message
		done(err)
	})
}

// ask returns the message that another member has under the key; zero where none has. A key that the own store knows needs
// no question: the store tells of it.
func (k *clientKeys) ask(ctx context.Context, key clientKey, own *queue.Store) (twin mail.MessageID, err error) {
	if _, known, err := own.KeyOf(key.Tenant, key.Key); err != nil || known {
		return twin, err
	}
	owners, err := k.owners(own.Lineage())
	if err != nil {
		return twin, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyTry)
	defer cancel()
	answers := make([]keyAnswer, len(owners))
	failed := make([]error, len(owners))
	var asking sync.WaitGroup
	for i, name := range owners {
		asking.Go(func() {
			failed[i] = k.member.peers.call(ctx, http.MethodPost, name, pathKey, key, maxKeyCall, &answers[i])
		})
	}
	asking.Wait()
	for i, a := range answers {
		switch {
		case failed[i] != nil:
			if k.gone(owners[i]) {
				continue
			}
			return twin, fmt.Errorf("%w: %w", errKeyUnsure, failed[i])
		case a.Message != "":
			if twin, err = mail.ParseMessageID(a.Message); err != nil {
				return twin, fmt.Errorf("%w: %s: %w", errKeyUnsure, owners[i], err)
			}
			return twin, nil
		case a.Busy:
			err = fmt.Errorf("%w: %s is asked for it, too", errKeyUnsure, owners[i])
		}
	}
	return twin, err
}

// owners are the other members that have a queue, own is this one's. While a queue is being taken over, or is about to be
// because this member lost it with its disk, nobody can tell which keys it knew.
func (k *clientKeys) owners(own mail.Lineage) (names []string, err error) {
	seen := map[string]bool{}
	for _, l := range k.member.book.State().Lineages() {
		switch {
		case l.Lineage == own || l.Phase == ledger.Closed:
		case l.Phase == ledger.Taken:
			return nil, fmt.Errorf("%w: the queue %08x is being taken over", errKeyUnsure, uint32(l.Lineage))
		case l.Owner == k.member.node.cfg.Node.Name:
			if k.member.sinceRenewed(l) < keyPatience {
				return nil, fmt.Errorf("%w: nobody has the queue %08x yet", errKeyUnsure, uint32(l.Lineage))
			}
		case !seen[l.Owner]:
			seen[l.Owner] = true
			names = append(names, l.Owner)
		}
	}
	return names, nil
}

// gone tells whether a member that does not answer is not waited for any more: nobody saw it for long, and nobody could
// take its queue over, or it would have none.
func (k *clientKeys) gone(name string) bool {
	return clock.Since(k.member.heardOf(name)) > keyPatience
}

// serve answers the other members.
func (k *clientKeys) serve(mux *http.ServeMux) {
	answer(mux, http.MethodPost, pathKey, maxKeyCall, func(_ context.Context, key clientKey) (keyAnswer, error) {
		return k.tell(key)
	})
}

// tell says what is known of a key here. What is noted is looked at first: a message that is noted later finds the note of
// the one who asks.
func (k *clientKeys) tell(key clientKey) (keyAnswer, error) {
	if k.noted(key) {
		return keyAnswer{Busy: true}, nil
	}
	e, err := k.member.node.running()
	if err != nil {
		return keyAnswer{}, err
	}
	if _, err := k.owners(e.store.Lineage()); err != nil { // who asks may not know it yet
		return keyAnswer{}, err
	}
	id, known, err := e.store.KeyOf(key.Tenant, key.Key)
	if err != nil || !known {
		return keyAnswer{}, err
	}
	return keyAnswer{Message: id.String()}, nil
}
