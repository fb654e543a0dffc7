package mail

import (
	"fmt"
	"strings"
	"time"
)

// Advice is what rules data say a sender should do about an answer, or about a silence. It is part of an immutable
// table and shared by all outcomes that match its rule: never change it.
type Advice struct {
	Rule          string        // name of the rule, unique: "google/rate-ip"
	Pattern       string        // the text that matched, for whoever asks why
	Action        Action        // what to do
	Scopes        []Scope       // whom it concerns, where that is more than one; else Outcome.Scope alone
	For           time.Duration // of ActSuspend, ActLimit and ActProbe; 0 = the controller's own pause
	After         int           // act only on the After-th answer …
	Within        time.Duration // … within that time; 0 = at once
	Connections   int           // of ActLimit: at most; 0 = as it is
	PerConnection int           // of ActLimit: messages on one connection, at most; 0 = as it is
	Rate          float64       // of ActLimit: messages a second, at most; 0 = as it is
	Elsewhere     bool          // the delivery's next attempt is to come from another source
	NoSuppress    bool          // says nothing about the address: never counts against it
	Release       time.Duration // of an address that is suppressed for it: when to try it again; 0 = never by itself
	Alert         bool          // somebody should look
	Then          *Then         // what several such answers ask for besides; nil = nothing
	Jump          *Jump         // what it means that many mails are answered so all at once; nil = nothing
}

// Then is a suspension that answers ask for once they come often: of more than each of them concerns.
type Then struct {
	Scope      Scope
	For        time.Duration
	After      int           // answers …
	Sources    int           // … to so many sources at least …
	Within     time.Duration // … within that time
	Everywhere bool          // the source is suspended at every receiver, not only at this one
}

// Jump is a block of the source at the receiver, once the share of its mail that is answered so grows all at once: each answer is
// about a recipient, and all of them together about the source.
type Jump struct {
	Share int           // percent of the mails that were taken or answered so, 1 to 100: at least, and twice what is usual
	For   time.Duration // above zero
}

// Span is a span of time in words without the parts that are zero: 1h; 90 s as 1m30s.
func Span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// String is t in words: "suspend source 12h after 3 answers within 1h". "" for none.
func (t *Then) String() string {
	if t == nil {
		return ""
	}
	words := "suspend " + t.Scope.String()
	if t.Everywhere {
		words += " at every receiver"
	}
	words += " " + Span(t.For)
	if t.After > 0 {
		words += fmt.Sprintf(" after %d answers", t.After)
	}
	if t.Sources > 0 {
		words += fmt.Sprintf(" to %d sources", t.Sources)
	}
	if t.Within > 0 {
		words += " within " + Span(t.Within)
	}
	return words
}

// String is j in words: "block source 1h from 25 %". "" for none.
func (j *Jump) String() string {
	if j == nil {
		return ""
	}
	return fmt.Sprintf("block source %s from %d %%", Span(j.For), j.Share)
}

// Beyond is in words what several such answers ask for besides, "" where that is nothing.
func (a *Advice) Beyond() string {
	then, jump := a.Then.String(), a.Jump.String()
	if then != "" && jump != "" {
		then += "; "
	}
	return then + jump
}

// Action is what an answer asks of the sender beyond this delivery.
type Action uint8

// The actions of rules data (receivers' rules, column "default action").
const (
	ActNone       Action = iota // nothing beyond the delivery itself
	ActBackoff                  // multiplicative decrease, then additive ramp
	ActSuspend                  // nothing to the scope for a time
	ActProbe                    // nothing for a time, then one connection, and one more with each success
	ActLimit                    // connections, messages on one, or rate at most so many for a time
	ActSameSource               // greylisting: try again later from the same source, nothing else
)

var actionNames = [...]string{"none", "backoff", "suspend", "probe", "limit", "same_source"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "none"
}
