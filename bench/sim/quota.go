package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// shift is how long a quota stays before it moves to another value, within glide.
const (
	shift = 4 * time.Hour
	glide = 30 * time.Minute
)

// blocksAt is how much more than a quota makes a receiver block.
const blocksAt = 1.1

// course is how a receiver's quotas go up and down together.
type course []float64

func newCourse(rng *rand.Rand) course {
	c := make(course, 64)
	for i := range c {
		c[i] = 0.75 + 0.5*rng.Float64()
	}
	return c
}

// at is the factor of the quotas so long after the beginning.
func (c course) at(since time.Duration) float64 {
	i := int(since/shift) % len(c)
	f := c[i]
	if left := shift - since%shift; left < glide {
		f += (c[(i+1)%len(c)] - f) * (1 - left.Seconds()/glide.Seconds())
	}
	return f
}

// quota is what a receiver bears, before its course: from a source, or of a sender's domain.
type quota struct {
	minute float64
	second float64 // 0 = no such bound, as below
	hour   float64
	phase  time.Duration // of the clock hours it counts by
}

func newQuota(m *Model, rng *rand.Rand) quota {
	between := func(r [2]float64) float64 { return r[0] + (r[1]-r[0])*rng.Float64() }
	q := quota{minute: m.Least * math.Pow(m.Most/m.Least, rng.Float64()), phase: time.Duration(rng.Int64N(int64(time.Hour)))}
	q.second = math.Ceil(q.minute / 60 * between(m.Burst))
	q.hour = q.minute * 60 * between(m.Hour)
	return q
}

// pace is how many messages a minute all its bounds together allow, before the course.
func (q *quota) pace() float64 {
	p := q.minute
	if q.second > 0 {
		p = min(p, 60*q.second)
	}
	if q.hour > 0 {
		p = min(p, q.hour/60)
	}
	return p
}

// tally counts what came, by the last second and minute and by the clock's hour.
type tally struct {
	seconds [60]int // of the last minute
	minute  int     // sum of them
	now     int64
	hour    float64 // the part of the hour's quota: each message counts by what was allowed when it came
	hours   int64
}

// count adds one message at a moment since the beginning, when the quotas' factor is f. A quota that goes down makes
// what was borne before no offence.
func (t *tally) count(q *quota, since time.Duration, f float64) {
	sec := int64(since / time.Second)
	if sec-t.now > 60 {
		t.now = sec - 60
	}
	for t.now < sec {
		t.now++
		i := t.now % 60
		t.minute -= t.seconds[i]
		t.seconds[i] = 0
	}
	if h := int64((since + q.phase) / time.Hour); h != t.hours {
		t.hours, t.hour = h, 0
	}
	t.seconds[sec%60]++
	t.minute++
	if q.hour > 0 {
		t.hour += 1 / (q.hour * f)
	}
}

// used is how much of a quota was used: 1 is all of it. fast tells whether it is the second's.
func (t *tally) used(q *quota, f float64) (share float64, fast bool) {
	share = float64(t.minute) / (q.minute * f)
	share = max(share, t.hour)
	if q.second > 0 {
		if s := float64(t.seconds[t.now%60]) / math.Ceil(q.second*f); s > share {
			return s, true
		}
	}
	return share, false
}
