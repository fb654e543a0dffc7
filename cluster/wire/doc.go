// Package wire is the one TCP port on which members of a cluster speak: mutual TLS 1.3 under the cluster's own
// authority, where ALPN (RFC 7301) tells agreement, gossip, shipping, ledger, unseal and RPC apart, each with its version.
//
// It carries bytes it does not understand. It must never hand out a connection whose peer did not prove, with a
// certificate of this cluster's authority, who it is; never take a name from anything but that certificate; never let
// who has proved nothing hold more than a bounded number of connections, for a bounded time; and never speak TLS below
// 1.3 or resume a session, since what was valid yesterday is checked again today.
//
//	dialler                                      listener
//	  TCP, TLS 1.3: certificate, ALPN offers  ─▶  both certificates verified; the first offer that is served is chosen
//	  ◀─ answer: welcome | refused | unserved, and what is served instead
//	  the protocol's own bytes, both ways
//
// The answer exists because in TLS 1.3 a dialler's handshake ends before its certificate was looked at, and because
// TLS's own refusal of an ALPN offer does not say what would have been served.
//
// Read Wire first, then Wire.Dial, then Init, which makes an authority and its certificates.
package wire
