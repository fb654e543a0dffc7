package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// maxProxy is the longest PROXY header taken, in octets; version 1 has its own limit of 107.
const maxProxy = 4096

var (
	errShort = errors.New("header is not complete")
	errProxy = errors.New("malformed PROXY header")
)

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxyHeader is what a balancer says about its client. addr is invalid where it names nobody (UNKNOWN, LOCAL, or an
// address family of no use here).
type proxyHeader struct{ addr netip.AddrPort }

// parseProxy reads a PROXY protocol header, version 1 or 2, off the front of b; n is its length. errShort asks for
// more octets; anything that is no header is an error at the first octet that shows it.
func parseProxy(b []byte) (h proxyHeader, n int, err error) {
	if len(b) == 0 {
		return h, 0, errShort
	}
	if k := min(len(b), len(proxySignature)); bytes.Equal(b[:k], proxySignature[:k]) {
		return parseProxy2(b)
	}
	const word = "PROXY "
	if k := min(len(b), len(word)); string(b[:k]) != word[:k] {
		return h, 0, errProxy
	}
	i := bytes.IndexByte(b[:min(len(b), 107)], '\n')
	switch {
	case i < 0 && len(b) >= 107:
		return h, 0, errProxy
	case i < 0:
		return h, 0, errShort
	case b[i-1] != '\r':
		return h, 0, errProxy
	}
	h, err = parseProxy1(string(b[len(word) : i-1]))
	return h, i + 1, err
}

func parseProxy1(s string) (h proxyHeader, err error) {
	f := strings.Split(s, " ")
	if f[0] == "UNKNOWN" {
		if strings.ContainsAny(s, "\r\x00") {
			return h, errProxy
		}
		return h, nil
	}
	if len(f) != 5 {
		return h, errProxy
	}
	src, err1 := netip.ParseAddr(f[1])
	dst, err2 := netip.ParseAddr(f[2])
	port, ok1 := proxyPort(f[3])
	_, ok2 := proxyPort(f[4])
	if err1 != nil || err2 != nil || !ok1 || !ok2 || src.Zone() != "" || dst.Zone() != "" {
		return h, errProxy
	}
	if v4 := f[0] == "TCP4"; !v4 && f[0] != "TCP6" || src.Is4() != v4 || dst.Is4() != v4 {
		return h, errProxy
	}
	h.addr = netip.AddrPortFrom(src.Unmap(), port)
	return h, nil
}

func proxyPort(s string) (uint16, bool) {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || len(s) > 5 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), len(s) > 0 && n <= 65535 && (len(s) == 1 || s[0] != '0')
}

func parseProxy2(b []byte) (h proxyHeader, n int, err error) {
	if len(b) < 16 {
		return h, 0, errShort
	}
	command, family := b[12], b[13]
	size := int(binary.BigEndian.Uint16(b[14:]))
	n = 16 + size
	if command>>4 != 2 || command&0xf > 1 || n > maxProxy {
		return h, 0, errProxy
	}
	if len(b) < n {
		return h, 0, errShort
	}
	if command&0xf == 0 { // LOCAL: the balancer speaks for itself
		return h, n, nil
	}
	switch family {
	case 0x11:
		if size < 12 {
			return h, 0, errProxy
		}
		h.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(b[24:]))
	case 0x21:
		if size < 36 {
			return h, 0, errProxy
		}
		h.addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:32])).Unmap(), binary.BigEndian.Uint16(b[48:]))
	case 0:
	default:
		return h, 0, errProxy
	}
	return h, n, nil
}
