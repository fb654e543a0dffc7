// Package protocol is what destinations, sources and their sessions say to one another, and what they need from the
// other rooms. It is values and interfaces only: it must never decide, block or start anything. Read the drawing
// first, then dialogue.go for the messages and outbox.go for the part that is not said but shared.
//
//	registry          destination actor             source actor              session (goroutine)
//	   │ push into the outbox │                          │                          │
//	   │── Arrived ──────────▶│ (only when nobody works  │                          │
//	   │   the outbox, or it outgrows those who do)      │                          │
//	   │                      │── Ask{outbox, want} ────▶│                          │
//	   │                      │                          │── assign a parked one ──▶│
//	   │                      │                          │   or start a new one ───▶│── Join(outbox)
//	   │                      │◀── Refused{why, until} ──│                          │── Take, Settle … (no message)
//	   │                      │◀── Arrived ──────────────┼──────────────────────────│   window half empty, more on disk
//	   │                      │                          │◀── Reported ─────────────│── Leave
//	   │                      │◀── Troubled{report} ─────┼──────────────────────────✗
//
// An Ask is a tell that names where the answer goes: the grant is written on the outbox itself (Join), because waking
// the destination for it would cost as much as the mail. Every Ask carries a deadline after which both sides forget
// it. A grant is a number of messages and a moment; both run out by themselves, and the session that holds it asks its
// source's book for more before it goes on (Renew of the design: a short critical section, not a message).
package protocol
