package sim

import (
	"flag"
	"testing"
)

var (
	seedFlag = flag.Int64("seed", 0, "play this seed only")
	runsFlag = flag.Int64("runs", 50, "how many seeds to play")
)

func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		r := Run(*seedFlag, Config{})
		t.Log(r)
		if r.Err != nil {
			t.Fail()
		}
		return
	}
	for seed := int64(1); seed <= *runsFlag; seed++ {
		r := Run(seed, Config{})
		if r.Err != nil {
			t.Error(r)
		} else if seed <= 3 {
			t.Log(r)
		}
	}
}

func TestASeedIsARun(t *testing.T) {
	if a, b := Run(7, Config{}), Run(7, Config{}); a.String() != b.String() {
		t.Errorf("the same seed gave\n%v\n%v", a, b)
	}
}
