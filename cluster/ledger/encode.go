package ledger

import (
	"errors"
	"fmt"
)

// Sealer makes bytes unreadable at rest. All members seal under keys derived from the same root, so that what one
// sealed the others open. Safe for concurrent use.
type Sealer interface {
	// Seal appends the sealed form of plain to dst; aad is the identity that Open demands again.
	Seal(dst, plain, aad []byte) []byte
	// Open appends the plaintext to dst, or reports that it does not verify.
	Open(dst, sealed, aad []byte) ([]byte, error)
	// Index is a keyed hash that names b in keys. It must be the same on all members, and for the life of the book:
	// a rotation of the root key must not change it.
	Index(purpose string, b []byte) [16]byte
}

// Bounds of a command. They keep an entry's commit within one transaction of the store (see cut), and an import from
// standing in the way of a renewal for long.
const (
	maxCommand   = 512 << 10
	maxItems     = 4096      // elements of a list in a command
	importBytes  = 240 << 10 // in the book, of a part made by Split; its entry is shorter, since rows share what they have in common
	importItems  = 4000      // likewise: about what 240 KiB hold
	codecVersion = 2         // 1: the rows of Suppress stood one by one
)

// What decoding and encoding report.
var (
	// ErrDamaged: the bytes passed authentication and do not follow the grammar.
	ErrDamaged = errors.New("ledger record does not decode")
	// ErrVersion: the command is of another version of ekiden. A member that met one must stop applying: it would
	// disagree with the others from there on.
	ErrVersion = errors.New("ledger command of an unknown version")
	// ErrTooLarge: the command is larger than an entry may be; Split cuts imports.
	ErrTooLarge = errors.New("ledger command too large")
)

// Encode returns the command's encoding: version, code, who and when, fields.
func Encode(cmd Command) ([]byte, error) {
	c := codec{out: []byte{codecVersion, byte(cmd.code())}}
	cmd.signed().fields(&c)
	cmd.fields(&c)
	if c.bad || len(c.out) > maxCommand {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(c.out))
	}
	return c.out, nil
}

// Decode reads a command. Errors: ErrVersion or ErrDamaged.
func Decode(data []byte) (Command, error) {
	if len(data) < 2 || len(data) > maxCommand {
		return nil, ErrDamaged
	}
	cmd, _ := newCommand(commandCode(data[1]))
	if data[0] != codecVersion || cmd == nil {
		return nil, fmt.Errorf("%w: version %d, code %d", ErrVersion, data[0], data[1])
	}
	c := codec{in: string(data[2:]), reading: true, share: true}
	cmd.signed().fields(&c)
	cmd.fields(&c)
	if c.bad || c.in != "" {
		return nil, ErrDamaged
	}
	return cmd, nil
}

// decode reads one value through its fields method; nothing may be left.
func decode(data string, fields func(*codec)) error {
	return (&codec{in: data, reading: true}).whole(fields)
}

// decodeShared is decode where the value's strings may be parts of data, and keep all of it in memory.
func decodeShared(data string, fields func(*codec)) error {
	return (&codec{in: data, reading: true, share: true}).whole(fields)
}

func (c *codec) whole(fields func(*codec)) error {
	fields(c)
	if c.bad || c.in != "" {
		return ErrDamaged
	}
	return nil
}

func encode(fields func(*codec)) []byte {
	var c codec
	fields(&c)
	return c.out
}

const entryIdentity = "ekiden ledger entry"

// EncodeSealed returns a command as an entry may carry it.
func EncodeSealed(box Sealer, cmd Command) ([]byte, error) {
	plain, err := Encode(cmd)
	if err != nil {
		return nil, err
	}
	return box.Seal(nil, plain, []byte(entryIdentity)), nil
}

// DecodeSealed opens and reads what EncodeSealed made.
func DecodeSealed(box Sealer, data []byte) (Command, error) {
	plain, err := box.Open(nil, data, []byte(entryIdentity))
	if err != nil {
		return nil, fmt.Errorf("open ledger entry: %w", err)
	}
	return Decode(plain)
}

// Split cuts an import of any size into commands of at most 256 KiB each, in order. Each is agreed on alone, so that
// leases are renewed in between. Only the first keeps its author: an import is one line of the audit trail.
func Split(s Suppress) []*Suppress {
	var parts []*Suppress
	for rest := s.Add; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && n < importItems {
			size += rest[n].size()
			if n > 0 && size > importBytes {
				break
			}
			n++
		}
		part := &Suppress{Signed: s.Signed, Add: rest[:n]}
		if len(parts) > 0 {
			part.Author, part.Origin = "", ""
		}
		parts, rest = append(parts, part), rest[n:]
	}
	return parts
}
