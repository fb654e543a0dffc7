package mail

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Result is what became of one attempt.
type Result uint8

// The three results. Deferred goes back to the queue; the others are final.
const (
	Delivered Result = iota + 1
	Deferred
	Failed
)

func (r Result) String() string {
	switch r {
	case Delivered:
		return "delivered"
	case Deferred:
		return "deferred"
	case Failed:
		return "failed"
	}
	return "none"
}

// Stage is the step of the way at which an outcome was fixed (requirement R68).
type Stage uint8

// The stages in the order a delivery passes them.
const (
	StageNone     Stage = iota // never attempted: our own decision (expired, suppressed, malformed)
	StageDNS                   // resolution
	StageConnect               // TCP connect not established
	StageGreeting              // connected, up to and including the banner
	StageEHLO                  // EHLO or HELO
	StageTLS                   // STARTTLS and handshake
	StageMail
	StageRcpt
	StageData // up to the 354
	StageDot  // the final dot (or BDAT LAST) and its reply
)

var stageNames = [...]string{"none", "dns", "connect", "greeting", "ehlo", "tls", "mail", "rcpt", "data", "dot"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "none"
}

// Status is the class of an error (requirement R96). 0 = no error.
type Status uint8

// The error statuses of requirement R96.
const (
	StatusNone         Status = 0
	StatusHostUnknown  Status = 1
	StatusUserUnknown  Status = 2
	StatusTimeout      Status = 3
	StatusRefused      Status = 4
	StatusOverCapacity Status = 5
	StatusForward      Status = 6
	StatusServer       Status = 7
	StatusSize         Status = 8
	StatusFormat       Status = 9
	StatusBlockListed  Status = 10
	StatusUnsubscribed Status = 11
	StatusInterrupted  Status = 12 // discarded by the stop function (requirement R60 counter 12, R74 code 592)
	StatusOther        Status = 99
)

// Scope tells whom an answer concerns, so that nobody else is punished for it.
type Scope uint8

// The scopes of receivers' answers.
const (
	ScopeRecipient  Scope = iota // this address only
	ScopeMessage                 // this message or campaign
	ScopeConnection              // this connection only
	ScopeSource                  // this source IP at this receiver
	ScopeTenant                  // the sender's domain, authentication or signature
	ScopeReceiver                // everybody's mail to this receiver (outage)
	ScopeNetblock                // every source of the same network (/24, /64) at this receiver
	ScopeDKIM                    // every mail signed with the same DKIM domain, from whatever source
	ScopeSPF                     // every mail with the same domain in its envelope sender
	ScopeGroup                   // the delivery group: content, links
)

var scopeNames = [...]string{"recipient", "message", "connection", "source", "tenant", "receiver", "netblock", "dkim", "spf", "group"}

func (s Scope) String() string {
	if int(s) < len(scopeNames) {
		return scopeNames[s]
	}
	return "recipient"
}

// Outcome is what a receiver's answer (or its silence) means for one delivery. It is a value: a refusal by a remote
// is no error of ours.
type Outcome struct {
	Result  Result
	Stage   Stage
	Status  Status
	Scope   Scope
	Reply   smtp.Reply     // the peer's words; Code 0 where there were none
	Detail  string         // our words where the peer had none: "connection refused", "lifetime exceeded"; ≤ 200 octets
	InDoubt bool           // cut after the final dot: the receiver may hold a copy (rule D7)
	Source  netip.Addr     // source IP used, invalid where none was
	Remote  netip.AddrPort // address dialled, invalid where none was
	MX      string         // host name dialled
	TLS     bool
	At      time.Time

	Advice *Advice // what the rule that knew the answer says to do; nil where none did
}
