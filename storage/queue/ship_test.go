package queue

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// fleet is a Shipper that keeps what it is given, and answers what it is told to.
type fleet struct {
	mu      sync.Mutex
	n       uint64
	records map[string]string // after every frame
	frames  [][]Op
	settled int

	// answer says what became of a frame; nil = held.
	answer func(n uint64) (exposed bool, err error)
	// manual keeps the answers back until release.
	manual  bool
	waiting []func()
}

func (f *fleet) Ship(ops []Op, outcomes int) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.settled += outcomes
	frame := make([]Op, len(ops))
	if f.records == nil {
		f.records = map[string]string{}
	}
	for i, o := range ops {
		frame[i] = Op{o.Delete, bytes.Clone(o.Key), bytes.Clone(o.Value)}
	}
	f.frames = append(f.frames, frame)
	replay(f.records, frame)
	return f.n
}

func replay(records map[string]string, frame []Op) {
	for _, o := range frame {
		if o.Delete {
			delete(records, string(o.Key))
		} else {
			records[string(o.Key)] = string(o.Value)
		}
	}
}

func (f *fleet) later(call func()) {
	f.mu.Lock()
	manual := f.manual
	if manual {
		f.waiting = append(f.waiting, call)
	}
	f.mu.Unlock()
	if !manual {
		go call()
	}
}

func (f *fleet) WhenHeld(n uint64, done func(bool, error)) {
	f.later(func() {
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		if answer == nil {
			done(false, nil)
			return
		}
		done(answer(n))
	})
}

func (f *fleet) WhenSettled(_ uint64, done func(error)) { f.later(func() { done(nil) }) }

func (f *fleet) set(manual bool, answer func(uint64) (bool, error)) {
	f.mu.Lock()
	f.manual, f.answer = manual, answer
	f.mu.Unlock()
}

// release gives the answers that were kept back, and later ones at once.
func (f *fleet) release() {
	f.mu.Lock()
	calls := f.waiting
	f.waiting, f.manual = nil, false
	f.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

func (f *fleet) pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)
}

// standing returns a copy of what the standby has.
func (f *fleet) standing() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.records)
}

func short(uint64) (bool, error) { return false, ErrShort }

func exposed(uint64) (bool, error) { return true, nil }

// newShippingRig is a store that ships to f.
func newShippingRig(t testing.TB) (*rig, *fleet) {
	f := &fleet{}
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Dir, r.cfg.Ship = t.TempDir(), f
	r.open()
	return r, f
}

// live returns what Live gives.
func (r *rig) live() map[string]string {
	r.t.Helper()
	records := map[string]string{}
	if err := r.Live(r.t.Context(), func(o Op) error {
		records[string(o.Key)] = string(o.Value)
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	return records
}

func differs(a, b map[string]string) string {
	for k, v := range a {
		if w, ok := b[k]; !ok {
			return fmt.Sprintf("%q is only in the first", k)
		} else if w != v {
			return fmt.Sprintf("%q differs", k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			return fmt.Sprintf("%q is only in the second", k)
		}
	}
	return ""
}

// TestShippedIsCommitted drives the store at random: what the frames leave is what the store holds, also after a
// restart, and a store without standbys needs not one call.
func TestShippedIsCommitted(t *testing.T) {
	r, f := newShippingRig(t)
	var waiting []mail.Delivery
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		ops := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 12).Draw(rt, "ops")
		for _, op := range ops {
			n++
			switch {
			case op == 0 && n%40 == 0:
				r.reopen()
			case op < 5 || len(waiting) == 0:
				to := make([]mail.Address, rapid.IntRange(1, 4).Draw(rt, "recipients"))
				for i := range to {
					to[i] = mail.Address(fmt.Sprintf("u%d@d%d.example.jp", i, rapid.IntRange(0, 3).Draw(rt, "domain")))
				}
				a := r.message(fmt.Sprintf("body %d %s", n, bytes.Repeat([]byte("x"), 50*op*op)), to...)
				if op == 1 {
					a.Key = fmt.Sprint("key ", n/3)
				}
				err := wait(func(done func(error)) { r.Put(a, done) })
				if dup := (*DuplicateError)(nil); errors.As(err, &dup) {
					continue
				} else if err != nil {
					rt.Fatal(err)
				}
				waiting = append(waiting, a.Deliveries...)
			case op < 8:
				i := rapid.IntRange(0, len(waiting)-1).Draw(rt, "deferred")
				waiting[i] = r.later(waiting[i], waiting[i].Due.Add(time.Duration(op)*time.Minute))
			default:
				i := rapid.IntRange(0, len(waiting)-1).Draw(rt, "settled")
				r.settle(waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			}
		}
		if d := differs(r.live(), f.standing()); d != "" {
			rt.Fatalf("live and shipped: %s", d)
		}
	})
	if r.Waiting() != len(waiting) {
		t.Errorf("waiting %d, want %d", r.Waiting(), len(waiting))
	}
	for _, d := range waiting {
		r.settle(d)
	}
	for k := range f.standing() {
		if k[0] != kindDataKey && k[0] != kindKey {
			t.Errorf("%q is left at the standby of an empty store", k)
		}
	}
}

// TestHeldBack: until standbys answer, the client has no answer and nobody sees the message; settlements wait for
// their credit.
func TestHeldBack(t *testing.T) {
	r, f := newShippingRig(t)
	f.set(true, nil)
	now := r.cfg.Clock.Now()
	done := make(chan error, 4)
	a, b := r.message("a", "a@x.example.jp"), r.message("b", "b@x.example.jp", "c@x.example.jp")
	r.Put(a, func(err error) { done <- err })
	r.Put(b, func(err error) { done <- err })
	if err := r.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.scan("x.example.jp", Cursor{}, far(now), 10); len(got) != 0 || len(done) != 0 {
		t.Errorf("before the answer %d are shown, %d answered", len(got), len(done))
	}
	if err := r.ForEachDelivery(t.Context(), func(*mail.Delivery) bool { t.Error("shown"); return false }); err != nil {
		t.Error(err)
	}
	f.release()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	got := r.scan("x.example.jp", Cursor{}, far(now), 10)
	if len(got) != 3 {
		t.Fatalf("%d shown after the answer", len(got))
	}
	f.set(true, nil)
	r.Settle(delivered(&got[0], now), func(err error) { done <- err })
	if err := r.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(done) != 0 || f.pending() != 1 || r.Waiting() != 2 {
		t.Errorf("%d answered, %d pending, %d waiting", len(done), f.pending(), r.Waiting())
	}
	f.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStrict: what too few hold is deleted again, there and here, and the client may send it again.
func TestStrict(t *testing.T) {
	r, f := newShippingRig(t)
	before := f.standing()
	f.set(true, short)
	a := r.message("text", "a@x.example.jp", "b@y.example.jp")
	a.Key = "order 7"
	again := r.message("text", "a@x.example.jp", "b@y.example.jp")
	again.Key = "order 7"
	first, second := make(chan error, 1), make(chan error, 1)
	r.Put(a, func(err error) { first <- err })
	r.Put(again, func(err error) { second <- err })
	if err := r.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(second) != 0 {
		t.Error("a duplicate was answered before the message it repeats")
	}
	f.set(true, func(n uint64) (bool, error) {
		if len(first) == 0 {
			f.set(false, nil)
			return false, ErrShort
		}
		return false, nil
	})
	f.release()
	if err := <-first; !errors.Is(err, ErrShort) {
		t.Errorf("put: %v", err)
	}
	if err := <-second; err != nil { // stored as the first of its key
		t.Errorf("same key after the refusal: %v", err)
	}
	f.set(false, short)
	if err := wait(func(done func(error)) { r.Put(r.message("more", "c@x.example.jp"), done) }); !errors.Is(err, ErrShort) {
		t.Errorf("put: %v", err)
	}
	if _, err := r.Body(a.ID); !errors.Is(err, ErrNoBody) {
		t.Errorf("body: %v", err)
	}
	f.set(false, nil)
	if got := r.scan("x.example.jp", Cursor{}, far(r.cfg.Clock.Now()), 9); len(got) != 1 || got[0].Seq != again.Deliveries[0].Seq {
		t.Errorf("waiting: %+v", got)
	}
	for i := range again.Deliveries {
		r.settle(again.Deliveries[i])
	}
	left := f.standing()
	maps.DeleteFunc(left, func(k, _ string) bool { return k[0] == kindDataKey || k[0] == kindKey })
	maps.DeleteFunc(before, func(k, _ string) bool { return k[0] == kindDataKey })
	if d := differs(before, left); d != "" || r.Waiting() != 0 {
		t.Errorf("left behind: %s, waiting %d", d, r.Waiting())
	}
	var kinds []mail.EventKind
	if err := r.Events().Search(t.Context(), events.Query{Message: a.ID}, func(e mail.Event, _ events.Cursor) bool {
		kinds = append(kinds, e.Kind)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	want := []mail.EventKind{mail.EventAccepted, mail.EventAccepted, mail.EventDiscarded, mail.EventDiscarded}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	f.set(false, short)
	if err := r.Flush(t.Context()); !errors.Is(err, ErrShort) {
		t.Errorf("flush: %v", err)
	}
	f.set(false, nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// TestExposed: messages that only this node holds are marked, durably, until they are gone or covered.
func TestExposed(t *testing.T) {
	r, f := newShippingRig(t)
	r.put(r.message("held", "z@z.example.jp"))
	f.set(false, exposed)
	var all []*mail.Accepted
	for i := range 5 {
		to := []mail.Address{"a@x.example.jp", "b@y.example.jp"}
		a := r.message("alone", to[:1+i%2]...)
		a.Key = fmt.Sprint("key ", i)
		r.put(a)
		all = append(all, a)
	}
	if err := r.Flush(t.Context()); !errors.Is(err, ErrShort) {
		t.Errorf("flush of what is exposed: %v", err)
	}
	f.set(false, nil)
	count := func(want int) {
		t.Helper()
		if got := r.ExposedCount(); got != want || len(r.keys(kindExposed)) != want {
			t.Fatalf("%d exposed, %d marks, want %d", got, len(r.keys(kindExposed)), want)
		}
	}
	count(5)
	r.settle(all[0].Deliveries[0])
	r.settle(all[1].Deliveries[0])
	count(4) // of the second message one recipient is left
	r.settle(all[1].Deliveries[1])
	count(3)
	old := f.n
	r.reopen()
	count(3)
	f.set(false, exposed)
	late := r.message("alone", "c@x.example.jp")
	r.put(late)
	f.set(false, nil)
	if err := r.Covered(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	count(1) // what was exposed since is not covered
	if err := r.Covered(t.Context(), f.n); err != nil {
		t.Fatal(err)
	}
	count(0)
	r.settle(late.Deliveries[0])
	count(0)
}

// TestCloseWaitsForWord: closing does not leave a client without its answer.
func TestCloseWaitsForWord(t *testing.T) {
	r, f := newShippingRig(t)
	f.set(true, short)
	done := make(chan error, 1)
	r.Put(r.message("x", "a@x.example.jp"), func(err error) { done <- err })
	if err := r.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	<-r.closing
	f.release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrShort) {
		t.Errorf("put: %v", err)
	}
	r.open()
	if r.Waiting() != 0 {
		t.Error("the refused message is still there")
	}
}

// TestLiveWhileBusy gathers the live records while the store is busy, as a standby does.
func TestLiveWhileBusy(t *testing.T) {
	r, f := newShippingRig(t)
	for i := range 600 {
		r.Put(r.message(fmt.Sprint("body ", i), "a@x.example.jp", "b@y.example.jp"), func(error) {})
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, d := range r.scan("x.example.jp", Cursor{}, far(r.cfg.Clock.Now()), 20) {
				if i%2 == 0 {
					r.later(d, d.Due.Add(-time.Hour)) // to where the walk was already
				} else {
					r.settle(d)
				}
			}
			r.put(r.message("new", "a@x.example.jp"))
		}
	})
	from := len(f.frames)
	base := r.live()
	close(stop)
	wg.Wait()
	later := map[string]string{}
	touched := map[string]bool{}
	for _, frame := range f.frames[from:] {
		replay(later, frame)
		for _, o := range frame {
			touched[string(o.Key)] = true
		}
	}
	for k, v := range base {
		if !touched[k] {
			later[k] = v
		}
	}
	if d := differs(later, f.standing()); d != "" {
		t.Error(d)
	}
	if d := differs(r.live(), f.standing()); d != "" {
		t.Error(d)
	}
}

// TestSettleQueued: of two who settle one delivery the later one hears of it.
func TestSettleQueued(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	a := r.message("x", "a@x.example.jp")
	r.put(a)
	d := &a.Deliveries[0]
	if err := wait(func(done func(error)) { r.SettleQueued(delivered(d, now), done) }); err != nil {
		t.Fatal(err)
	}
	for _, again := range []func(mail.Settlement, func(error)){r.SettleQueued, r.Settle} {
		if err := wait(func(done func(error)) { again(delivered(d, now), done) }); !errors.Is(err, ErrNotQueued) {
			t.Errorf("settled twice: %v", err)
		}
	}
	if r.Waiting() != 0 {
		t.Errorf("waiting %d", r.Waiting())
	}
}

// TestCopiesShareAFate: copies of a message that come with it are refused with it where too few hold them, and exposed with
// it where that is allowed.
func TestCopiesShareAFate(t *testing.T) {
	r, f := newShippingRig(t)
	withCopy := func() *mail.Accepted {
		a := r.message("text", "a@x.example.jp")
		a.With = []*mail.Accepted{r.message("another text", "b@y.example.jp")}
		return a
	}
	before := f.standing()
	f.set(false, short)
	refused := withCopy()
	if err := wait(func(done func(error)) { r.Put(refused, done) }); !errors.Is(err, ErrShort) {
		t.Fatalf("put: %v", err)
	}
	left := f.standing()
	maps.DeleteFunc(left, func(k, _ string) bool { return k[0] == kindDataKey })
	maps.DeleteFunc(before, func(k, _ string) bool { return k[0] == kindDataKey })
	if d := differs(before, left); d != "" || r.Waiting() != 0 {
		t.Errorf("%d wait, left behind: %s", r.Waiting(), d)
	}
	f.set(false, func(uint64) (bool, error) { return true, nil })
	exposed := withCopy()
	r.put(exposed)
	if n := r.ExposedCount(); n != 2 {
		t.Errorf("%d messages exposed, want both", n)
	}
	r.settle(exposed.Deliveries[0])
	r.settle(exposed.With[0].Deliveries[0])
	if n := r.ExposedCount(); n != 0 {
		t.Errorf("%d messages exposed when all are gone", n)
	}
}
