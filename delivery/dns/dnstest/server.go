// Package dnstest is a DNS server of one zone for tests, over real UDP and TCP sockets on loopback. It can misbehave
// in the ways threat T16 lists. It is for tests only and must never serve anybody else.
package dnstest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// MX is one MX record.
type MX struct {
	Pref uint16
	Host string // "." or "" for a null MX
}

// Zone is everything the server knows. Names are in lower case without a trailing dot.
type Zone struct {
	MX    map[string][]MX
	A     map[string][]string
	AAAA  map[string][]string
	CNAME map[string]string
	TXT   map[string][]string
	PTR   map[string][]string // address to names
	TTL   uint32              // of every record and of negative answers, in seconds

	Rcode    map[string]int           // answer with this code instead (dns.RcodeServerFailure …)
	Raw      map[string][]byte        // answer with these octets behind the id, unless it is nil
	Delay    map[string]time.Duration // answer late
	Truncate map[string]bool          // over UDP, answer with TC and nothing else
	WrongID  map[string]bool          // answer with another id
	Other    map[string]bool          // answer another question
	Silent   map[string]bool          // no answer
	NoEDNS   bool                     // FORMERR to a question with EDNS
}

// Server serves a Zone.
type Server struct {
	Addr string // "127.0.0.1:port", UDP and TCP

	mu    sync.Mutex
	zone  Zone
	asked map[string]int
	ports map[string]bool
}

// Start serves z until the test ends.
func Start(t testing.TB, z Zone) *Server {
	t.Helper()
	s := &Server{zone: z, asked: map[string]int{}, ports: map[string]bool{}}
	// The same port has to be free for both; another process may hold one of them.
	for try := 0; ; try++ {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			_ = pc.Close()
			if try == 20 {
				t.Fatal(err)
			}
			continue
		}
		s.Addr = ln.Addr().String()
		udp := &dns.Server{PacketConn: pc, Handler: s}
		tcp := &dns.Server{Listener: ln, Handler: s}
		for _, srv := range []*dns.Server{udp, tcp} {
			up := make(chan struct{})
			srv.NotifyStartedFunc = func() { close(up) }
			go func() { _ = srv.ActivateAndServe() }()
			<-up
			t.Cleanup(func() { _ = srv.Shutdown() })
		}
		return s
	}
}

// Set changes the zone.
func (s *Server) Set(change func(*Zone)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.zone)
}

// Asked returns how often "name TYPE" was asked, UDP and TCP together; "tcp name TYPE" counts TCP alone.
func (s *Server) Asked(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

// Ports returns from how many different ports questions came.
func (s *Server) Ports() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ports)
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := strings.TrimSuffix(strings.ToLower(q.Question[0].Name), ".")
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	s.mu.Lock()
	what := name + " " + dns.TypeToString[q.Question[0].Qtype]
	s.asked[what]++
	if tcp {
		s.asked["tcp "+what]++
	}
	s.ports[w.RemoteAddr().String()] = true
	m := s.answer(q, name, tcp)
	raw, late, silent := s.zone.Raw[name], s.zone.Delay[name], s.zone.Silent[name]
	s.mu.Unlock()
	if silent {
		return
	}
	if late > 0 {
		t := time.NewTimer(late)
		defer t.Stop()
		<-t.C
	}
	if raw != nil {
		_, _ = w.Write(append(binary.BigEndian.AppendUint16(nil, q.Id), raw...))
		return
	}
	_ = w.WriteMsg(m)
}

func (s *Server) answer(q *dns.Msg, name string, tcp bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	z := &s.zone
	if z.WrongID[name] {
		m.Id++
	}
	if z.Other[name] {
		m.Question[0].Name = "other.test."
	}
	if z.NoEDNS && q.IsEdns0() != nil {
		m.Rcode = dns.RcodeFormatError
		return m
	}
	if code, ok := z.Rcode[name]; ok {
		m.Rcode = code
		return m
	}
	if z.Truncate[name] && !tcp {
		m.Truncated = true
		return m
	}
	for seen := 0; seen < 20; seen++ { // follow aliases as a recursive resolver does
		target, ok := z.CNAME[name]
		if !ok {
			break
		}
		m.Answer = append(m.Answer, rr(name, z.TTL, "CNAME", dns.Fqdn(target)))
		name = target
	}
	before := len(m.Answer)
	s.records(m, name, q.Question[0].Qtype)
	if len(m.Answer) == before {
		if !z.exists(name) {
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = append(m.Ns, rr("test", z.TTL, "SOA", fmt.Sprintf("ns.test. root.test. 1 60 60 60 %d", z.TTL)))
	}
	if !tcp && m.Len() > 1232 {
		m.Truncate(1232)
	}
	return m
}

func (s *Server) records(m *dns.Msg, name string, qtype uint16) {
	z := &s.zone
	add := func(kind, data string) { m.Answer = append(m.Answer, rr(name, z.TTL, kind, data)) }
	switch qtype {
	case dns.TypeMX:
		for _, x := range z.MX[name] {
			add("MX", fmt.Sprintf("%d %s", x.Pref, dns.Fqdn(x.Host)))
		}
	case dns.TypeA:
		for _, a := range z.A[name] {
			add("A", a)
		}
	case dns.TypeAAAA:
		for _, a := range z.AAAA[name] {
			m.Answer = append(m.Answer, &dns.AAAA{
				Hdr:  dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: z.TTL},
				AAAA: net.IP(netip.MustParseAddr(a).AsSlice()),
			})
		}
	case dns.TypeTXT:
		for _, t := range z.TXT[name] {
			var parts strings.Builder
			for len(t) > 255 { // a record is made of strings of at most that many octets
				fmt.Fprintf(&parts, "%q ", t[:255])
				t = t[255:]
			}
			fmt.Fprintf(&parts, "%q", t)
			add("TXT", parts.String())
		}
	case dns.TypePTR:
		for _, host := range z.names(name) {
			add("PTR", dns.Fqdn(host))
		}
	}
}

func (z *Zone) exists(name string) bool {
	return len(z.MX[name])+len(z.A[name])+len(z.AAAA[name])+len(z.TXT[name])+len(z.names(name)) > 0
}

// names are those of the address whose reverse name is asked for.
func (z *Zone) names(reverse string) []string {
	for a, hosts := range z.PTR {
		if r, err := dns.ReverseAddr(a); err == nil && r == reverse+"." {
			return hosts
		}
	}
	return nil
}

// rr builds a record from its text; the tests write only well-formed ones.
func rr(name string, ttl uint32, kind, data string) dns.RR {
	r, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", dns.Fqdn(name), ttl, kind, data))
	if err != nil {
		panic(err)
	}
	return r
}
