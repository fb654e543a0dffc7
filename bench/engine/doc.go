// Package engine runs an ekiden as its own process on loopback for measurements and demonstrations, and reads what it
// says of itself at /metrics.
//
// It knows the engine only by contract.md: the node file, the ready line, the HTTP paths. It must never import a room
// of the engine, and nothing here decides whether mail was lost.
package engine
