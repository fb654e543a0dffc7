// Package intake makes work of what was accepted: it reads and removes the steering headers, writes the Received
// header, splits a message by recipient, stores it, and offers the deliveries to their destinations.
//
// It never changes an octet of a message besides those headers, the link to leave a list and an mbox file's "From " line, and never waits for anything but the store. Read
// Submit, then build.go (what a message becomes), received.go (the header that is added) and link.go.
package intake

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/mail/unsubscribe"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/compliance"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// Store keeps what was accepted.
type Store interface {
	// Allot returns the first of n consecutive numbers that no other message has.
	Allot(n int) mail.Seq
	// Lineage names the queue that the numbers belong to.
	Lineage() mail.Lineage
	// Put stores a; done is called from another goroutine once it is durable or has failed. An error with a method
	// DuplicateOf() mail.MessageID says that a's key was used already by the message it returns.
	Put(a *mail.Accepted, done func(error))
}

// Config is what an Intake needs.
type Config struct {
	Store    Store
	Settings func() *settings.Index          // the settings in force; called once per message
	Stopped  func(tenant, group string) bool // whether a delivery group takes no mail at the moment; nil = all do
	// Suppressed tells why an address gets no mail of a tenant, or of one of its lists ("" = of none); nil = every address
	// does. It is asked once per recipient.
	Suppressed func(tenant, list string, to mail.Address) (mail.Suppression, bool)
	Key        unsubscribe.Key // of links to leave lists; nil = no message gets one
	// Standing tells what the DNS holds against a message's sender, for a tenant that asks; nil = nothing. It fills in what
	// the message does not tell: addresses it leaves by, what they are called, a rewritten envelope. It must not block.
	Standing func(*settings.Member, alignment.Identity) []alignment.Finding
	// Faulty hears of each fault that was found in a message or its sender, and whether it was refused; nil = nobody.
	Faulty   func(rule string, refused bool)
	Offer    func([]mail.Job) // takes committed deliveries, whenever they are due; must not block
	Hostname string           // of this node, for Received
	Clock    *clock.Clock     // product time; nil = the machine's
	Log      *slog.Logger     // nil = none
}

// Validate reports what is missing.
func (c *Config) Validate() error {
	if c.Store == nil || c.Settings == nil || c.Offer == nil || c.Hostname == "" {
		return errors.New("intake needs a store, settings, somewhere to offer deliveries, and a host name")
	}
	return nil
}

// Intake takes submissions. Safe for concurrent use; it holds no state between messages, but for Message-IDs of lately.
type Intake struct {
	Config
	waiters sync.Pool // of *waiter
	repeats repeats
}

// New returns an Intake that works until its store closes.
func New(c Config) (*Intake, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = &clock.Clock{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	in := &Intake{Config: c}
	in.Hostname = cleanName(c.Hostname)
	in.repeats.of = compliance.NewRepeats(maphash.MakeSeed())
	in.waiters.New = func() any {
		w := &waiter{result: make(chan result, 1)}
		w.done = func(id mail.MessageID, err error) { w.result <- result{id, err} }
		return w
	}
	return in, nil
}

// waiter carries one answer from the store's goroutine to Submit's.
type waiter struct {
	result chan result
	done   func(mail.MessageID, error)
}

type result struct {
	id  mail.MessageID
	err error
}

// Submit stores s and returns its id once it is durable: then, and only then, may the client be told 250. A context
// that ends beforehand is heeded until the store has the message; from then on the store's answer is waited for,
// because a client that is told otherwise would send it again.
func (in *Intake) Submit(ctx context.Context, s *mail.Submission) (mail.MessageID, error) {
	w := in.waiters.Get().(*waiter)
	in.SubmitAsync(ctx, s, w.done)
	r := <-w.result
	in.waiters.Put(w)
	return r.id, r.err
}

// SubmitAsync is Submit that answers by calling done, once: at once when s is refused, else from the store's
// goroutine, where done must not block. s may be reused when SubmitAsync returns.
func (in *Intake) SubmitAsync(ctx context.Context, s *mail.Submission, done func(mail.MessageID, error)) {
	if err := ctx.Err(); err != nil {
		done(mail.MessageID{}, fmt.Errorf("take message: %w", err))
		return
	}
	w, err := in.build(s)
	if err != nil {
		done(mail.MessageID{}, err)
		return
	}
	w.in, w.answer = in, done
	in.Store.Put(&w.accepted, w.stored)
}

// work is one message between building and commit: everything of it in one allocation where it has one recipient.
type work struct {
	in       *Intake
	answer   func(mail.MessageID, error)
	accepted mail.Accepted

	oneDelivery [1]mail.Delivery
	oneEvent    [1]mail.Event
	oneJob      [1]mail.Job
}

// stored is called by the store.
func (w *work) stored(err error) {
	if err != nil {
		var twin interface{ DuplicateOf() mail.MessageID }
		if errors.As(err, &twin) {
			w.answer(twin.DuplicateOf(), nil) // accepted before, delivered once
			return
		}
		w.answer(mail.MessageID{}, fmt.Errorf("store message: %w", err))
		return
	}
	a := &w.accepted
	if n := len(a.Deliveries); n > 0 {
		jobs := w.oneJob[:0]
		if n > 1 {
			jobs = make([]mail.Job, 0, n)
		}
		for i := range a.Deliveries {
			jobs = append(jobs, mail.Job{Delivery: a.Deliveries[i], Body: a.Body})
		}
		w.in.Offer(jobs)
	}
	w.answer(a.ID, nil) // now, so that whoever is told finds his mail in the queue
}

// Refusal is a message that is not taken because of what it is; no retry helps where the reply is permanent.
type Refusal struct{ reply smtp.Reply }

func (r *Refusal) Error() string { return "message refused: " + r.reply.String() }

// SMTPReply is what to tell the client.
func (r *Refusal) SMTPReply() smtp.Reply { return r.reply }

func refuse(code int, e smtp.EnhancedCode, text string) error {
	return &Refusal{smtp.Reply{Code: code, Enhanced: e, Text: text}}
}
