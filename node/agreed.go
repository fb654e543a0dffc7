package node

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// agree returns this node's part in the agreement, or why there is none.
func (n *Node) agree() (*member, error) {
	if m := n.member.Load(); m != nil {
		return m, nil
	}
	return nil, n.unready()
}

// agreedError translates what the agreement refuses into the words of the fronts.
func agreedError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrNoQuorum), errors.Is(err, cluster.ErrUncertain), errors.Is(err, cluster.ErrStopped):
		return &agreement{service.ErrNoQuorum, err, noQuorumWords(err)}
	case errors.Is(err, ledger.ErrConflict), errors.Is(err, ledger.ErrStale):
		return &agreement{service.ErrConflict, err, reasonIn(err)}
	case errors.Is(err, ledger.ErrNotFound):
		return &agreement{service.ErrNotFound, err, reasonIn(err)}
	case errors.Is(err, ledger.ErrRefused):
		return &agreement{service.ErrRefused, err, reasonIn(err)}
	}
	return err
}

// agreement is what the agreement refused, in words for who asked: which command, and where, is of no use to him.
type agreement struct {
	kind, cause error
	words       string // "" = the kind says it all
}

// Error is kind and words.
func (a *agreement) Error() string {
	if a.words == "" {
		return a.kind.Error()
	}
	return a.kind.Error() + ": " + a.words
}

// Unwrap leads to both.
func (a *agreement) Unwrap() []error { return []error{a.kind, a.cause} }

// noQuorumWords says what is uncertain: a command whose answer was lost may have been agreed on.
func noQuorumWords(err error) string {
	switch {
	case errors.Is(err, cluster.ErrUncertain):
		return "whether it was done is not known; look before you ask again"
	case errors.Is(err, cluster.ErrStopped):
		return "this node takes part in no agreement any more; restart it"
	}
	return notAgreed
}

// notAgreed says nothing of what a call did before: commands that it gave first are in force.
const notAgreed = "this was not agreed on"

// reasonIn is the text of a refusal without its kind, which ours says already.
func reasonIn(err error) string {
	text := err.Error()
	for _, kind := range []error{ledger.ErrConflict, ledger.ErrStale, ledger.ErrNotFound, ledger.ErrRefused} {
		if i := strings.LastIndex(text, kind.Error()+": "); i >= 0 && errors.Is(err, kind) {
			return text[i+len(kind.Error())+2:]
		}
		if errors.Is(err, kind) && strings.HasSuffix(text, kind.Error()) {
			return ""
		}
	}
	return text
}

// command gives a command to the members and returns what came of it.
func (m *member) command(ctx context.Context, cmd ledger.Command) (ledger.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, agreeWait)
	defer cancel()
	r, err := m.propose(ctx, cmd)
	if err == nil {
		err = r.Err()
	}
	return r, agreedError(err)
}

// sole is command for a call that gives no other: where that was not agreed on, nothing was changed.
func (m *member) sole(ctx context.Context, cmd ledger.Command) (ledger.Result, error) {
	r, err := m.command(ctx, cmd)
	return r, unchanged(err)
}

// unchanged adds to a refusal of a call's only command, or of what goes before it, that nothing was changed.
func unchanged(err error) error {
	var a *agreement
	if !errors.As(err, &a) || a.words != notAgreed {
		return err
	}
	return &agreement{a.kind, a.cause, notAgreed + ", nothing was changed"}
}

// agreeWait is how long an operator's command may wait for a majority: longer than an election, and well below what the
// caller waits, so that the answer is that there is none, and not silence.
const agreeWait = 20 * time.Second

// current waits until the book holds all that was agreed on before the call.
func (m *member) current(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agreeWait)
	defer cancel()
	return agreedError(m.caughtUp(ctx))
}

type settingsService struct{ *Node }

// Settings implements service.Settings.
func (n settingsService) Settings(context.Context) ([]byte, uint64, error) {
	e := n.book.now.Load()
	raw, err := settings.Encode(e.index.Settings)
	return raw, e.number, err
}

// Apply implements service.Settings.
func (n settingsService) Apply(ctx context.Context, a service.Application) (service.Applied, error) {
	m, err := n.agree()
	if err != nil {
		return service.Applied{}, err
	}
	want, err := settings.Decode(a.YAML, n.besideSettings)
	if err != nil {
		return service.Applied{}, err
	}
	if err := m.current(ctx); err != nil {
		return service.Applied{}, unchanged(err)
	}
	m.useSettings()
	now := n.book.now.Load()
	out := service.Applied{Changes: settings.Diff(now.index.Settings, want), Revision: now.number}
	if a.Base != nil && *a.Base != now.number {
		return out, fmt.Errorf("%w: revision %d is in force, not %d", service.ErrConflict, now.number, *a.Base)
	}
	if a.DryRun || len(out.Changes) == 0 {
		return out, nil
	}
	cmd, err := m.edits(want)
	if err != nil {
		return out, err
	}
	cmd.Signed = m.by(a.Author)
	if _, err := m.sole(ctx, cmd); err != nil {
		return out, err
	}
	m.useSettings()
	out.Revision = n.book.now.Load().number
	return out, nil
}

// besideSettings reads a file that settings name: one that lies beside the settings file of this node.
func (n *Node) besideSettings(name string) ([]byte, error) {
	if n.cfg.Settings == "" || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%s cannot be read by the node: write the rules into the settings", name)
	}
	return os.ReadFile(filepath.Join(filepath.Dir(n.cfg.Settings), name))
}

// edits is the command that makes the book's settings those of want, if nobody changes the same objects meanwhile.
func (m *member) edits(want *settings.Settings) (*ledger.PutObjects, error) {
	objects, err := settings.Split(want)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	version := map[ledger.ObjectID]uint64{}
	var have []settings.Object
	for _, o := range m.settingsObjects() {
		if o.Kind == kindRevision {
			continue
		}
		version[ledger.ObjectID{Kind: o.Kind, Name: o.Name}] = o.Version
		have = append(have, settings.Object{Kind: o.Kind, Name: o.Name, Data: o.Data})
	}
	put, remove := settings.Edits(have, objects)
	cmd := &ledger.PutObjects{}
	for _, o := range put {
		cmd.Changes = append(cmd.Changes, ledger.ObjectChange{Kind: o.Kind, Name: o.Name, Data: o.Data,
			Base: version[ledger.ObjectID{Kind: o.Kind, Name: o.Name}]})
	}
	for _, o := range remove {
		cmd.Changes = append(cmd.Changes, ledger.ObjectChange{Kind: o.Kind, Name: o.Name, Delete: true,
			Base: version[ledger.ObjectID{Kind: o.Kind, Name: o.Name}]})
	}
	// The revision is the newest version there is: a change that only deletes must have one, too.
	cmd.Changes = append(cmd.Changes, ledger.ObjectChange{Kind: kindRevision, Base: ledger.Any})
	return cmd, nil
}

// settingsObjects are those of the book that settings are made of.
func (m *member) settingsObjects() []ledger.Object {
	return slices.DeleteFunc(m.book.State().Objects(""), func(o ledger.Object) bool {
		switch o.Kind {
		case ledger.KindSuspension, ledger.KindCleaning, ledger.KindWarmth, ledger.KindSource, ledger.KindToken:
			return true
		}
		return false
	})
}

// kindRevision is an object without content that each change of the settings writes.
const kindRevision = "revision"

type suppressionService struct{ *Node }

// listPage is how many suppressions are read from the book at once.
const listPage = 250

// scopeOf is a place as the book writes it.
func scopeOf(p service.Place) (ledger.Scope, error) {
	list, ok := ledger.ParseList(p.List)
	if !ok {
		return ledger.Scope{}, fmt.Errorf("%w: list %q; allowed: %s, %s, %s", service.ErrInvalid, p.List,
			service.BlackBox, service.BlockList, service.Unsubscribe)
	}
	return ledger.Scope{List: list, Tenant: p.Tenant, Filter: p.Filter}, nil
}

// List implements service.Suppressions.
func (n suppressionService) List(ctx context.Context, q service.SuppressionQuery, yield func(service.Suppression, string) bool) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.After)
	if err != nil || len(after) > 0 && !ledger.IsSuppressionCursor(after) {
		return fmt.Errorf("%w: cursor: %q is none that a page of this list came with", service.ErrInvalid, q.After)
	}
	part, now := strings.ToLower(q.Part), n.clock.Now()
	match := func(s *ledger.Suppression) bool {
		return s.Live(now) && q.Within(s.Since) && (q.List != "" || s.List != ledger.Errors && s.List != ledger.Leaving) && (q.Tenant == "" || s.Tenant == q.Tenant) && (q.List == "" || s.List.String() == q.List) &&
			strings.Contains(strings.ToLower(s.Address), part)
	}
	type row struct {
		service.Suppression
		at string
	}
	for ctx.Err() == nil {
		var rows []row // nobody who reads slowly keeps the book from being tidied up
		next, err := m.book.EachSuppression(after, func(s *ledger.Suppression, at []byte) bool {
			if match(s) {
				rows = append(rows, row{at: base64.RawURLEncoding.EncodeToString(at), Suppression: service.Suppression{
					Place:   service.Place{List: s.List.String(), Tenant: s.Tenant, Filter: s.Filter},
					Address: mail.Address(s.Address), Reason: s.Reason, Evidence: s.Evidence, Since: s.Since, Expires: s.Expires}})
			}
			return len(rows) < listPage
		})
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		for _, r := range rows {
			if !yield(r.Suppression, r.at) {
				return nil
			}
		}
		if after = next; next == nil {
			return nil
		}
	}
	return ctx.Err()
}

// Add implements service.Suppressions. What gets on a block list is an event.
func (n suppressionService) Add(ctx context.Context, list []service.Suppression) (int, error) {
	m, err := n.agree()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	cmd, err := m.suppress(list)
	if err != nil {
		return 0, err
	}
	blocked, err := m.newlyBlocked(cmd.Add)
	if err != nil {
		return 0, err
	}
	added := 0
	err = m.told(ctx, mail.EventBlocked, blocked, func() error {
		added, err = m.suppressAll(ctx, cmd)
		return err
	})
	return added, err
}

// Import implements service.Suppressions. Large commands give way to leases by themselves, and are no events.
func (n suppressionService) Import(ctx context.Context, list []service.Suppression) (int, error) {
	m, err := n.agree()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	cmd, err := m.suppress(list)
	if err != nil {
		return 0, err
	}
	return m.suppressAll(ctx, cmd)
}

// suppress is the command that puts addresses on lists.
func (m *member) suppress(list []service.Suppression) (ledger.Suppress, error) {
	cmd := ledger.Suppress{Signed: m.by(list[0].Author), Add: make([]ledger.Suppression, 0, len(list))}
	for i := range list {
		s := &list[i]
		scope, err := scopeOf(s.Place)
		if err != nil {
			return cmd, err
		}
		cmd.Add = append(cmd.Add, ledger.Suppression{Suppressed: ledger.Suppressed{Scope: scope, Address: s.Address.Fold()},
			Reason: s.Reason, Since: s.Since, Expires: s.Expires})
	}
	return cmd, nil
}

// suppressAll gives the command to the members in pieces, and tells how many were not there yet.
func (m *member) suppressAll(ctx context.Context, cmd ledger.Suppress) (added int, err error) {
	for _, piece := range ledger.Split(cmd) {
		r, err := m.command(ctx, piece)
		if err != nil {
			return added, err
		}
		added += int(r.Added)
	}
	return added, nil
}

// unsuppress is the command that takes addresses off a list.
func (m *member) unsuppress(scope ledger.Scope, list []mail.Address, author string) *ledger.Unsuppress {
	cmd := &ledger.Unsuppress{Signed: m.by(author)}
	for _, a := range list {
		cmd.Remove = append(cmd.Remove, ledger.Suppressed{Scope: scope, Address: a.Fold()})
	}
	return cmd
}

// Remove implements service.Suppressions.
func (n suppressionService) Remove(ctx context.Context, at service.Place, list []mail.Address, author string) (int, error) {
	m, err := n.agree()
	if err != nil {
		return 0, err
	}
	scope, err := scopeOf(at)
	if err != nil {
		return 0, err
	}
	cmd := m.unsuppress(scope, list, author)
	if scope.List == ledger.Unsubscribe { // nor may the batch put them there
		scope.List = ledger.Leaving
		cmd.Remove = append(cmd.Remove, m.unsuppress(scope, list, author).Remove...)
	}
	released, err := m.blocked(cmd.Remove)
	if err != nil {
		return 0, err
	}
	var r ledger.Result
	err = m.told(ctx, mail.EventReleased, released, func() error {
		r, err = m.command(ctx, cmd)
		return err
	})
	return int(r.Removed), err
}

// Reset implements service.Suppressions.
func (n suppressionService) Reset(ctx context.Context, tenant string, list []mail.Address, author string) (int, error) {
	m, err := n.agree()
	if err != nil {
		return 0, err
	}
	r, err := m.sole(ctx, m.unsuppress(ledger.Scope{List: ledger.Errors, Tenant: tenant}, list, author))
	return int(r.Removed), err
}

type auditService struct{ *Node }

// Entries implements service.Audit.
func (n auditService) Entries(_ context.Context, before uint64, limit int) ([]service.AuditEntry, error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	list, err := m.book.AuditTail(auditMost)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	var out []service.AuditEntry
	for i := len(list) - 1; i >= 0 && len(out) < limit; i-- {
		if a := list[i]; before == 0 || a.Seq < before {
			out = append(out, service.AuditEntry{Sequence: a.Seq, At: a.At, Author: a.Author, Node: a.Origin,
				Action: a.Action, Subject: a.Subject, Detail: a.Detail})
		}
	}
	return out, nil
}

// auditMost is how far back the trail can be looked at, in lines.
const auditMost = 10_000
