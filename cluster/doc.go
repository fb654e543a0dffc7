// Package cluster makes the members agree: it runs raft below the ledger, passes proposals to whoever leads, and grants and
// checks the leases under which queue lineages are delivered. A node alone runs the same code with itself as the only
// voter, in its own process, without a network and with leases that always hold.
//
// It carries bytes that it does not understand beyond the ledger's commands. It must never know mail, never let a disk that
// does not answer keep a leader, never report a proposal as done before this many members have it on disk that no single
// loss undoes it, never call a lease valid that another may already hold, and never act on gossip alone.
//
// Read DESIGN.md first, then cluster.go (what it is made of), propose.go and lease.go (what it is for).
package cluster
