// Package unseal brings the root key to the members of a cluster: the first one draws it, the others ask for it, and so it
// is with each that follows.
//
// It decides who may found a cluster, who may be given the key and what a member does next in a rotation, and carries keys over
// a connection whose ends have proved who they are. It must never give a key to whom the stated conditions do not name, keep a key longer than it
// takes to hand it on, or write one to a log or an error. What a key is, it does not know: shares are opaque bytes.
//
//	asking node                         unsealed member
//	   │── status ────────────────────────▶│   name, state, whom it knows
//	   │◀──────────────────── status ──────│
//	   │── key ───────────────────────────▶│   Release: certificate, member, session dead, 15 minutes
//	   │◀──────── share, or a refusal ─────│   and the release stands in the audit log before it is sent
//	   │── next ──────────────────────────▶│   HandOver: certificate, member
//	   │◀── share, sealed under the former │   audited likewise
//
// Read Decide (who founds), Release (who is given the key) and Turn (a rotation) first.
package unseal
