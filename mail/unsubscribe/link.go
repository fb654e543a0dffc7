// Package unsubscribe writes and reads the links by which recipients leave a list: the header fields List-Unsubscribe
// (RFC 2369) and List-Unsubscribe-Post (RFC 8058), and the token in their address.
//
// A token must tell nobody but us whose it is, and nobody but us can make one. This package must never decide who is
// written to or remember who left. Read Link, then Token.
package unsubscribe

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// Key is a keyed hash that all members of a cluster share and nobody else can compute; purpose keeps its uses apart.
type Key func(purpose string, data []byte) [16]byte

// Link is what a link says: who leaves which list of whom.
type Link struct {
	Tenant string       // at most 100 octets
	List   string       // the unsubscribe filter of the tenant that the mail matched, at most 200 octets
	To     mail.Address // folded
}

// Path is where links lead, the token behind it (contract 11).
const Path = "/unsubscribe/"

const (
	tokenVersion = 1
	tagSize      = 16
	maxName      = 255  // octets of a name in a token: it has one for the length
	maxPlain     = 700  // octets of a token before it is sealed: its field must fit into a line (RFC 5322 §2.1.1)
	maxToken     = 1024 // characters
	maxLine      = 998  // RFC 5322 §2.1.1
)

// Token seals l: a tag over the text (16 octets), and the text under AES-128 in counter mode from the tag on, as base64url.
// This is the construction of RFC 5297 with a hash for the tag: it needs no random number, so the same recipient always
// has the same token, at every member and after every restart. "" where l does not fit.
func (l Link) Token(key Key) string {
	if len(l.Tenant) > maxName || len(l.List) > maxName || 3+len(l.Tenant)+len(l.List)+len(l.To) > maxPlain {
		return ""
	}
	raw := make([]byte, tagSize, tagSize+maxPlain)
	raw = append(raw, tokenVersion, byte(len(l.Tenant)))
	raw = append(raw, l.Tenant...)
	raw = append(raw, byte(len(l.List)))
	raw = append(raw, l.List...)
	raw = append(raw, l.To.Fold()...)
	tag := tagOf(key, raw[tagSize:])
	copy(raw, tag[:])
	crypt(key, tag, raw[tagSize:])
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Open reads a token; false where it is none of ours. What it costs is bounded, and the same for a forged one.
func Open(key Key, token string) (Link, bool) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which the decoder would skip
		return Link{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tagSize+3 || len(raw) > tagSize+maxPlain {
		return Link{}, false
	}
	tag, plain := [tagSize]byte(raw), raw[tagSize:]
	crypt(key, tag, plain)
	if want := tagOf(key, plain); subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		return Link{}, false
	}
	// From here on it is what Token wrote.
	rest := string(plain)
	if rest[0] != tokenVersion {
		return Link{}, false
	}
	var l Link
	var tenant, list bool
	l.Tenant, rest, tenant = cut(rest[1:])
	l.List, rest, list = cut(rest)
	l.To = mail.Address(rest)
	return l, tenant && list && rest != ""
}

// cut takes a text with its length in front.
func cut(s string) (text, rest string, ok bool) {
	if s == "" || len(s) < 1+int(s[0]) {
		return "", "", false
	}
	n := 1 + int(s[0])
	return s[1:n], s[n:], true
}

func tagOf(key Key, plain []byte) [tagSize]byte { return key("unsubscribe tag", plain) }

func crypt(key Key, tag [tagSize]byte, data []byte) {
	k := key("unsubscribe key", nil)
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // the key has 16 octets
	}
	cipher.NewCTR(block, tag[:]).XORKeyStream(data, data)
}

// AppendFields appends the header fields with the link to dst, ended by CRLF: List-Unsubscribe, and with oneClick
// List-Unsubscribe-Post. base is the address of the host, "https://news.example.com", perhaps with a path. Nothing is
// appended where the field would not fit into a line.
func (l Link) AppendFields(dst []byte, key Key, base string, oneClick bool) []byte {
	const name, post = "List-Unsubscribe: <", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
	base = strings.TrimRight(base, "/")
	token := l.Token(key)
	if token == "" || len(name)+len(base)+len(Path)+len(token)+1 > maxLine {
		return dst
	}
	dst = append(append(append(append(dst, name...), base...), Path...), token...)
	dst = append(dst, ">\r\n"...)
	if oneClick {
		dst = append(dst, post...)
	}
	return dst
}
