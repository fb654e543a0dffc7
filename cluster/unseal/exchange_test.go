package unseal

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

type member struct {
	asked   Status
	refusal error
}

func (m *member) Status() Status {
	return Status{Name: "n1", Address: "127.0.0.1:1", State: StateUnsealed, Store: "s", Known: []string{"127.0.0.1:2"}}
}

func (m *member) Release(peer Status, _ string) (*Share, error) {
	if m.asked = peer; m.refusal != nil {
		return nil, m.refusal
	}
	return &Share{Store: "s", Key: bytes.Repeat([]byte{7}, 32), Recovery: []byte("file")}, nil
}

func (m *member) Next(peer Status) (*Share, error) {
	s, err := m.Release(peer, "")
	if err == nil {
		s.InForce = true
	}
	return s, err
}

func (m *member) Recovery() []byte { return []byte("file") }

// dial is a connection to m by a peer whose certificate says n2.
func dial(t *testing.T, m Member) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = Serve("n2", c, m, time.Now)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExchange(t *testing.T) {
	m := &member{}
	own := Status{Name: "liar", State: StateSealed, Store: "s"}
	s, err := AskStatus(dial(t, m), own, time.Now())
	if err != nil || s.State != StateUnsealed || len(s.Known) != 1 {
		t.Fatalf("status %+v, %v", s, err)
	}
	share, err := AskKey(dial(t, m), own, "s", time.Now())
	if err != nil || len(share.Key) != 32 || share.Store != "s" || string(share.Recovery) != "file" {
		t.Fatalf("share %+v, %v", share, err)
	}
	if m.asked.Name != "n2" {
		t.Fatalf("the member believed the name %q, not the certificate", m.asked.Name)
	}
	if next, err := AskNext(dial(t, m), Status{InUse: 3}, time.Now()); err != nil || !next.InForce || share.InForce || m.asked.InUse != 3 {
		t.Fatalf("next share %+v of %+v, %v", next, m.asked, err)
	}
	if file, err := AskRecovery(dial(t, m), own, time.Now()); err != nil || string(file) != "file" {
		t.Fatalf("recovery %q, %v", file, err)
	}
	m.refusal = errors.New("gone for too long")
	if _, err := AskKey(dial(t, m), own, "s", time.Now()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "gone for too long") {
		t.Fatalf("refusal: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a answer
		_ = read(bytes.NewReader(data), &a)
		var q ask
		_ = read(bytes.NewReader(data), &q)
	})
}
