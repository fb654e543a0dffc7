package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// ListReplyRules returns the rules about answers and the receivers' rows, with their hits.
func (h *handler) ListReplyRules(ctx context.Context, _ *adminpb.ListReplyRulesRequest) (*adminpb.ListReplyRulesResponse, error) {
	if h.s.Replies == nil {
		return nil, notYet("ListReplyRules", "a later release")
	}
	list, err := h.s.Replies.ReplyRules(ctx)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListReplyRulesResponse{Missing: missing}
	for _, one := range list {
		p := &adminpb.ReplyRule{Rule: one.Rule, Receivers: one.Receivers, Own: one.Own, Class: uint32(one.Status), Scope: one.Scope.String(),
			Action: one.Action.String(), Then: one.Then, Source: clean(one.Source), Date: one.Date, Hits: one.Hits}
		if one.For > 0 {
			p.For = durationpb.New(one.For)
		}
		r.Rules = append(r.Rules, p)
	}
	return r, h.rows(ctx, r)
}

// rows completes the answer by the receivers.
func (h *handler) rows(ctx context.Context, r *adminpb.ListReplyRulesResponse) error {
	list, err := h.s.Replies.ReceiverRows(ctx)
	missing, err := absent(err)
	if err != nil {
		return err
	}
	if r.Missing == nil {
		r.Missing = missing
	}
	for _, one := range list {
		r.Receivers = append(r.Receivers, &adminpb.ReceiverRow{Name: clean(one.Name), Matches: one.Matches, Own: one.Own, Limits: one.Limits,
			Source: clean(one.Source), Date: one.Date, Hits: one.Hits})
	}
	return nil
}

// ReplyRuleOf reads a rule about answers.
func ReplyRuleOf(p *adminpb.ReplyRule) service.ReplyRule {
	return service.ReplyRule{Rule: p.Rule, Receivers: p.Receivers, Own: p.Own, Status: mail.Status(p.Class), Scope: scopeOf(p.Scope),
		Action: actionOf(p.Action), For: p.For.AsDuration(), Then: p.Then, Source: p.Source, Date: p.Date, Hits: p.Hits}
}

func scopeOf(name string) mail.Scope {
	for s := mail.ScopeRecipient; s <= mail.ScopeGroup; s++ {
		if s.String() == name {
			return s
		}
	}
	return mail.ScopeRecipient
}

func actionOf(name string) mail.Action {
	for a := mail.ActNone; a <= mail.ActSameSource; a++ {
		if a.String() == name {
			return a
		}
	}
	return mail.ActNone
}
