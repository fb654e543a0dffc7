package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSilentDotsHoldUpNobody: a receiver that does not answer some final dots keeps those connections busy for minutes;
// the other mail goes over others.
func TestSilentDotsHoldUpNobody(t *testing.T) {
	over := make(chan struct{})
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "dot" && strings.HasPrefix(arg, "slow") {
			<-over
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	t.Cleanup(func() { close(over) })
	c := r.session()
	const n = 80
	quick := 0
	for i := range n {
		who := "quick"
		if i%4 == 0 {
			who = "slow"
		} else {
			quick++
		}
		c.mustSend(text(""), fmt.Sprintf("%s%d@d%d.test", who, i, i%3))
	}
	begin := r.now()
	mustBecome(t, "quick mail delivered", func() bool {
		r.advance(100 * time.Millisecond)
		sink.mu.Lock()
		defer sink.mu.Unlock()
		got := 0
		for _, m := range sink.messages {
			if strings.HasPrefix(m.to, "quick") {
				got++
			}
		}
		return got == quick
	})
	if took := r.now() - begin; took > 60 {
		t.Errorf("mail that could be delivered waited %d s behind dots that are not answered", took)
	}
}
