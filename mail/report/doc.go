// Package report is mail about mail: it composes the bounce mail that tells a customer of a failure, and reads the
// reports that receivers send back.
//
// Composing is pure: time and identifiers are arguments. It must never send, store or decide whom to believe. Reading is bounded in depth, parts and octets, because whoever
// likes may send a report (threat T9); what it reads is a claim.
package report
