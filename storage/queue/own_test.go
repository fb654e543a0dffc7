package queue

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// What a settlement or a message brings with it is there after a restart exactly where the other is.
func TestOwnMailIsStoredWithItsCause(t *testing.T) {
	r := newRig(t)
	now := time.Now().Truncate(time.Millisecond)
	own := func(to mail.Address) *mail.Accepted {
		a := newMessage(r.Store, now, []byte("bounce\r\n"), to)
		a.Deliveries[0].Own, a.Events[0].Own = true, true
		return a
	}
	first := r.message("mail", "gone@a.example", "fine@a.example")
	first.With = []*mail.Accepted{own("one@shop.example")}
	r.put(first)
	second := own("two@shop.example")
	s := delivered(&first.Deliveries[0], now)
	s.Event.Kind, s.With = mail.EventFailed, second
	if err := wait(func(done func(error)) { r.Settle(s, done) }); err != nil {
		t.Fatal(err)
	}
	s.With = own("never@shop.example") // settled twice: refused, and so is what comes with it
	if err := wait(func(done func(error)) { r.SettleQueued(s, done) }); err == nil {
		t.Fatal("settled twice")
	}
	r.reopen()
	got := r.scan("shop.example", Cursor{}, now.Add(time.Hour), 10)
	if len(got) != 2 || !got[0].Own || !got[1].Own {
		t.Fatalf("queued: %+v", got)
	}
	for _, d := range got {
		if b := r.body(d.Message); b != "bounce\r\n" {
			t.Errorf("body %q", b)
		}
	}
	if n := r.scan("a.example", Cursor{}, now.Add(time.Hour), 10); len(n) != 1 || n[0].To != "fine@a.example" {
		t.Errorf("left: %+v", n)
	}
}
