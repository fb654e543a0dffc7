package sink

import (
	"net/netip"
	"sync"
	"time"
)

// standing is what one receiver holds of one source IP: its connections, its pace, its sins. Safe for concurrent use.
type standing struct {
	mu           sync.Mutex
	open         int
	maxOpen      int
	connections  int64
	accepted     int64
	refused      map[int]int64 // by code; 0 = reset, closed or not answered
	blocks       int64
	blockedUntil time.Time
	blockedBy    *Quota
	rcpts        float64 // recipients and unknown ones since the ratio was last aged
	unknown      float64
	seconds      [60]uint32 // accepted per second of the last minute
	stamps       [60]int64
	maxMinute    uint32
	maxSecond    uint32
}

// key names a standing.
type standingKey struct {
	receiver string
	source   netip.Addr
}

// enter counts a connection and returns the quota it breaks, or the one the source is still blocked by.
func (s *standing) enter(now time.Time, r *receiver) *Quota {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections++
	s.open++
	s.maxOpen = max(s.maxOpen, s.open)
	if s.blockedBy != nil {
		if now.Before(s.blockedUntil) {
			return s.blockedBy
		}
		s.blockedBy = nil
		s.rcpts, s.unknown = 0, 0
	}
	if q := r.connections; q != nil && float64(s.open) > q.Limit {
		s.punish(now, q)
		return q
	}
	return nil
}

func (s *standing) leave() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

// recipient counts one RCPT and tells whether the ratio of unknown users is past bearing.
func (s *standing) recipient(now time.Time, r *receiver, unknown bool) *Quota {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcpts++
	if unknown {
		s.unknown++
	}
	q := r.unknownRatio
	if q == nil || s.rcpts < float64(q.After) {
		return nil
	}
	over := s.unknown > q.Limit*s.rcpts
	if s.rcpts >= 2*float64(q.After) {
		s.rcpts, s.unknown = s.rcpts/2, s.unknown/2
	}
	if !over {
		return nil
	}
	s.punish(now, q)
	return q
}

// begin tells whether one more message fits the pace; the message counts once it is accepted.
func (s *standing) begin(now time.Time, r *receiver) *Quota {
	q := r.perMinute
	if q == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if float64(s.minute(now.Unix()))+1 <= q.Limit {
		return nil
	}
	s.punish(now, q)
	return q
}

func (s *standing) accept(now time.Time) {
	sec := now.Unix()
	i := sec % 60
	s.mu.Lock()
	s.accepted++
	if s.stamps[i] != sec {
		s.stamps[i], s.seconds[i] = sec, 0
		s.maxMinute = max(s.maxMinute, s.minute(sec-1))
	}
	s.seconds[i]++
	s.maxSecond = max(s.maxSecond, s.seconds[i])
	s.mu.Unlock()
}

func (s *standing) refuse(code int) {
	s.mu.Lock()
	if s.refused == nil {
		s.refused = map[int]int64{}
	}
	s.refused[code]++
	s.mu.Unlock()
}

// minute sums the 60 seconds that end with sec. The lock is held.
func (s *standing) minute(sec int64) uint32 {
	var n uint32
	for i, at := range s.stamps {
		if at > sec-60 && at <= sec {
			n += s.seconds[i]
		}
	}
	return n
}

// punish starts the block a quota asks for. The lock is held.
func (s *standing) punish(now time.Time, q *Quota) {
	if q.For <= 0 {
		return
	}
	if s.blockedBy == nil {
		s.blocks++
	}
	s.blockedBy, s.blockedUntil = q, now.Add(time.Duration(q.For))
}
