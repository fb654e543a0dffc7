// Package sink is a pretend internet: a hand-written SMTP server that answers as receivers do (docomo, au, softbank,
// gmail …), with their limits hidden from the sender, and that records every message it takes.
//
// It is the outside witness of every test: it knows nothing of the engine, it checks the bytes of each message by
// itself (the outbound oracle), and its record and its counters are what verdicts on loss, duplicates and exceeded
// limits are made from. It must never import a room of the house but internal/clock, never relay, and never keep
// mail. Being on the same cores as what it measures, it must also be cheap: one read and one write per message.
//
// Read first: model.go (what a receiver is), session.go (the dialogue), content.go (the oracle).
package sink
