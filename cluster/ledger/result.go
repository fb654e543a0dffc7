package ledger

import (
	"errors"
	"fmt"
	"strings"
)

// Code is how a command ended.
type Code byte

// How a command may end. Only OK changed anything.
const (
	OK       Code = 1
	Conflict Code = 2 // the base version is not the present one: Object and Version tell which is
	Stale    Code = 3 // the epoch, version or renewal the command builds on has passed
	NotFound Code = 4
	Refused  Code = 5 // Text says why
	Skipped  Code = 6 // the entry was applied before; its result is gone
)

// String names the code.
func (c Code) String() string {
	switch c {
	case OK:
		return "ok"
	case Conflict:
		return "conflict"
	case Stale:
		return "stale"
	case NotFound:
		return "not found"
	case Refused:
		return "refused"
	case Skipped:
		return "skipped"
	}
	return fmt.Sprintf("code %d", byte(c))
}

// What Result.Err returns wraps one of these.
var (
	ErrConflict = errors.New("changed meanwhile")
	ErrStale    = errors.New("overtaken by a later state")
	ErrNotFound = errors.New("not found")
	ErrRefused  = errors.New("refused")
)

// Result is what the machine answers to a command; it is the same on every member.
type Result struct {
	Code    Code
	Text    string   // for people; empty where there is nothing to say
	Index   uint64   // of the entry
	Object  ObjectID // Conflict: which one; for credentials and meta the kind is "credential" or "meta"
	Version uint64   // new version of what was written, or Conflict, Stale: the present one
	Epoch   uint64   // of the lineage concerned, as it is now
	Added   uint64
	Removed uint64
	Stale   []LineageEpoch // Renew: not renewed
}

func (r *Result) fields(c *codec) {
	c.byte((*byte)(&r.Code))
	c.str(&r.Text)
	c.uint(&r.Index)
	c.str(&r.Object.Kind)
	c.str(&r.Object.Name)
	c.uint(&r.Version)
	c.uint(&r.Epoch)
	c.uint(&r.Added)
	c.uint(&r.Removed)
	list(c, &r.Stale, maxItems, func(c *codec, v *LineageEpoch) { v.fields(c) })
}

// Append appends the result's encoding to dst, for who forwards it to another member.
func (r Result) Append(dst []byte) []byte {
	c := codec{out: dst}
	r.fields(&c)
	return c.out
}

// DecodeResult reads what Append wrote.
func DecodeResult(data []byte) (Result, error) {
	var r Result
	err := decode(string(data), r.fields)
	return r, err
}

// Err returns nil for OK and an error that wraps one of the sentinels for anything else.
func (r Result) Err() error {
	var kind error
	switch r.Code {
	case OK:
		return nil
	case Conflict:
		return fmt.Errorf("%w: %s is at version %d", ErrConflict, r.Object, r.Version)
	case Stale:
		kind = ErrStale
	case NotFound:
		kind = ErrNotFound
	default:
		kind = ErrRefused
	}
	if r.Text == "" {
		return kind
	}
	return fmt.Errorf("%w: %s", kind, r.Text)
}

// String is one line for transcripts and the audit trail.
func (r Result) String() string {
	var b strings.Builder
	b.WriteString(r.Code.String())
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	if r.Object != (ObjectID{}) {
		say(" %s", r.Object)
	}
	if r.Version != 0 || r.Code == Conflict {
		say(" version=%d", r.Version)
	}
	if r.Epoch != 0 {
		say(" epoch=%d", r.Epoch)
	}
	if r.Added != 0 {
		say(" added=%d", r.Added)
	}
	if r.Removed != 0 {
		say(" removed=%d", r.Removed)
	}
	for _, l := range r.Stale {
		say(" stale=%08x/%d", uint32(l.Lineage), l.Epoch)
	}
	if r.Text != "" {
		say(": %s", r.Text)
	}
	return b.String()
}
