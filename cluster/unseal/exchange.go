package unseal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// What bounds an exchange: a member that asks may be hostile, though it has a certificate.
const (
	maxFrame = 64 << 10
	patience = 10 * time.Second
	// maxSession is how long the name of a session may be, in octets.
	maxSession = 64
)

// ErrRefused is the answer of a member that does not give the key; its text says why.
var ErrRefused = errors.New("the key was not given")

// ask is what goes over the wire first.
type ask struct {
	Do      string `json:"do"`                // "status", "recovery", "key" or "next"
	Session string `json:"session,omitempty"` // of "key": see AskKey
	Status
}

// answer is what comes back.
type answer struct {
	Status
	Refused  string `json:"refused,omitempty"`
	Key      []byte `json:"key,omitempty"`
	Recovery []byte `json:"recovery,omitempty"`
	InForce  bool   `json:"in_force,omitempty"`
}

// Share is the root key and what goes with it, opaque here.
type Share struct {
	Store    string // identity of the keys
	Key      []byte
	Recovery []byte // file that the recovery code opens
	InForce  bool   // members seal under it
}

// Member answers for a node.
type Member interface {
	Status() Status
	// Release returns the share for the peer that asks in a session, or why it is not given. The release is in the audit
	// log by then.
	Release(peer Status, session string) (*Share, error)
	// Next returns the root key that follows the one the peer holds, sealed under that one; else as Release.
	Next(peer Status) (*Share, error)
	// Recovery returns the file that the recovery code opens, nil while there is none. It is as good as public.
	Recovery() []byte
}

// Serve answers one connection of the peer whose certificate says name, and closes it.
func Serve(name string, c net.Conn, m Member, now func() time.Time) error {
	defer c.Close()
	if err := c.SetDeadline(now().Add(patience)); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	var q ask
	if err := read(c, &q); err != nil {
		return fmt.Errorf("unseal: read from %s: %w", name, err)
	}
	q.Name = name // what the certificate says, not what the peer says
	out := answer{Status: m.Status()}
	switch q.Do {
	case "status":
	case "recovery":
		out.Recovery = m.Recovery()
	case "key", "next":
		if len(q.Session) > maxSession {
			out.Refused = "the name of the session is too long"
			break
		}
		give := func(peer Status) (*Share, error) { return m.Release(peer, q.Session) }
		if q.Do == "next" {
			give = m.Next
		}
		share, err := give(q.Status)
		if err != nil {
			out.Refused = err.Error()
			break
		}
		defer clear(share.Key)
		out.Key, out.Recovery, out.Store, out.InForce = share.Key, share.Recovery, share.Store, share.InForce
	default:
		out.Refused = "unknown request"
	}
	if err := write(c, &out); err != nil {
		return fmt.Errorf("unseal: answer %s: %w", name, err)
	}
	return nil
}

// AskStatus asks the member at the other end of c about its keys.
func AskStatus(c net.Conn, own Status, now time.Time) (Status, error) {
	out, err := exchange(c, ask{Do: "status", Status: own}, now)
	return out.Status, err
}

// AskRecovery asks for the file that the recovery code opens.
func AskRecovery(c net.Conn, own Status, now time.Time) ([]byte, error) {
	out, err := exchange(c, ask{Do: "recovery", Status: own}, now)
	return out.Recovery, err
}

// AskKey asks for the root key. ErrRefused where it is not given. The caller wipes the share's key. session is a secret
// that only this process knows: a key is given once, and by the session it can be given again to whom the answer was lost.
func AskKey(c net.Conn, own Status, session string, now time.Time) (*Share, error) {
	return askShare(c, ask{Do: "key", Session: session, Status: own}, now)
}

// AskNext asks for the root key that follows the one of own.Version; it comes sealed under that one. Else as AskKey.
func AskNext(c net.Conn, own Status, now time.Time) (*Share, error) {
	return askShare(c, ask{Do: "next", Status: own}, now)
}

func askShare(c net.Conn, q ask, now time.Time) (*Share, error) {
	out, err := exchange(c, q, now)
	switch {
	case err != nil:
		return nil, err
	case out.Refused != "" || len(out.Key) == 0:
		return nil, fmt.Errorf("%w: %.200s", ErrRefused, out.Refused)
	}
	return &Share{Store: out.Store, Key: out.Key, Recovery: out.Recovery, InForce: out.InForce}, nil
}

func exchange(c net.Conn, q ask, now time.Time) (out answer, err error) {
	defer c.Close()
	if err = c.SetDeadline(now.Add(patience)); err == nil {
		if err = write(c, &q); err == nil {
			err = read(c, &out)
		}
	}
	if err != nil {
		return out, fmt.Errorf("unseal: %s: %w", q.Do, err)
	}
	return out, nil
}

// A frame is its length (4, big-endian) and JSON.
func write(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text))), text...)
	clear(text) // it may hold a key
	defer clear(frame)
	_, err = w.Write(frame)
	return err
}

func read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("a frame of %d octets is longer than %d", n, maxFrame)
	}
	text := make([]byte, n)
	defer clear(text)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return errors.New("a frame is not understood") // the library's error could show what it holds
	}
	return nil
}
