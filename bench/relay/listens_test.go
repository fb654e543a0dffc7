package relay

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := listens(t.Context(), addr, listenWait); err != nil {
		t.Errorf("something listens: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := listens(ctx, addr, listenWait); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if err := listens(t.Context(), addr, poll/2); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("nothing listens: %v", err)
	}
}
