// Package ledger is the book that all members agree on: settings, suppression, the gates of delivery groups, leases and
// epochs of queue lineages, members, keys, tokens and accounts, and the audit trail of who changed what. It is a machine
// over numbered entries (Apply: state and entry in, writes and a result out, no clock, no chance, no I/O) and a store
// that runs the machine and keeps its state in a Badger of its own, with the number of the last entry in the same
// commit as that entry's changes.
//
// It must never know how entries are agreed on, never read a clock (time comes in the entry), never write a plaintext
// byte of a value or a name to disk, and never answer a look-up of suppression with "no" because it could not read.
//
// Read first: command.go (what can be said), machine.go (what it does), store.go (where it lies); cluster/DESIGN.md has
// the drawing.
package ledger
