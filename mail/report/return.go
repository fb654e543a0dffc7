package report

import (
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// Index is a keyed hash that nobody outside can compute; purpose keeps its uses apart.
type Index func(purpose string, data []byte) [16]byte

// Return is what a return address says: the delivery that a report to it is about (requirement R59).
type Return struct {
	Message   mail.MessageID
	recipient [4]byte // keyed hash of the recipient
}

// A return address is returnPrefix and 40 letters: message (12 octets), recipient (4) and a keyed hash of both (9), so
// that nobody can make one up and mark an address as gone that is not.
const (
	returnPrefix  = "bounce-"
	returnPurpose = "return path"
	returnOctets  = 25
)

// ReturnAddress is the envelope sender of a delivery, under domain.
func ReturnAddress(key Index, m mail.MessageID, to mail.Address, domain string) mail.Address {
	var raw [32]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(m.Lineage))
	binary.BigEndian.PutUint64(raw[4:12], uint64(m.Seq))
	r := recipientKey(key, raw[:12], to)
	copy(raw[12:16], r[:])
	mac := key(returnPurpose, raw[:16])
	copy(raw[16:returnOctets], mac[:])
	return mail.Address(returnPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:returnOctets])) + "@" + domain)
}

// IsReturn tells whether an address has the form of a return address, genuine or not.
func IsReturn(a mail.Address) bool {
	local, _ := a.Split()
	return len(local) == len(returnPrefix)+40 && strings.EqualFold(local[:len(returnPrefix)], returnPrefix)
}

// ParseReturn reads a return address; false where it is none of ours. Case does not matter: hosts on the way change it.
func ParseReturn(key Index, a mail.Address) (r Return, ok bool) {
	if !IsReturn(a) {
		return r, false
	}
	local, _ := a.Split()
	raw, err := base32.StdEncoding.DecodeString(strings.ToUpper(local[len(returnPrefix):]))
	if err != nil || len(raw) != returnOctets {
		return r, false
	}
	mac := key(returnPurpose, raw[:16])
	if subtle.ConstantTimeCompare(mac[:returnOctets-16], raw[16:]) != 1 {
		return r, false
	}
	r.Message = mail.MessageID{Lineage: mail.Lineage(binary.BigEndian.Uint32(raw)), Seq: mail.Seq(binary.BigEndian.Uint64(raw[4:]))}
	r.recipient = [4]byte(raw[12:16])
	return r, true
}

// Names tells whether r is about this recipient of its message.
func (r Return) Names(key Index, to mail.Address) bool {
	var raw [12]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(r.Message.Lineage))
	binary.BigEndian.PutUint64(raw[4:], uint64(r.Message.Seq))
	return recipientKey(key, raw[:], to) == r.recipient
}

func recipientKey(key Index, message []byte, to mail.Address) [4]byte {
	h := key("return recipient", append(append(make([]byte, 0, 64), message...), to.Fold()...))
	return [4]byte(h[:4])
}
