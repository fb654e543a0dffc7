// Package demo shows a relay at work: an engine with several source IPs, the carriers and providers as a pretend
// internet with their limits hidden, and a realistic mix of mail between them, all on loopback with real SMTP.
//
// It ends well only when every accepted message has a final outcome and ledger and record agree. It must never claim
// what was not counted, and must leave nothing behind.
//
// Read first: demo.go (the run), world.go (who receives what), display.go (what is shown).
package demo
