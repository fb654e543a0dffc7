// Package replica keeps a second copy of a queue: the owner of a lineage ships every commit to k standbys, and each
// standby keeps what it was sent until it is asked for it or told to drop it.
//
// What is shipped are opaque changes of opaque records: keys set to values that the owner sealed. A standby never
// needs a key of encryption and never sees mail. It must never acknowledge before its fsync, never take a frame of an
// epoch below the one it knows, and never let a record come back that was deleted; an owner must never report a frame
// as held that fewer than k standbys acknowledged, unless its policy says so aloud.
//
// Read Config and Shipper for the owner, Store for the standby, Union for the takeover; DESIGN.md draws both sides and
// says why the log is cleaned at its head only.
package replica
