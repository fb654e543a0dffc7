// Package smtpc is one outbound SMTP session: greeting, EHLO, STARTTLS, then transactions for as long as there is
// work, each pipelined into one round trip where the receiver can take it.
//
// A session must never send a final dot (or BDAT LAST) before every earlier outcome on its connection is durable and
// the owner of the message has cleared it, never QUIT behind a dot, never write a byte of a message that
// smtp.CheckData refuses, and never go on over a connection whose replies are out of step. It resolves nothing, dials
// nothing and decides nothing about retries. Read Work (what a session is given) and Session.Carry first.
package smtpc
