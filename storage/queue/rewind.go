package queue

import "github.com/ekiden-mta/ekiden/mail"

// Rewind returns the cursor from which a scan meets both d and everything behind c: c itself where d lies behind it
// already, else the position just before d.
func Rewind(c Cursor, d *mail.Delivery) Cursor {
	if !c.set {
		return c
	}
	at := After(d)
	if at.inv > c.inv || at.inv == c.inv && c.at.less(at.at) {
		return c
	}
	at.at.seq--
	return at
}
