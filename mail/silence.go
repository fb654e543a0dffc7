package mail

import "strings"

// Silence is how a receiver answered without a reply. Receivers say much that way: au resets connections of whom it
// finds too busy, Yahoo closes without a word after some messages.
type Silence uint8

// The kinds of silence. Its String is what Outcome.Detail begins with.
const (
	NotSilent   Silence = iota
	Refused             // the connection was not taken
	Reset               // … was cut off
	Closed              // … was ended in order, without a reply
	Stalled             // no octet came in time
	Unreachable         // no way leads to the host

	silenceKinds
)

var silences = [silenceKinds]string{"", "connection refused", "connection reset", "connection closed by the receiver",
	"connection timed out", "network unreachable"}

func (s Silence) String() string {
	if s < silenceKinds {
		return silences[s]
	}
	return ""
}

// Silence tells how the receiver was silent; NotSilent where it replied, or something else went wrong.
func (o *Outcome) Silence() Silence {
	if !o.Reply.IsZero() || o.Result == Delivered {
		return NotSilent
	}
	for s := Refused; s < silenceKinds; s++ {
		if strings.HasPrefix(o.Detail, silences[s]) {
			return s
		}
	}
	return NotSilent
}
