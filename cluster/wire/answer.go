package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// protoNone is offered last by every dialler and served by nobody: to choose it means that nothing else fits. It is
	// the one name that may never change.
	protoNone = "ekiden-none/1"
	// maxProto is the longest name of a protocol, in octets (RFC 7301 §3.1).
	maxProto = 255
	// maxServed bounds the list of an answer, in octets.
	maxServed = 4096
)

// verdict is the first octet that a listener sends. Values are part of every version: never change one.
type verdict byte

const (
	welcome  verdict = 0
	refused  verdict = 1 // and no word why
	unserved verdict = 2 // followed by two octets of length, big-endian, and the protocols served, separated by LF
)

// answer is what a listener says after the handshake, before the protocol's own bytes.
type answer struct {
	verdict verdict
	served  []string // with unserved
}

// errAnswer is for an answer that is none: the peer is no member of this house, or of a later one.
var errAnswer = errors.New("peer's answer is not understood")

func writeAnswer(w io.Writer, a answer) error {
	buf := []byte{byte(a.verdict)}
	if a.verdict == unserved {
		list := strings.Join(a.served, "\n")
		list = list[:min(len(list), maxServed)]
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(list)))
		buf = append(buf, list...)
	}
	_, err := w.Write(buf)
	return err
}

// readAnswer reads exactly the answer, and nothing of what follows it.
func readAnswer(r io.Reader) (answer, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	a := answer{verdict: verdict(head[0])}
	switch a.verdict {
	case welcome, refused:
		return a, nil
	case unserved:
	default:
		return answer{}, fmt.Errorf("%w: verdict %d", errAnswer, head[0])
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	n := binary.BigEndian.Uint16(head[1:])
	if n > maxServed {
		return answer{}, fmt.Errorf("%w: %d octets", errAnswer, n)
	}
	list := make([]byte, n)
	if _, err := io.ReadFull(r, list); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	for proto := range strings.SplitSeq(string(list), "\n") {
		if plain(proto) {
			a.served = append(a.served, proto)
		}
	}
	return a, nil
}

// plain tells whether a name may stand in a message to people.
func plain(proto string) bool {
	return proto != "" && len(proto) <= maxProto &&
		!strings.ContainsFunc(proto, func(r rune) bool { return r <= ' ' || r > '~' })
}
