// Package relay measures an ekiden as contract 9 says: engine, load and sink are separate processes on one machine,
// everything the engine does for safety is on, and time runs from the first MAIL to the last message at the sink.
//
// Rates, losses and duplicates come from the ledger of 250s and the sink's record, cost from the kernel. It must never
// take the engine's word where those can speak, and must leave no process and no data behind.
//
// Read first: relay.go (one run), backlog.go (receivers down, a million waiting), figures.go (the table).
package relay
