package suppression

import "github.com/ekiden-mta/ekiden/mail"

// List is a list that an address may stand on.
type List uint8

// The lists in the order in which they are asked, after the form of the address (E-42).
const (
	BlackBox    List = iota + 1 // of all tenants: addresses that do not exist, and complainers (R103)
	Unsubscribe                 // R104
	BlockList                   // R101, R102
	ErrorCount                  // R100
)

// Order returns the lists to ask for a tenant's mail: the black box only where the tenant matches against it (E-46),
// the error counts only where the tenant has them managed.
func Order(blackBox, errorCount bool) []List {
	lists := make([]List, 0, 4)
	if blackBox {
		lists = append(lists, BlackBox)
	}
	lists = append(lists, Unsubscribe, BlockList)
	if errorCount {
		lists = append(lists, ErrorCount)
	}
	return lists
}

// Verdict is what becomes of mail to an address that stands on a list. The black box answers as if the address did not
// exist (R103).
func Verdict(l List) mail.Suppression {
	switch l {
	case BlackBox:
		return mail.Suppression{Status: mail.StatusUserUnknown, Detail: "591 suppressed: black box"}
	case Unsubscribe:
		return mail.Suppression{Status: mail.StatusUnsubscribed, Detail: "591 suppressed: unsubscribed"}
	case ErrorCount:
		return mail.Suppression{Status: mail.StatusBlockListed, Detail: "591 suppressed: too many errors"}
	}
	return mail.Suppression{Status: mail.StatusBlockListed, Detail: "591 suppressed: block list"}
}
