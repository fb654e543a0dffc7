package queue

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

func TestDiskFull(t *testing.T) {
	r := newRig(t)
	a := r.message("x", "a@x.example.jp")
	r.put(a)
	free := r.Usage().Free
	if free == 0 {
		t.Skip("free space is not known here")
	}
	r.threshold(math.MaxUint64 / 2) // more than any disk has
	r.lookAtSpace(free)
	err := wait(func(done func(error)) { r.Put(r.message("x", "a@x.example.jp"), done) })
	if !errors.Is(err, ErrDiskFull) || !r.Usage().Full {
		t.Errorf("put on a full disk: %v", err)
	}
	d := r.later(a.Deliveries[0], far(r.cfg.Clock.Now()))
	r.settle(d) // what is under way goes on
	r.threshold(1)
	r.lookAtSpace(free)
	r.put(r.message("x", "a@x.example.jp"))
}

func TestBallast(t *testing.T) {
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Ballast = 1 << 20
	r.open()
	path := filepath.Join(r.cfg.Dir, "ballast")
	info, err := os.Stat(path)
	if err != nil || allocated(info) < r.cfg.Ballast {
		t.Fatalf("ballast: %v, %v", info, err)
	}
	r.threshold(100 << 20)
	r.lookAtSpace(10 << 20)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("ballast kept on a full disk: %v", err)
	}
	r.lookAtSpace(1 << 30)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("ballast not laid out again: %v", err)
	}
	r.reopen()
	if r.Waiting() != 0 {
		t.Error("ballast disturbs the store")
	}
}

// TestDamage writes damaged and exchanged records into the store, as somebody with the disk in hand could, and asks
// that nothing of it is handed out and that everything else goes on.
func TestDamage(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	var all []*mail.Accepted
	for i := range 8 {
		a := r.message(fmt.Sprintf("body %d %s", i, strings.Repeat("x", 600)), mail.Address(fmt.Sprintf("u%d@x.example.jp", i)))
		r.put(a)
		all = append(all, a)
	}
	key := func(i int) string {
		at := r.spotOf(&all[i].Deliveries[0])
		return string(appendSpot(nil, &at))
	}
	body := func(i int) string { return string(appendMessageKey(nil, kindBody, r.Lineage(), all[i].ID)) }
	values := map[string][]byte{}
	if err := r.db.View(func(txn *badger.Txn) error {
		for i := range all {
			for _, k := range []string{key(i), body(i)} {
				item, err := txn.Get([]byte(k))
				if err != nil {
					return err
				}
				if values[k], err = item.ValueCopy(nil); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(values[key(0)])
	flipped[len(flipped)/2] ^= 1
	elsewhere := r.spotOf(&all[5].Deliveries[0])
	elsewhere.at.due += 1000
	for k, v := range map[string][]byte{
		key(0): flipped, key(1): values[key(2)], key(2): values[key(1)], key(3): {}, // deliveries 0-3
		body(4): values[body(6)], body(6): values[body(4)], // bodies exchanged
		string(appendSpot(nil, &elsewhere)): values[key(5)], // a second key for delivery 5
	} {
		req := r.newRequest(func(error) {})
		req.set([]byte(k), v)
		if err := wait(func(done func(error)) { req.done = done; r.submit(req) }); err != nil {
			t.Fatal(err)
		}
	}
	ds := r.scan("x.example.jp", Cursor{}, far(now), 99)
	if len(ds) != 4 {
		t.Errorf("%d deliveries scanned, want 4", len(ds))
	}
	for _, d := range ds {
		i := int(d.To[1] - '0')
		b, err := r.Body(d.Message)
		switch {
		case i == 4 || i == 6:
			if !errors.Is(err, ErrTampered) {
				t.Errorf("exchanged body: %q, %v", b, err)
			}
		case err != nil || !bytes.Equal(b, all[i].Body) || d.Seq != all[i].ID.Seq:
			t.Errorf("delivery %d: %v, body %.10q", i, err, b)
		}
	}
	r.reopen()
	if n := len(r.keys(kindQuarantine)); n != 5 {
		t.Errorf("%d records in quarantine, want 5", n)
	}
	if ds := r.scan("x.example.jp", Cursor{}, far(now), 99); len(ds) != 4 || r.Waiting() != 4 {
		t.Errorf("after a restart %d deliveries, %d waiting", len(ds), r.Waiting())
	}
}

func TestWrongKey(t *testing.T) {
	r := newRig(t)
	r.put(r.message("x", "a@x.example.jp"))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	wrong := r.cfg
	wrong.Ring = r.ring(bytes.Repeat([]byte{8}, seal.KeySize))
	if s, err := Open(wrong); err == nil {
		_ = s.Close()
		t.Error("store opened with another root key")
	} else if !errors.Is(err, seal.ErrWrappedKey) {
		t.Errorf("error %v", err)
	}
	r.open() // nothing was changed by the attempt
	if r.Waiting() != 1 {
		t.Errorf("waiting %d", r.Waiting())
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t)
	a := r.message("x", "a@x.example.jp")
	answered := make(chan error, 1)
	r.Put(a, func(err error) { answered <- err })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("put before the close: %v", err)
	}
	if err := wait(func(done func(error)) { r.Put(r.message("x", "a@x.example.jp"), done) }); !errors.Is(err, ErrClosed) {
		t.Errorf("put after the close: %v", err)
	}
	if _, _, _, _, err := r.Scan(shop("x.example.jp"), Cursor{}, r.cfg.Clock.Now(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("scan after the close: %v", err)
	}
	if _, err := r.Body(a.ID); !errors.Is(err, ErrClosed) {
		t.Errorf("body after the close: %v", err)
	}
	r.open()
	if r.Waiting() != 1 {
		t.Errorf("waiting %d", r.Waiting())
	}
}

// TestLostValues lets Badger report, while a value log is being collected, that one could not be synced. It must not go
// on to delete what it has moved there: its writer stays where it is, and neither who commits nor who closes waits for it.
func TestLostValues(t *testing.T) {
	r := newRig(t)
	r.put(r.message("x", "a@x.example.jp"))
	r.collecting.Store(true)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		r.db.Opts().Logger.Errorf("Error while curlf sync: %v\n", errors.New("no space left on device"))
	}()
	<-r.stuck
	if err := wait(func(done func(error)) { r.Put(r.message("y", "b@x.example.jp"), done) }); !errors.Is(err, ErrFailed) {
		t.Errorf("put: %v, want ErrFailed", err)
	}
	if err := r.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v, want ErrFailed", err)
	}
	select {
	case <-wrote:
		t.Error("the writer went on")
	default:
	}
	if err := r.db.Close(); err != nil { // nothing of it is stuck in this test
		t.Error(err)
	}
}
