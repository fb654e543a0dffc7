// Package queue is the store of accepted mail: deliveries in the order they fall due, bodies kept once, and in the same
// commits the event log and the counters. It owns the node's one Badger, and one goroutine, the committer, writes it.
//
// What Put or Settle reported done without an error survives kill -9 and a power cut. After a failed write or sync the
// store is failed for good: it answers nothing but ErrFailed until the process is restarted, because what a second
// fsync says after a failed one proves nothing. It must never write a byte of mail, an address or a name unsealed,
// never acknowledge before the commit, and never walk what was deleted. It decides nothing about delivery.
//
// Read Store.Put and committer.go first, then Store.Scan; storage/DESIGN.md has the layout of the records.
package queue
