package smtpd

import (
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// peers counts who is connected: in all, by address, by server composition (requirement R8, threat T7).
type peers struct {
	most, perAddress int

	mu           sync.Mutex
	all          map[*session]struct{}
	strangers    int // connections of addresses that are not registered, or not known yet
	addresses    map[netip.Addr]map[*session]struct{}
	compositions map[composition]int
}

// composition names a server composition.
type composition struct{ tenant, name string }

func (p *peers) init(most, perAddress int) {
	p.most, p.perAddress = most, perAddress
	p.all = map[*session]struct{}{}
	p.addresses = map[netip.Addr]map[*session]struct{}{}
	p.compositions = map[composition]int{}
}

// enter counts a new connection, or refuses it. Until admit says better it is a stranger's. A quarter of all places
// is kept from strangers, so that they cannot keep a customer out.
func (p *peers) enter(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) >= p.most {
		return false
	}
	p.all[s] = struct{}{}
	p.strangers++
	s.stranger = true
	return true
}

// admit counts a connection by its address: registered addresses are free, others have perAddress places, where one
// more ends the most silent one of them.
func (p *peers) admit(s *session, ip netip.Addr, registered bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if registered {
		p.strangers--
		s.stranger = false
		return true
	}
	if p.strangers > p.most-p.most/4 {
		return false
	}
	ip = secret.Household(ip)
	same := p.addresses[ip]
	if len(same) >= p.perAddress && !evict(same) {
		return false
	}
	if same == nil {
		same = map[*session]struct{}{}
		p.addresses[ip] = same
	}
	same[s] = struct{}{}
	s.counted = ip
	return true
}

// evict ends the connection that has been silent longest, if any has been for two seconds.
func evict(set map[*session]struct{}) bool {
	var worst *wire.Conn
	longest := 2 * time.Second
	for s := range set {
		if w := s.wire.Load(); w != nil && !s.evicted && w.Silent() > longest {
			worst, longest = w, w.Silent()
		}
	}
	if worst == nil {
		return false
	}
	worst.Policy().(*session).evicted = true
	worst.Evict()
	return true
}

// claim counts a session for a composition, in place of the one it was counted for. False = there are too many.
func (p *peers) claim(s *session, c composition, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.claimed == c {
		return true
	}
	if most > 0 && p.compositions[c] >= most {
		return false
	}
	p.unclaim(s)
	p.compositions[c]++
	s.claimed = c
	return true
}

func (p *peers) unclaim(s *session) {
	if s.claimed == (composition{}) {
		return
	}
	if p.compositions[s.claimed]--; p.compositions[s.claimed] <= 0 {
		delete(p.compositions, s.claimed)
	}
	s.claimed = composition{}
}

// leave forgets a connection. False = it was forgotten before.
func (p *peers) leave(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.all[s]; !ok {
		return false
	}
	delete(p.all, s)
	if s.stranger {
		p.strangers--
	}
	if set := p.addresses[s.counted]; set != nil {
		if delete(set, s); len(set) == 0 {
			delete(p.addresses, s.counted)
		}
	}
	p.unclaim(s)
	return true
}

func (p *peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// each calls f for every connection.
func (p *peers) each(f func(*wire.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.all {
		if w := s.wire.Load(); w != nil {
			f(w)
		}
	}
}
