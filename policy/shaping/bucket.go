package shaping

import (
	"math"
	"time"
)

// moment is a time in Unix nanoseconds, 0 = never. What is reckoned with at every message is one: a time.Time takes longer.
type moment int64

func momentOf(t time.Time) moment { return moment(t.UnixNano()) }

// since is how long after then m is.
func (m moment) since(then moment) time.Duration { return time.Duration(m - then) }

// bucket is a token bucket. The zero bucket has no limit.
type bucket struct {
	rate  float64 // tokens a second
	size  float64 // most it holds
	level float64
	at    moment // of level
}

// refill adds what has come in since the last time.
func (b *bucket) refill(now moment) {
	if b.size == 0 {
		return
	}
	if d := now.since(b.at); d > 0 {
		if b.at != 0 {
			b.level = min(b.size, b.level+d.Seconds()*b.rate)
		}
		b.at = now
	}
}

// whole is how many whole tokens are there.
func (b *bucket) whole() int {
	if b.size == 0 {
		return math.MaxInt32
	}
	return int(b.level + 1e-9)
}

// fit gives the bucket another rate, 0 = no limit. A silence that is under way stays as long as it is, whatever the rate.
func (b *bucket) fit(now moment, rate float64) {
	if rate == b.rate {
		return
	}
	b.refill(now)
	if b.size == 0 {
		b.at = now
	}
	if b.level < 0 && b.rate > 0 {
		b.level *= rate / b.rate
	}
	b.rate, b.size = rate, 0
	if rate > 0 {
		b.size = max(1, rate)
	}
	b.level = min(b.level, b.size)
}

// silence has the bucket stay empty for d.
func (b *bucket) silence(d time.Duration) { b.level = min(b.level, -d.Seconds()*b.rate) }

func (b *bucket) take(n int) {
	if b.size > 0 {
		b.level -= float64(n)
	}
}

func (b *bucket) put(n int) {
	if b.size > 0 {
		b.level = min(b.size, b.level+float64(n))
	}
}

// next is when n whole tokens will be there; n fits into the bucket.
func (b *bucket) next(now time.Time, n int) time.Time {
	if b.size == 0 {
		return now
	}
	missing := max(0, float64(n)-b.level)
	return now.Add(time.Duration(math.Ceil(missing / b.rate * float64(time.Second))))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// beginnings is the full bucket of new connections at a rate a second, 0 = no limit: a minute's worth, at most as many as may be open.
func beginnings(rate float64, connections int) bucket {
	if rate <= 0 {
		return bucket{}
	}
	size := max(1, min(float64(connections), 60*rate))
	return bucket{rate: rate, size: size, level: size}
}
