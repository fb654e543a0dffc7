// Package faults hurts a running ekiden from outside and looks whether it kept its promises: kill -9 under load, power
// cuts, a full disk, failing syncs, thousands of slow clients, receivers that fall silent behind the dot, members of a
// cluster that die, sleep, or are cut off from one another.
//
// Verdicts on loss, copies and changed bytes come from the client's ledger of 250s and the sink's record alone; what the
// engine says of itself only tells when to look. Every schedule follows from a seed that is printed. It must never leave
// a process, a mount, a loop device or a network namespace behind, and never touch what it did not make.
//
// Read first: config.go, life.go (an engine with its ledger and record), then a fault: kill.go, power.go, full.go,
// fsync.go, slow.go, dot.go; of clusters: trio.go, then takeover.go, asleep.go, rolling.go, partition.go, stop.go.
package faults
