// Package remnant takes away what a crash leaves of a file that was about to be written. It must never touch a file
// that holds an octet.
package remnant

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Clear deletes the files of dir that are empty and end in one of the extensions (".mem"), without those of directories
// below. Badger makes its write-ahead and value logs empty and then lets them grow; one that it finds empty it refuses
// to open, and the database with it (dgraph-io/badger#2207). Nothing was ever promised from such a file. A dir that does
// not exist is empty.
func Clear(dir string, extensions ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !slices.Contains(extensions, filepath.Ext(e.Name())) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("delete an empty log: %w", err)
		}
	}
	return nil
}
