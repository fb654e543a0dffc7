package service

import (
	"context"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// Application is a wish for other settings.
type Application struct {
	YAML   []byte
	Base   *uint64 // the revision that YAML was made from; nil = whatever is in force
	DryRun bool    // only tell the difference
	Author string
}

// Applied is what an Application changed, or would change.
type Applied struct {
	Changes  []settings.Change // empty: nothing
	Revision uint64            // in force afterwards
}

// The suppression lists (requirements R101 to R104).
const (
	BlackBox    = "blackbox"
	BlockList   = "blocklist"
	Unsubscribe = "unsubscribe"
	Errors      = "errors"  // to be listed only: what was counted against addresses (requirement R100)
	Leaving     = "leaving" // to be listed only: who asked to be on Unsubscribe from the next batch on
)

// Place is where an address stands: on one list, for one tenant's mail.
type Place struct {
	List   string // one of the lists above
	Tenant string // "" = everybody's mail, on the black box only
	Filter string // of Unsubscribe: the filter whose mail is meant; "" = all mail of the tenant
}

// Suppression is an address that gets no mail.
type Suppression struct {
	Place
	Address  mail.Address // compared by Fold
	Reason   string       // of Errors: how many by status, "2=1,5=3"
	Author   string
	Evidence string // the delivery and the reply that led to it
	Since    time.Time
	Expires  time.Time // zero = never
}

// SuppressionQuery narrows a listing. Zero members do not narrow.
type SuppressionQuery struct {
	Tenant string
	List   string
	Part   string // a part of the address, without regard to case (E-47)
	After  string // position of the last one seen; "" = from the beginning

	Since, Until time.Time // when it got there (requirement R102): from Since on, before Until
}

// Within tells whether the query wants what got on a list at that time.
func (q *SuppressionQuery) Within(at time.Time) bool {
	return (q.Since.IsZero() || !at.Before(q.Since)) && (q.Until.IsZero() || at.Before(q.Until))
}

// Suppressions are the lists of addresses that get no mail, the same on every node. Their changes return once a
// majority of the members holds them, else ErrNoQuorum.
type Suppressions interface {
	// List calls yield for each that matches and has not expired, in an order of its own, until yield returns false.
	List(ctx context.Context, q SuppressionQuery, yield func(s Suppression, position string) bool) error
	// Add returns how many were not there yet; those that were take the new reason and expiry.
	Add(ctx context.Context, list []Suppression) (added int, err error)
	// Import is Add for one piece of a long list: it gives way to everything else that the members agree on.
	Import(ctx context.Context, list []Suppression) (added int, err error)
	// Remove returns how many stood at that place; whoever is taken off Unsubscribe is so off Leaving, and counts there, too.
	Remove(ctx context.Context, at Place, list []mail.Address, author string) (removed int, err error)
	// Reset forgets the errors counted for the addresses (requirement R100), and returns for how many there were any.
	Reset(ctx context.Context, tenant string, list []mail.Address, author string) (reset int, err error)
}

// DeliveryStop is what puts addresses on a tenant's block list by what was counted against them (requirement R101): its
// settings, and its last run.
type DeliveryStop struct {
	Tenant, Composition string
	RunAt               string // HH:MM, or immediate
	ReleaseAfterDays    int    // 0 = never
	ReleaseDisabled     bool
	Reasons             map[int]int // error status to occurrences; a status that is missing is disabled
	LastRun             time.Time   // zero = it has not run yet, or stops at once
	Stopped             int         // addresses that the last run stopped
}

// DeliveryStops tells of delivery stops, the same on every node.
type DeliveryStops interface {
	// DeliveryStops lists those of a tenant, "" = of all, in the order of the settings.
	DeliveryStops(ctx context.Context, tenant string) ([]DeliveryStop, error)
}

// Links are those by which recipients leave lists (requirement R104, RFC 8058).
type Links interface {
	// Known returns nil where the token is one of ours, else ErrNotFound or ErrSealed.
	Known(token string) error
	// Leave takes the recipient of the token off its list: from the next batch on, or at once where the list says so. It
	// returns once a majority of the members holds that, else ErrNotFound, ErrSealed, ErrNoQuorum or ErrTooSoon, where
	// too many ask. To leave twice is no error.
	Leave(ctx context.Context, token string) error
}

// AuditEntry is one thing that somebody did.
type AuditEntry struct {
	Sequence uint64
	At       time.Time
	Author   string
	Node     string // where it was asked for
	Action   string // settings, suppress, stop, takeover, unseal, …
	Subject  string
	Detail   string
}

// Audit is the book of who did what, the same on every node.
type Audit interface {
	// Entries returns at most limit entries with a sequence number below before (0 = all), newest first.
	Entries(ctx context.Context, before uint64, limit int) ([]AuditEntry, error)
}
