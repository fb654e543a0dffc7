package webhook

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// alarmVersion is the form of an alarm's record; what is added to it does not change the number.
const alarmVersion = 1

// alarm is the record of an alarm that begins or ends.
type alarm struct {
	Version int        `json:"version"`
	Created time.Time  `json:"created"`
	Node    string     `json:"node"` // where it stands
	Alarm   string     `json:"alarm"`
	About   string     `json:"about"` // a receiver, or what else it is about; "" = the node
	State   string     `json:"state"` // raised, ended
	Text    string     `json:"text"`
	Until   *time.Time `json:"until"` // when one that was raised ends by itself unless it is raised again; null = it has ended
}

func alarmOf(e *mail.Event, node string, zone *time.Location) alarm {
	a := alarm{Version: alarmVersion, Created: e.At.In(zone), Node: node, Alarm: e.Rule, About: e.Receiver, State: "ended", Text: e.Detail}
	if !e.Due.IsZero() {
		until := e.Due.In(zone)
		a.State, a.Until = "raised", &until
	}
	return a
}
