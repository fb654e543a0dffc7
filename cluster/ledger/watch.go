package ledger

import (
	"slices"
	"sync"
)

// Change tells which parts of the book changed since the watcher was told last.
type Change struct {
	Index uint64 // the last entry applied
	Kinds []Kind // in the order of their letters
}

// Has tells whether a part changed.
func (c Change) Has(k Kind) bool { return slices.Contains(c.Kinds, k) }

// watcher is told of changes in a goroutine of its own. What comes while it is busy is told together.
type watcher struct {
	tell    func(Change)
	mu      sync.Mutex
	pending map[Kind]bool
	index   uint64
	wake    chan struct{} // one token
	done    chan struct{}
}

// watchers is the list of who is told.
type watchers struct {
	mu     sync.Mutex
	all    map[*watcher]struct{}
	closed bool
	tasks  sync.WaitGroup
}

// Watch calls tell after each batch that changed anything. It never holds the store up: tell runs in a goroutine of its
// own, and a slow one hears of several batches at once. stop ends it and does not wait for a call under way.
func (s *Store) Watch(tell func(Change)) (stop func()) {
	w := &watcher{tell: tell, pending: map[Kind]bool{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.watchers.mu.Lock()
	defer s.watchers.mu.Unlock()
	if s.watchers.closed {
		return func() {}
	}
	s.watchers.all[w] = struct{}{}
	s.watchers.tasks.Go(w.run)
	return func() { s.watchers.remove(w) }
}

func (w *watcher) run() {
	for {
		select {
		case <-w.done:
			return
		case <-w.wake:
		}
		w.mu.Lock()
		c := Change{Index: w.index}
		for k := range w.pending {
			c.Kinds = append(c.Kinds, k)
		}
		clear(w.pending)
		w.mu.Unlock()
		slices.Sort(c.Kinds)
		w.tell(c)
	}
}

func (l *watchers) remove(w *watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.all[w]; there {
		delete(l.all, w)
		close(w.done)
	}
}

// changed leaves word of changed kinds with every watcher.
func (l *watchers) changed(index uint64, kinds map[Kind]bool) {
	if len(kinds) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.all {
		w.mu.Lock()
		for k := range kinds {
			w.pending[k] = true
		}
		w.index = index
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default: // it has a token and will find this, too
		}
	}
}

// close ends all watchers and waits for the calls under way.
func (l *watchers) close() {
	l.mu.Lock()
	l.closed = true
	for w := range l.all {
		close(w.done)
	}
	clear(l.all)
	l.mu.Unlock()
	l.tasks.Wait()
}
