package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimerFollowsTheSteeredClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		fired := make(chan time.Time, 1)
		start := c.Now()
		c.At(start.Add(time.Hour), func() { fired <- c.Now() })

		c.Advance(59 * time.Minute)
		synctest.Wait()
		if len(fired) != 0 {
			t.Fatal("fired a minute early")
		}
		c.Advance(-30 * time.Minute)
		time.Sleep(2 * time.Minute) // fake time of the bubble
		synctest.Wait()
		if len(fired) != 0 {
			t.Fatal("fired although the clock was set back")
		}
		c.Set(start.Add(2 * time.Hour))
		synctest.Wait()
		if len(fired) != 1 {
			t.Fatal("did not fire when the clock passed it")
		}
	})
}

func TestTimerStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		fired := false
		c.At(c.Now().Add(time.Second), func() { fired = true }).Stop()
		c.Advance(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		if fired {
			t.Fatal("a stopped timer fired")
		}
	})
}
