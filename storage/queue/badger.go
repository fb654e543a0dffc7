package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// logger receives what Badger says. Badger reports a failed sync of the value log nowhere else, and goes on to write
// the records that point there: such a line is the end of the store.
type logger struct {
	log  *slog.Logger
	fail func(error)
	lost func() // may not return
}

// lostValues begins the line by which Badger's valueLog.write tells that it could not sync.
const lostValues = "Error while curlf sync"

// Errorf logs, and fails the store where the line tells of a write that may not be on disk.
func (l *logger) Errorf(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Error("badger", "line", line)
	if lostWrite(line) {
		l.fail(fmt.Errorf("badger: %s", line))
	}
	if strings.HasPrefix(line, lostValues) {
		l.lost()
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

// keepCollected is called by Badger's writer when a value log could not be synced. What a commit wrote then was promised
// to nobody. But a collection moves what was: going on would point the records at the new place and delete the old one.
// So the writer stays here for good while one is running, and whoever waits for it hears of it by s.stuck.
func (s *Store) keepCollected() {
	if !s.collecting.Load() {
		return
	}
	s.sticky.Do(func() { close(s.stuck) })
	select {}
}

// commitTxn commits a transaction and waits until it is durable. One that is stuck never ends.
func (s *Store) commitTxn(txn *badger.Txn) error {
	done := make(chan error, 1)
	txn.CommitWith(func(err error) { done <- err })
	select {
	case err := <-done:
		// A failed sync of the value log is only logged by Badger, before the commit ends: see logger.
		return errors.Join(err, s.Err())
	case <-s.stuck:
		return s.Err()
	}
}

// isStuck tells whether a goroutine of Badger waits for good.
func (s *Store) isStuck() bool {
	select {
	case <-s.stuck:
		return true
	default:
		return false
	}
}
