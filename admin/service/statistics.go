package service

import (
	"context"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// Statistics is what is counted day by day.
type Statistics interface {
	// Statistics returns the days asked for, as far as they have been worked up: the night after (requirement R82);
	// live ones all.
	Statistics(ctx context.Context, q StatisticsQuery) (StatisticsReport, error)
	// Rebuild counts everything anew from the event log, counters and statistics, and puts the result in force. It waits
	// for the end for a while only: a rebuild goes on by itself, and Rebuild with watch tells of it, and begins none.
	Rebuild(ctx context.Context, watch bool) ([]Rebuilt, error)
	// Downloads returns the newest downloads of error addresses, newest first; tenant "" = of all.
	Downloads(ctx context.Context, tenant string) ([]Download, error)
	// NoteDownload keeps the newest MaxDownloads of each tenant.
	NoteDownload(ctx context.Context, d Download) error
}

// MaxStatisticsDays is how many days one query may span.
const MaxStatisticsDays = 400

// StatisticsQuery says which counts. Empty members do not narrow.
type StatisticsQuery struct {
	First, Last statistics.Date // both inclusive
	Tenant      string
	Composition string
	User        string
	From        mail.Domain // of the sender
	To          mail.Domain // of the recipient: of Errors only
	Live        bool        // today as well, and what has not been worked up yet (E-29)
}

// ReadDays reads the first and the last day; where nobody says which, it is the 31 days that end with the last, or today.
func (q *StatisticsQuery) ReadDays(first, last string, now time.Time) (err error) {
	q.Last = statistics.DateOf(now)
	if last != "" {
		if q.Last, err = statistics.ParseDate(last); err != nil {
			return fmt.Errorf("%w: to: %w", ErrInvalid, err)
		}
	}
	q.First = q.Last - 30
	if first != "" {
		if q.First, err = statistics.ParseDate(first); err != nil {
			return fmt.Errorf("%w: from: %w", ErrInvalid, err)
		}
	}
	if q.Last < q.First || q.Last-q.First >= MaxStatisticsDays {
		return fmt.Errorf("%w: from and to are days in their order, at most %d days apart", ErrInvalid, MaxStatisticsDays)
	}
	return nil
}

// StatisticsReport is what is counted.
type StatisticsReport struct {
	Through statistics.Date // the last day that has been worked up
	Rows    []statistics.Counted
	Errors  []statistics.Errors
}

// Rebuilt is what a node found when it counted everything anew.
type Rebuilt struct {
	Node   string
	Events uint64
	Same   bool // the counters were right
	// Running: it is under way, and Events are those counted so far.
	Running bool
}

// MaxDownloads is how many downloads are remembered of each tenant (requirement R133).
const MaxDownloads = 10

// Download is one of error addresses.
type Download struct {
	Tenant  string    `json:"tenant"` // "" = of all
	Account string    `json:"account"`
	At      time.Time `json:"at"`
	Count   int       `json:"count"` // addresses
}
