//go:build !linux

package queue

import (
	"io/fs"
	"math"
	"os"
)

// Elsewhere the store works without advice to the kernel, and without a guard of the free space.
type fileWatch struct{}

func (s *Store) watchFiles()   {}
func (s *Store) stopWatching() {}
func (s *Store) adviseRandom() {}

func bytesWritten() (int64, bool) { return 0, false }

func diskSpace(string) (free, total uint64, err error) { return math.MaxInt64, math.MaxInt64, nil }

func reserve(path string, size int64) error { return os.Truncate(path, size) }

func allocated(info fs.FileInfo) int64 { return info.Size() }

func (s *Store) reserveLog(string, int64) error { return nil }
