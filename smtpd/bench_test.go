package smtpd

import (
	"io"
	"strings"
	"testing"
)

// TestAllocationsPerMessage holds what one message of a kept session costs in allocations.
func TestAllocationsPerMessage(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	r.box.mu.Lock()
	r.box.drop = true
	r.box.mu.Unlock()
	c := r.dial(t, 0).hello()
	message := []byte("MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nSubject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 80) + ".\r\n")
	// four replies, whose length does not vary
	replies := make([]byte, len("250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n354 End data with <CR><LF>.<CR><LF>\r\n")+
		len("250 2.0.0 OK id=000000010000000000000002\r\n"))
	got := testing.AllocsPerRun(500, func() {
		if _, err := c.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.r, replies); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%.1f allocations per message", got)
	if got > 8+slack {
		t.Fatalf("%.1f allocations per message", got)
	}
}
