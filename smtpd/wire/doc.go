// Package wire is the strict connection below go-smtp's server: a net.Conn that owns the bytes. It reads in large
// pooled buffers that it holds only while data is waiting, takes lines apart, refuses whatever two servers could read
// differently (bare CR, bare LF, NUL, odd ends of data), enforces limits and order of commands, takes message bodies
// from DATA and BDAT itself, terminates TLS and the PROXY protocol, and gathers replies into one write.
//
// Transactions are between the wire and its Policy, which finds here what the client wrote (Conn.Mail, Conn.Rcpt, Conn.Body).
// go-smtp above it sees greeting, EHLO, AUTH and QUIT, one plain, valid command at a time, and answers it. Package wire must
// never decide who may send what: that is its Policy's. Read Conn first, then command.go (which commands pass), answer.go
// (what is said) and data.go (what a body may hold); reactor.go serves the ordinary transactions of many connections at once.
package wire
