package cluster

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// sickDisk is a disk whose writes can be made to hang or to fail.
type sickDisk struct {
	disk
	mu   sync.Mutex
	hung chan struct{} // writes wait for it to close
	err  error
}

func (d *sickDisk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hung == nil {
		d.hung = make(chan struct{})
	}
}

func (d *sickDisk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *sickDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hung != nil {
		close(d.hung)
		d.hung = nil
	}
	d.err = nil
}

func (d *sickDisk) wait() error {
	d.mu.Lock()
	hung := d.hung
	d.mu.Unlock()
	if hung != nil {
		<-hung
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *sickDisk) StoreLogs(logs []*raft.Log) error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.disk.StoreLogs(logs)
}

func (d *sickDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *sickDisk) Set(k, v []byte) error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.disk.Set(k, v)
}

func (d *sickDisk) SetUint64(k []byte, v uint64) error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.disk.SetUint64(k, v)
}

func (d *sickDisk) IsMonotonic() bool { return true }

func newSickStore(t *testing.T) (*sickDisk, *patientStore) {
	t.Helper()
	d, err := openDisk(t.TempDir(), testLog("disk"))
	if err != nil {
		t.Fatal(err)
	}
	s := &sickDisk{disk: d}
	p := newPatientStore(s, 50*time.Millisecond, testLog("disk"))
	t.Cleanup(func() {
		s.heal()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, p
}

func entryAt(i uint64) *raft.Log { return &raft.Log{Index: i, Term: 1, Data: []byte("x")} }

func TestPatientStoreGivesUpOnAHangingDisk(t *testing.T) {
	d, p := newSickStore(t)
	if err := p.StoreLog(entryAt(1)); err != nil || p.Sick() {
		t.Fatalf("well disk: %v, sick %v", err, p.Sick())
	}
	d.hang()
	began := time.Now()
	if err := p.StoreLog(entryAt(2)); !errors.Is(err, ErrDisk) {
		t.Fatalf("hanging disk: %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Fatalf("waited %v", took)
	}
	began = time.Now()
	if err := p.Set([]byte("LastVoteCand"), []byte("a")); !errors.Is(err, ErrDisk) {
		t.Fatalf("a vote behind a hanging write: %v", err)
	}
	if took := time.Since(began); took > 40*time.Millisecond {
		t.Fatalf("a sick store waited %v", took)
	}
	if err := p.SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatalf("a term, which raft cannot be refused: %v", err)
	}
	if !p.Sick() || !p.SickWithin(time.Minute) {
		t.Fatal("the store thinks it is well")
	}

	d.heal()
	eventually(t, 20*time.Second, "the line worked off", func() bool { lapsed, drained := p.Lapsed(); return lapsed && drained })
	if err := p.StoreLog(entryAt(3)); !errors.Is(err, ErrDisk) {
		t.Fatalf("raft wrote before it was started anew: %v", err)
	}
	p.Renew()
	if p.Sick() || !p.SickWithin(time.Minute) {
		t.Fatal("after Renew the store must be well, and in quarantine")
	}
	if last, err := p.LastIndex(); err != nil || last != 2 {
		t.Fatalf("last index %d, %v: the write given up on had reached the disk", last, err)
	}
	if term, err := p.GetUint64([]byte("CurrentTerm")); err != nil || term != 9 {
		t.Fatalf("term %d, %v", term, err)
	}
	if err := p.StoreLog(entryAt(3)); err != nil {
		t.Fatal(err)
	}
}

func TestPatientStoreTriesAgainAfterAnError(t *testing.T) {
	d, p := newSickStore(t)
	d.fail(errors.New("input/output error"))
	for range 2 {
		if err := p.StoreLog(entryAt(1)); !errors.Is(err, ErrDisk) {
			t.Fatal(err)
		}
	}
	if err := p.SetUint64([]byte("CurrentTerm"), 3); err != nil {
		t.Fatalf("a term: %v", err)
	}
	if !p.Sick() {
		t.Fatal("the store thinks it is well")
	}
	d.heal()
	eventually(t, 20*time.Second, "a write that succeeds", func() bool { return p.StoreLog(entryAt(1)) == nil })
	if term, err := p.GetUint64([]byte("CurrentTerm")); err != nil || term != 3 {
		t.Fatalf("term %d, %v: an entry reached the disk before the term it depends on", term, err)
	}
	if p.Sick() || !p.SickWithin(time.Minute) {
		t.Fatal("the store must be well, and in quarantine")
	}
}
