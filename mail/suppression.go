package mail

// Suppression says why an address gets no mail of a tenant (requirement E-42).
type Suppression struct {
	Status Status // 2 on the black box (requirement R103), 10 on the block list, 11 unsubscribed
	Detail string // our words, without the address; at most 200 octets
}

// Event completes e as the end of a delivery that is not attempted for this reason.
func (s Suppression) Event(e Event) Event {
	e.Kind, e.Stage, e.Status, e.Detail = EventSuppressed, StageNone, s.Status, s.Detail
	return e
}
