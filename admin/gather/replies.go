package gather

import (
	"context"
	"slices"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type replies struct{ *gatherer }

// ReplyRules adds up hits: all members have the same rules, or will in a moment.
func (g replies) ReplyRules(ctx context.Context) ([]service.ReplyRule, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.ListReplyRulesResponse, error) {
		return c.ListReplyRules(ctx, &adminpb.ListReplyRulesRequest{})
	})
	own, err := g.Local.Replies.ReplyRules(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	place := make(map[string]int, len(out))
	for i := range out {
		place[out[i].Rule] = i
	}
	for _, a := range answers {
		for _, p := range a.value.Rules {
			if i, known := place[p.Rule]; known {
				out[i].Hits += rpc.ReplyRuleOf(p).Hits
			}
		}
	}
	return out, partial(missing)
}

// ReceiverRows adds up hits in the same way.
func (g replies) ReceiverRows(ctx context.Context) ([]service.ReceiverRow, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.ListReplyRulesResponse, error) {
		return c.ListReplyRules(ctx, &adminpb.ListReplyRulesRequest{})
	})
	own, err := g.Local.Replies.ReceiverRows(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for _, a := range answers {
		for _, p := range a.value.Receivers {
			if i := slices.IndexFunc(out, func(r service.ReceiverRow) bool { return r.Name == p.Name }); i >= 0 {
				out[i].Hits += p.Hits
			}
		}
	}
	return out, partial(missing)
}
