package queue

import (
	"bytes"
	"context"
)

const (
	probeRounds = 8
	probeSize   = 1024
	// A synced record dirties a page in each of the two logs, and some metadata; above this the kernel writes
	// much more than it was given.
	probeLimit = 64 << 10
)

// probe measures at start what one synced record costs in bytes written, and warns where the mapping advice does not
// help: it would wear the disk out and halve the rate. Other work of the process counts into it, so it only warns.
func (s *Store) probe() {
	before, ok := bytesWritten()
	if !ok {
		return
	}
	value := bytes.Repeat([]byte{0xa5}, probeSize)
	for i := range probeRounds {
		err := s.submitAndWait(context.Background(), func(r *request) {
			if i < probeRounds-1 {
				r.set([]byte{kindProbe}, value)
			} else {
				r.del([]byte{kindProbe})
			}
		})
		if err != nil {
			return // the store says so itself
		}
	}
	after, _ := bytesWritten()
	s.written = (after - before) / probeRounds
	if s.written > probeLimit {
		s.log.Warn("disk writes are amplified: try a smaller read-ahead of the device (blockdev --setra 128)",
			"bytes_per_synced_record", s.written)
	}
}
