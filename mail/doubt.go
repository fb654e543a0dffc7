package mail

// Doubt is what becomes of a delivery whose connection was lost after the final dot, before the receiver answered: it may
// have arrived, and to send it again may double it (capability N3). For mail that is not to be sent again Delivery.Dotted says
// on disk that the dot is about to go, so that a crash then is doubt as well.
type Doubt uint8

// The ways out of doubt.
const (
	DoubtRetry  Doubt = iota // sent again as if it had not arrived: rather twice than never
	DoubtHold                // kept until somebody decides otherwise, or its lifetime ends
	DoubtGiveUp              // ends as failed: rather never than twice
)

var doubtNames = [...]string{"retry", "hold", "give_up"}

func (d Doubt) String() string {
	if int(d) < len(doubtNames) {
		return doubtNames[d]
	}
	return ""
}

// ParseDoubt reads what String wrote.
func ParseDoubt(name string) (Doubt, bool) {
	for i, n := range doubtNames {
		if n == name {
			return Doubt(i), true
		}
	}
	return DoubtRetry, false
}
