package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/webhook"
	"github.com/ekiden-mta/ekiden/delivery"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// assembleHooks builds what posts the events of this node outward. It dials by the rules that mail is dialled by.
func (n *Node) assembleHooks(e *engine) *webhook.Poster {
	return webhook.New(webhook.Config{Node: n.cfg.Node.Name, Version: n.version, Events: hookLog{e.store.Events()},
		Memory: hookMemory{e}, Allowed: delivery.NewGuard(n.cfg.Delivery.AllowPrivate, nil).Check,
		Plain: n.cfg.Delivery.AllowPrivate, Clock: n.clock, Log: n.log,
		Posted: func(result string, events int) {
			n.metrics.WebhookPosts.With(result).Inc()
			n.metrics.WebhookEvents.With(result).Add(events)
		}})
}

// hooks lists where the settings in force want events posted.
func (n *Node) hooks() (out []webhook.Hook) {
	s := n.book.now.Load().index.Settings
	out = hooksOf("", s.Alarms.Webhooks)
	for i := range s.Tenants {
		out = append(out, hooksOf(s.Tenants[i].Name, s.Tenants[i].Webhooks)...)
	}
	return out
}

// hooksOf are those of one tenant; "" = of alarms.
func hooksOf(tenant string, list []settings.Webhook) (out []webhook.Hook) {
	for _, w := range list {
		for _, kind := range w.Events {
			out = append(out, webhook.Hook{Tenant: tenant, URL: w.URL, Type: kind, Form: w.Format == "form", Secret: w.Secret,
				Second: w.SecondSecret, Published: w.Version == 1, APIKey: w.APIKey, Bearer: w.Bearer, Statuses: strings.Join(w.Statuses, ","), Zone: w.Zone})
		}
	}
	return out
}

// hookLog is the event log as webhooks read it.
type hookLog struct{ log *events.Log }

// Follow implements webhook.Log.
func (l hookLog) Follow(ctx context.Context, after string, f func(*mail.Event, string) bool) error {
	from, err := events.ParseCursor(after)
	if err != nil {
		return fmt.Errorf("node: position of a webhook: %w", err)
	}
	return l.log.Follow(ctx, from, func(e mail.Event, at events.Cursor) bool { return f(&e, at.String()) })
}

// End implements webhook.Log.
func (l hookLog) End() string {
	end := l.log.End()
	if end == (events.Cursor{}) {
		return ""
	}
	return end.Next().String()
}

// Acceptance implements webhook.Log.
func (l hookLog) Acceptance(ctx context.Context, m mail.MessageID) (found mail.Event, err error) {
	err = l.log.Search(ctx, events.Query{Message: m, Kinds: []mail.EventKind{mail.EventAccepted}, Limit: 1},
		func(e mail.Event, _ events.Cursor) bool {
			found = e
			return false
		})
	return found, err
}

// hookMemory keeps the progress of webhooks in the store, sealed.
type hookMemory struct{ *engine }

// Load implements webhook.Memory.
func (m hookMemory) Load(name string) ([]byte, error) { return m.store.Meta(name) }

// Keep implements webhook.Memory.
func (m hookMemory) Keep(ctx context.Context, name string, value []byte) error {
	return m.keep(ctx, name, value)
}
