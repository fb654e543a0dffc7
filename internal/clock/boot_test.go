package clock

import (
	"testing"
	"time"
)

func TestBootTimeRunsAtPace(t *testing.T) {
	boot, wall := BootTime(), time.Now()
	for time.Since(wall) < 5*time.Millisecond {
	}
	passed, want := BootTime()-boot, time.Since(wall)
	if d := passed - want; d < -time.Millisecond || d > time.Millisecond {
		t.Fatalf("CLOCK_BOOTTIME counted %v, the monotonic clock %v", passed, want)
	}
}

func TestBootIsMoved(t *testing.T) {
	var b Boot
	before := b.Now()
	b.Advance(time.Hour)
	if d := b.Now() - before; d < time.Hour || d > time.Hour+time.Minute {
		t.Fatalf("an hour's advance moved it by %v", d)
	}
}

func BenchmarkBootTime(b *testing.B) {
	for b.Loop() {
		BootTime()
	}
}

func BenchmarkWall(b *testing.B) {
	for b.Loop() {
		Wall()
	}
}
