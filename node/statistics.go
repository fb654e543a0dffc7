package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// The day before is worked up at this time of day (requirement R82).
const nightlyAt = 30 * time.Minute

// metaNightly is where the store keeps the last day that was worked up, metaDownloads where the members keep who fetched
// error addresses.
const (
	metaNightly   = "statistics-through"
	metaDownloads = "error address downloads"
)

// nightly is how far the days have been worked up, and a rebuild that is under way.
type nightly struct {
	through atomic.Int32 // statistics.Date

	mu      sync.Mutex
	rebuilt chan struct{} // closed when the rebuild under way has ended; nil = none is
	begun   bool          // one was, since the start
	found   queue.Rebuilt // and what it found
	err     error
}

// restoreNightly reads how far the days were worked up.
func (e *engine) restoreNightly() error {
	raw, err := e.store.Meta(metaNightly)
	if err != nil || raw == nil {
		return err
	}
	through, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return fmt.Errorf("node: read how far the statistics are worked up: %w", err)
	}
	e.nightly.through.Store(int32(through))
	return nil
}

// workUp makes yesterday's results visible, and what was left out before.
func (e *engine) workUp(ctx context.Context, now time.Time) error {
	yesterday := int32(statistics.DateOf(now) - 1)
	if err := e.keep(ctx, metaNightly, []byte(strconv.Itoa(int(yesterday)))); err != nil {
		return err
	}
	e.nightly.through.Store(yesterday)
	return nil
}

// mindNight works the days up whose night has passed.
func (n *Node) mindNight(e *engine, now time.Time) {
	today := statistics.DateOf(now)
	if statistics.Date(e.nightly.through.Load()) >= today-1 || now.Before(today.Begin().Add(nightlyAt)) {
		return
	}
	ctx, cancel := context.WithTimeout(e.life, 10*time.Second)
	defer cancel()
	if err := e.workUp(ctx, now); err != nil && e.life.Err() == nil {
		n.log.Warn("yesterday's statistics are not worked up yet", "error", err)
	}
}

type statisticsService struct{ *Node }

// Statistics implements service.Statistics.
func (n statisticsService) Statistics(_ context.Context, q service.StatisticsQuery) (service.StatisticsReport, error) {
	e, err := n.running()
	if err != nil {
		return service.StatisticsReport{}, err
	}
	// Never today, also where the clock was set back.
	out := service.StatisticsReport{Through: min(statistics.Date(e.nightly.through.Load()), statistics.DateOf(n.clock.Now())-1)}
	if q.Live {
		out.Through = statistics.DateOf(n.clock.Now())
	}
	for date := q.First; date <= min(q.Last, out.Through); date++ {
		day, err := e.store.Day(date)
		if err != nil {
			return out, fmt.Errorf("node: read statistics: %w", err)
		}
		for k, r := range day.Rows {
			if wanted(q.Tenant, k.Tenant) && wanted(q.Composition, k.Composition) && wanted(q.User, k.User) && wanted(q.From, k.From) {
				out.Rows = append(out.Rows, statistics.Counted{Date: date, Row: k, Result: r})
			}
		}
		for k, count := range day.Errors {
			if wanted(q.Tenant, k.Tenant) && wanted(q.User, k.User) && wanted(q.To, k.Domain) {
				out.Errors = append(out.Errors, statistics.Errors{Date: date, ErrorsOf: k, Count: count})
			}
		}
	}
	return out, nil
}

func wanted[S ~string](want, have S) bool { return want == "" || want == have }

// rebuildPatience is how long one call waits for a rebuild, below what the front gives a connection. It may take minutes.
const rebuildPatience = 15 * time.Second

// Rebuild implements service.Statistics. Who asks while a rebuild is under way waits for that one; it goes on when nobody
// waits any more.
func (n statisticsService) Rebuild(ctx context.Context, watch bool) ([]service.Rebuilt, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	s := &e.nightly
	s.mu.Lock()
	ended := s.rebuilt
	switch {
	case ended == nil && watch && !s.begun:
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: nothing was counted anew since the start", service.ErrNotFound)
	case ended == nil && watch:
		ended = make(chan struct{})
		close(ended)
	case ended == nil:
		s.begun = true
		ended = make(chan struct{})
		s.rebuilt = ended
		e.done.Go(func() {
			found, err := e.store.Rebuild(e.life)
			s.mu.Lock()
			s.rebuilt, s.found, s.err = nil, found, err
			s.mu.Unlock()
			n.log.Warn("counters and statistics were counted anew", "events", found.Events, "same", found.Same, "error", err)
			close(ended)
		})
	}
	s.mu.Unlock()
	patience := time.NewTimer(rebuildPatience)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
		return []service.Rebuilt{{Node: n.cfg.Node.Name, Events: e.store.Recounted(), Running: true}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, fmt.Errorf("node: rebuild: %w", s.err)
	}
	return []service.Rebuilt{{Node: n.cfg.Node.Name, Events: s.found.Events, Same: s.found.Same}}, nil
}

// Downloads implements service.Statistics.
func (n statisticsService) Downloads(_ context.Context, tenant string) ([]service.Download, error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	all, _, err := m.downloads()
	if err != nil {
		return nil, err
	}
	if tenant != "" {
		all = slices.DeleteFunc(all, func(d service.Download) bool { return d.Tenant != tenant })
	}
	return all[:min(len(all), service.MaxDownloads)], nil
}

// downloads returns what the members keep, newest first, and its version.
func (m *member) downloads() (list []service.Download, version uint64, err error) {
	v, ok := m.book.State().Meta(metaDownloads)
	if !ok {
		return nil, 0, nil
	}
	if err := json.Unmarshal(v.Data, &list); err != nil {
		return nil, 0, fmt.Errorf("node: read downloads: %w", err)
	}
	return list, v.Version, nil
}

// Bounds of the list of downloads: of all tenants together, and how often a change is tried.
const (
	mostDownloads = 1000
	noteTries     = 5
)

// NoteDownload implements service.Statistics.
func (n statisticsService) NoteDownload(ctx context.Context, d service.Download) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	for range noteTries {
		list, version, err := m.downloads()
		if err != nil {
			return err
		}
		raw, err := json.Marshal(withDownload(list, d))
		if err != nil {
			return fmt.Errorf("node: encode downloads: %w", err)
		}
		_, err = m.command(ctx, &ledger.PutMeta{Signed: m.by(d.Account), Name: metaDownloads, Base: version, Data: raw})
		if !errors.Is(err, service.ErrConflict) { // somebody else's came first
			return err
		}
	}
	return fmt.Errorf("%w: too many downloads at once", service.ErrConflict)
}

// withDownload puts d in front and forgets what is too old.
func withDownload(list []service.Download, d service.Download) []service.Download {
	list = slices.Insert(list, 0, d)
	slices.SortStableFunc(list, func(a, b service.Download) int { return cmp.Compare(b.At.Unix(), a.At.Unix()) })
	of := map[string]int{}
	list = slices.DeleteFunc(list, func(d service.Download) bool {
		of[d.Tenant]++
		return of[d.Tenant] > service.MaxDownloads
	})
	return list[:min(len(list), mostDownloads)]
}

// carrier is under whom the results of a domain's mail stand (requirement R83).
func (n *Node) carrier(d mail.Domain) string { return n.book.queueOf(d) }
