package load

import (
	"encoding/hex"
	"fmt"
	"os"
	"time"
)

// ledger appends one line per 250 with one system call, before the session says its next word. Fields, separated by
// one space: token, time of the 250 (RFC 3339, nanoseconds, UTC), SHA-256 of the message as sent, Message-ID, time of
// its MAIL, SHA-256 without the steering headers a relay removes, recipients separated by commas.
type ledger struct{ f *os.File }

func openLedger(path string) (*ledger, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("load: open ledger: %w", err)
	}
	return &ledger{f}, nil
}

func (l *ledger) close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}

func appendLine(b []byte, m *letter, at time.Time) []byte {
	b = append(b, m.token...)
	b = append(b, ' ')
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ')
	b = hex.AppendEncode(b, m.sum[:])
	b = append(b, " <"...)
	b = append(b, m.token...)
	b = append(b, "@load.example> "...)
	b = m.mailAt.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ')
	b = hex.AppendEncode(b, m.content[:])
	b = append(b, ' ')
	for i, r := range m.rcpts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r...)
	}
	return append(b, '\n')
}
