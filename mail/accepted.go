package mail

// Accepted is a message that intake has made work of, on its way into the store.
type Accepted struct {
	ID         MessageID
	Deliveries []Delivery // to be queued; consecutive Seq from ID.Seq on, with gaps where an address was malformed
	Body       []byte     // as it goes out; owned by the store from Put on, never changed
	Events     []Event    // EventAccepted for every recipient, and the final event of those that are not queued
	Key        string     // idempotency key and a digest of the recipients, "" = none; unique per tenant for 24 h (N10)
	Tenant     string
	// With is what is stored in the same commit, each for one recipient: copies of the message that differ from Body, and mail
	// of our own, the bounces of what ended here. Whoever stores a offers them.
	With []*Accepted
}

// Settlement closes one attempt: what happened, and what is left to do.
type Settlement struct {
	Delivery *Delivery // as it is stored now
	Event    Event
	Next     *Delivery // the same delivery as it waits from now on; nil = final, its record goes
	With     *Accepted // mail of our own that is stored in the same commit: the bounce; nil = none
}
