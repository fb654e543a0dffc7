package node

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ekiden-mta/ekiden/actors/intake"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// doorkeeper implements smtpd.Gate: the one answer to "does this node take mail now", kept where asking costs a load.
type doorkeeper struct {
	closed atomic.Pointer[smtp.Reply]
	holds  func() bool // whether the lease of the queue lasts: asked each time, for it ends by itself
}

// Ready implements smtpd.Gate.
func (k *doorkeeper) Ready() (bool, smtp.Reply) {
	if r := k.closed.Load(); r != nil {
		return false, *r
	}
	if !k.holds() {
		return false, replyNoLease
	}
	return true, smtp.Reply{}
}

func (k *doorkeeper) shut(r smtp.Reply) { k.closed.Store(&r) }
func (k *doorkeeper) open()             { k.closed.Store(nil) }

// The replies of a node that takes no mail. Those with 421 end the connection, so that a balancer moves on.
var (
	replySealed   = smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 2}, Text: "sealed: waiting for its keys, try another host or later"}
	replyDraining = smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 2}, Text: "going down for maintenance, try another host or later"}
	replyFailed   = smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 0}, Text: "storage trouble, try another host or later"}
	replyNoLease  = smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 2}, Text: "no agreement with the other nodes at the moment, try another host or later"}
	replyShort    = smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 0}, Text: "too few copies of the message could be made, try again later"}
	replyUnsure   = smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 0}, Text: "not every node could tell whether it has this message already, try again later"}
	replyFull     = smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 1}, Text: "short of disk space, try again later"}
)

// submitter implements smtpd.Submitter over the engine, which exists only while the node is unsealed: mail goes to its
// intake, what comes to the bounce listener is read.
type submitter struct{ node *Node }

// Submit implements smtpd.Submitter.
func (s submitter) Submit(ctx context.Context, m *mail.Submission) (mail.MessageID, error) {
	e := s.node.engine.Load()
	if e == nil {
		return mail.MessageID{}, &smtpd.Refusal{Reply: replySealed}
	}
	if m.Inbound {
		return s.node.receive(ctx, e, m)
	}
	id, err := e.intake.Submit(ctx, m)
	return id, told(err)
}

// SubmitAsync implements smtpd.Submitter for what does not come to the bounce listener.
func (s submitter) SubmitAsync(ctx context.Context, m *mail.Submission, done func(mail.MessageID, error)) {
	e := s.node.engine.Load()
	if e == nil {
		done(mail.MessageID{}, &smtpd.Refusal{Reply: replySealed})
		return
	}
	e.intake.SubmitAsync(ctx, m, func(id mail.MessageID, err error) { done(id, told(err)) })
}

// Crowded implements smtpd.Submitter.
func (s submitter) Crowded() bool {
	e := s.node.engine.Load()
	return e != nil && e.store.Crowded()
}

// told turns what intake and store refuse into what the client should hear.
func told(err error) error {
	if err == nil {
		return nil
	}
	var refused *intake.Refusal
	if errors.As(err, &refused) {
		return &smtpd.Refusal{Reply: refused.SMTPReply()}
	}
	switch {
	case errors.Is(err, queue.ErrDiskFull):
		return &smtpd.Refusal{Reply: replyFull}
	case errors.Is(err, errNoLease):
		return &smtpd.Refusal{Reply: replyNoLease}
	case errors.Is(err, errKeyUnsure):
		return &smtpd.Refusal{Reply: replyUnsure}
	case errors.Is(err, queue.ErrShort):
		return &smtpd.Refusal{Reply: replyShort}
	case errors.Is(err, queue.ErrFailed):
		return &smtpd.Refusal{Reply: replyFailed}
	case errors.Is(err, queue.ErrClosed):
		return &smtpd.Refusal{Reply: replyDraining}
	}
	return err
}
