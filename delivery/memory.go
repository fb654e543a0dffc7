package delivery

import (
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// How long a host's trouble is remembered, in memory only.
const (
	brokenTLSFor = 72 * time.Hour // replication.md section 7
	tornFor      = 24 * time.Hour // rule D4

	// A receiver that was silent in the handshake that often, each time so long after the last, has broken TLS, too: some
	// close without an alert, and would get no mail at all.
	maxSilent   = 3
	silentApart = time.Minute
	silentFor   = 24 * time.Hour // from the last one
)

// maxMemory bounds the hosts remembered.
const maxMemory = 10_000

// memory remembers, per host and port, what did not work there. Safe for concurrent use.
type memory struct {
	clock *clock.Clock
	mu    sync.Mutex
	hosts map[string]trouble
}

type trouble struct {
	plain time.Time // until then: no STARTTLS where TLS is not required
	paced time.Time // until then: two round trips per message

	silent   int // how often in a row it said nothing in the TLS handshake
	silentAt time.Time
}

func (t trouble) over(now time.Time) bool {
	return !t.plain.After(now) && !t.paced.After(now) && !t.mute(now)
}

func (t trouble) mute(now time.Time) bool {
	return t.silent > 0 && t.silentAt.Add(silentFor).After(now)
}

func newMemory(c *clock.Clock) *memory { return &memory{clock: c, hosts: map[string]trouble{}} }

func (m *memory) about(host string) (brokenTLS, torn bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.hosts[host]
	if !ok {
		return false, false
	}
	now := m.clock.Now()
	if t.over(now) {
		delete(m.hosts, host)
		return false, false
	}
	return t.plain.After(now), t.paced.After(now)
}

func (m *memory) tlsBroken(host string) {
	m.note(host, func(t *trouble, now time.Time) { t.plain = now.Add(brokenTLSFor) })
}

// tlsSilent counts a handshake in which the host said nothing, and tells whether that was once too often. Connections that
// fail at the same time fail for one reason, and count once.
func (m *memory) tlsSilent(host string) (broken bool) {
	m.note(host, func(t *trouble, now time.Time) {
		if !t.mute(now) {
			t.silent = 0
		}
		if t.silent == 0 || now.Sub(t.silentAt) >= silentApart {
			t.silent, t.silentAt = t.silent+1, now
		}
		broken = t.silent >= maxSilent
	})
	return broken
}

// tlsWorks takes back what tlsSilent counted.
func (m *memory) tlsWorks(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, known := m.hosts[host]; known && t.silent > 0 {
		t.silent = 0
		m.hosts[host] = t
	}
}

func (m *memory) groupTorn(host string) {
	m.note(host, func(t *trouble, now time.Time) { t.paced = now.Add(tornFor) })
}

func (m *memory) note(host string, set func(*trouble, time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	t, known := m.hosts[host]
	if !known && len(m.hosts) >= maxMemory {
		m.forget(now)
	}
	set(&t, now)
	m.hosts[host] = t
}

// forget makes room: what is over goes, or else whatever a look at a few entries meets first. The mutex is held.
func (m *memory) forget(now time.Time) {
	victim, looked := "", 0
	for h, t := range m.hosts {
		if t.over(now) {
			delete(m.hosts, h)
		} else if victim == "" {
			victim = h
		}
		if looked++; looked == 16 {
			break
		}
	}
	if len(m.hosts) >= maxMemory {
		delete(m.hosts, victim)
	}
}
