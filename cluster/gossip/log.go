package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// maxLines is how many lines of memberlist are logged per second: it writes one for every packet that does not open, and
// anybody can send those.
const maxLines = 5

// logWriter turns memberlist's lines, "[WARN] memberlist: …", into records. Its errors become warnings: it calls so what
// happens whenever a machine is switched off.
type logWriter struct {
	log *slog.Logger

	mu     sync.Mutex
	second time.Time // when the current second began
	lines  int       // since then
	missed int
}

func newLogWriter(log *slog.Logger) *logWriter { return &logWriter{log: log} }

func (w *logWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(bytes.ToValidUTF8(line, []byte("?"))))
	level := slog.LevelWarn
	if tag, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(tag, "[") {
		text = rest
		switch tag {
		case "[DEBUG":
			level = slog.LevelDebug
		case "[INFO":
			level = slog.LevelInfo
		}
	}
	if !w.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	missed, ok := w.may()
	if !ok {
		return len(line), nil
	}
	text = "gossip: " + strings.TrimPrefix(text, "memberlist: ")
	if missed > 0 {
		w.log.Log(context.Background(), level, text, "not_logged", missed)
	} else {
		w.log.Log(context.Background(), level, text)
	}
	return len(line), nil
}

// may tells whether a line may be logged, and how many were not since the last one that was.
func (w *logWriter) may() (missed int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.second.IsZero() || clock.Since(w.second) >= time.Second {
		w.second, w.lines = clock.Wall(), 0
	}
	if w.lines++; w.lines > maxLines {
		w.missed++
		return 0, false
	}
	missed, w.missed = w.missed, 0
	return missed, true
}
