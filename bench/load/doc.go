// Package load injects mail into a relay as its customers do: paced, over many sessions, every message unique, and
// with a ledger that holds one line per 250, written before the next word is said. What the ledger holds is what the
// relay promised; verdicts on loss are made from it.
//
// It must never count a message as accepted without its 250, never import a room of the house but internal/clock,
// and must cost little: it shares its cores with what it measures.
//
// Read first: config.go, session.go (the dialogue), message.go (what is sent), ledger.go.
package load
