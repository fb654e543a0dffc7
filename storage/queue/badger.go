package queue

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger receives what Badger says. Badger reports a failed sync of the value log nowhere else, and goes on to
// acknowledge the commit: such a line is the end of the store.
type logger struct {
	log  *slog.Logger
	fail func(error)
}

// Errorf logs, and fails the store where the line tells of a write that may not be on disk.
func (l *logger) Errorf(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Error("badger", "line", line)
	if lostWrite(line) {
		l.fail(fmt.Errorf("badger: %s", line))
	}
}

// lostWrite tells whether a line of Badger's log means that data may not have reached the disk. A table that could not
// be flushed or compacted is written anew from what is safe, so its line alone is no loss; an I/O error always is.
func lostWrite(line string) bool {
	line = strings.ToLower(line)
	return strings.Contains(line, "sync") || strings.Contains(line, "input/output error")
}

// Warningf, Infof and Debugf log. What Badger tells of its files while it works is of use to a developer only.
func (l *logger) Warningf(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Warn("badger", "line", line)
	if lostWrite(line) {
		l.fail(fmt.Errorf("badger: %s", line))
	}
}

// Infof drops the line.
func (l *logger) Infof(string, ...any) {}

// Debugf drops the line.
func (l *logger) Debugf(string, ...any) {}
