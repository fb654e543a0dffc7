// Package events is the event log: every commit of the store carries one block with all that happened in it, packed,
// compressed and sealed, and a small index record of fingerprints by which a message id or a recipient is found
// without opening the blocks. Logs, traces, bounces, webhooks and counters read it by Search and Follow.
//
// It never writes by itself: the store's committer builds a block with a Builder and puts its records into the commit
// that makes the events true, so the log cannot differ from the queue. It must never let an address reach the disk
// outside a sealed record. Read Builder (how a block comes to be), then Search.
package events
