package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Config is what a Store needs. Dir, Ring and Clock must be set.
type Config struct {
	Dir   string       // created if absent; nothing else may live there
	Ring  *seal.Ring   // unsealed
	Clock *clock.Clock // product time: days of the event log, ages of idempotency keys
	Log   *slog.Logger

	// MinFree is the free space in bytes below which Put is refused; settlements go on. Zero: 5 % of the file system,
	// at least three value-log files.
	MinFree uint64
	// Ballast is the size in bytes of a file that is deleted when space runs out, so that settlements find room.
	// Zero: 64 MiB; negative: none.
	Ballast int64
	// Ship brings what is committed to standbys; see Shipper. nil: this node is alone.
	Ship Shipper
	// OnFail is called once, in a goroutine of its own, when the store has failed for good.
	OnFail func(error)
	// OnCommit is called after each commit by the committer, and must not block: how long it took, how many requests
	// it carried.
	OnCommit func(seconds float64, requests int)
	// MaxNames bounds the counters kept by name; see stats.MaxNames. Zero: that.
	MaxNames int
	// Bare writes no events and counts nothing: benchmarks measure against it what these cost.
	Bare bool
	// Carrier tells the carrier that the statistics of a domain's mail stand under; nil: none.
	Carrier func(mail.Domain) string
}

// Sizes of Badger's files and levels: see performance figures in storage/DESIGN.md.
const (
	memTableSize    = 8 << 20
	levelZeroTables = 10 // from which on Badger merges level 0 by itself
	// The level below takes up level 0 as a whole, and most of what it holds itself is written anew for that. Being as
	// large, it costs as much again; a smaller one hands everything on at once, and the level below that is written anew too.
	baseLevelSize  = levelZeroTables * memTableSize
	valueLogSize   = 64 << 20
	valueMinimum   = 512 // bytes from which a value goes to the value log
	indexCache     = 32 << 20
	defaultBallast = 64 << 20
)

// Bounds of one commit and of the way to it.
const (
	maxBatch      = 256      // requests
	maxBatchBytes = 1 << 20  // of keys and values; one request may exceed it alone
	maxPending    = 4096     // requests waiting; Put and Settle block above
	maxPendBytes  = 64 << 20 // bytes waiting; likewise
	maxRecipients = 2000     // deliveries of one Put: a commit is one Badger transaction, bounded to 15 % of a memtable
)

// keyLife is how long an idempotency key is remembered (requirement N10), in product time.
const keyLife = 24 * time.Hour

// What the store reports.
var (
	// ErrFailed: a write or a sync failed; nothing is acknowledged any more until the process is restarted.
	ErrFailed = errors.New("store has failed")
	// ErrDiskFull: free space is below the threshold; the client should hear 452 and try again later.
	ErrDiskFull = errors.New("store is short of disk space")
	// ErrClosed: the store is closing or closed.
	ErrClosed = errors.New("store is closed")
	// ErrTooMany: more deliveries in one message than one commit can hold.
	ErrTooMany = errors.New("message has too many recipients for one commit")
	// ErrNotQueued: the delivery to settle is not in the queue as described.
	ErrNotQueued = errors.New("delivery is not queued")
	// ErrNoBody: the message has no body stored, because its last delivery was settled.
	ErrNoBody = errors.New("message body is not stored")
	// ErrTampered: a record does not open or is not what its place says. It must never be delivered.
	ErrTampered = fmt.Errorf("stored record: %w", mail.ErrDamaged)
	// ErrNewer: the store was written by a later version. Nothing in it was touched.
	ErrNewer = errors.New("written by a newer version of ekiden; run that, or an empty data directory")
)

// DuplicateError tells that the tenant used the idempotency key before: nothing was stored, ID is the message it named.
type DuplicateError struct{ ID mail.MessageID }

func (e *DuplicateError) Error() string { return "duplicate of message " + e.ID.String() }

// DuplicateOf is the message that used the key first, for those who cannot import this room.
func (e *DuplicateError) DuplicateOf() mail.MessageID { return e.ID }

// Validate reports what is missing.
func (c *Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("queue: no directory")
	case c.Ring == nil:
		return fmt.Errorf("queue: no key ring")
	case c.Clock == nil:
		return fmt.Errorf("queue: no clock")
	}
	return nil
}
