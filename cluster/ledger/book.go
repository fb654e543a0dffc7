package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/ekiden-mta/ekiden/internal/remnant"
)

// book is one Badger of the ledger. A restore makes a new one beside it and then puts it in its place.
type book struct {
	db    *badger.DB
	path  string
	users sync.WaitGroup // long readers; a book that was replaced is closed after the last
}

const (
	bookPrefix  = "book-"
	currentFile = "current"

	memTableSize  = 32 << 20
	tableSize     = 4 << 20
	indexCache    = 64 << 20
	baseLevelSize = 2 << 30
	valueLogSize  = 16 << 20
)

// bookOptions is how Badger serves the ledger.
//
// SyncWrites is true although raft's log is the truth and the number of the last entry travels with the state. It would
// be enough that Badger lost the end of what was written; but it does not sync a memtable's log when it begins the next
// one. After a power cut the later log may be whole where the earlier one has lost its end: the mark would say that
// entries were applied that are gone. The syncs are shared by a batch, and a power cut needs no replay.
//
// ValueThreshold is above every value, so that nothing lies in the value log, which has a garbage collection of its own
// and reports a failed sync to the logger only. Values are sealed: they do not compress, and no block cache is needed
// where blocks are used as they lie in the page cache. Tables are of one size on all levels: Badger builds each in memory
// twice as large, up to a dozen at a time, and would make those of the last level 64 times as large in a restore.
// Level 0 may hold more tables than Badger's defaults, and there is one level below it up to baseLevelSize (some 13 million
// suppressions): names are spread over the whole key range, so each compaction of an import rewrites all that lies below, once
// for every level. With 16 tables ten million suppressions are compacted three times, with 32 once, at six million; look-ups
// that find something take as long (27 instead of 25 us, of five million), with 64 twice as long. With levels of 64 MB, 640 MB and
// so on an import took a third more processor time. Where level 0 were ever full up to its stall, writes would wait for a
// whole compaction, renewals of leases among them: it has room for what comes while one runs.
// A book made with those goes on with the level it has above the last one, which drains only once it has baseLevelSize.
func bookOptions(path string, log *logger) badger.Options {
	o := badger.DefaultOptions(path).
		WithSyncWrites(true).WithDetectConflicts(false).WithNumVersionsToKeep(1).
		WithValueThreshold(1 << 20).WithValueLogFileSize(valueLogSize).
		WithMemTableSize(memTableSize).WithNumMemtables(3).WithNumCompactors(2).WithBaseTableSize(tableSize).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(indexCache).
		WithNumLevelZeroTables(32).WithNumLevelZeroTablesStall(96).WithBaseLevelSize(baseLevelSize).
		WithMetricsEnabled(false).WithLogger(log)
	o.TableSizeMultiplier = 1
	return o
}

// openBook opens the book that dir names as the current one, or makes the first. Others are leftovers of a restore
// that did not end, or of one that did, and go.
func openBook(dir string, log *logger) (*book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name, err := os.ReadFile(filepath.Join(dir, currentFile))
	if errors.Is(err, os.ErrNotExist) {
		name = []byte(bookPrefix + "1")
		err = setCurrent(dir, string(name))
	}
	if err != nil {
		return nil, err
	}
	current := string(bytes.TrimSpace(name))
	if !strings.HasPrefix(current, bookPrefix) || current != filepath.Base(current) {
		return nil, fmt.Errorf("%s names no book: %q", filepath.Join(dir, currentFile), current)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), bookPrefix) && e.Name() != current {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return newBook(filepath.Join(dir, current), log)
}

func newBook(path string, log *logger) (*book, error) {
	if err := remnant.Clear(path, ".mem", ".vlog"); err != nil {
		return nil, err
	}
	db, err := badger.Open(bookOptions(path, log))
	if err != nil {
		return nil, err
	}
	return &book{db: db, path: path}, nil
}

// setCurrent makes dir name another book, in one step that survives a power cut.
func setCurrent(dir, name string) error {
	final := filepath.Join(dir, currentFile)
	f, err := os.OpenFile(final+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(final+".new", final); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// logger receives what Badger says. A line that tells of a write that may not have reached the disk ends the store.
type logger struct {
	log  *slog.Logger
	fail func(error)
}

// Errorf logs, and fails the store where data may not be on disk.
func (l *logger) Errorf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Warningf does the same.
func (l *logger) Warningf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Infof drops the line: it tells of Badger's files at work.
func (l *logger) Infof(string, ...any) {}

// Debugf drops the line.
func (l *logger) Debugf(string, ...any) {}

func (l *logger) say(level slog.Level, format string, args []any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Log(context.Background(), level, "badger", "line", line)
	if lower := strings.ToLower(line); strings.Contains(lower, "sync") || strings.Contains(lower, "input/output error") {
		l.fail(fmt.Errorf("badger: %s", line))
	}
}
