package standing

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/alignment"
)

// Answers gathers what the DNS says for one judgement, which may need answers to know what else to ask.
type Answers struct {
	dns     *dns.Resolver
	known   map[alignment.Question]answered
	missing []alignment.Question
	left    bool      // something is not known for good
	until   time.Time // when the first answer runs out
}

type answered struct {
	alignment.Answer
	until time.Time
	err   error // trouble with asking
}

// Bounds of one judgement.
const (
	maxRounds    = 32
	maxQuestions = 1000
	atOnce       = 16
)

// NewAnswers knows nothing yet.
func NewAnswers(names *dns.Resolver) *Answers {
	return &Answers{dns: names, known: map[alignment.Question]answered{}, until: clock.Wall().Add(freshGood)}
}

// Lookup implements alignment.Records.
func (a *Answers) Lookup(q alignment.Question) (alignment.Answer, bool) {
	k, ok := a.known[q]
	if !ok && !slices.Contains(a.missing, q) {
		a.missing = append(a.missing, q)
	}
	return k.Answer, ok && k.err == nil
}

// Complete calls judge again and again, asking in between for what it missed, until it misses nothing any more. What
// cannot be had stays unknown.
func (a *Answers) Complete(ctx context.Context, judge func(alignment.Records)) {
	for range maxRounds {
		a.missing = a.missing[:0]
		judge(a)
		if len(a.missing) == 0 {
			return
		}
		if len(a.known)+len(a.missing) > maxQuestions || ctx.Err() != nil {
			break
		}
		a.askAll(ctx)
	}
	a.left = true
}

func (a *Answers) askAll(ctx context.Context) {
	answers := make([]answered, len(a.missing))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, q := range a.missing {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			answers[i] = a.ask(ctx, q)
		})
	}
	wg.Wait()
	for i, q := range a.missing {
		k := answers[i]
		a.known[q] = k
		if k.err != nil {
			a.left = true
		} else if k.until.Before(a.until) {
			a.until = k.until
		}
	}
}

func (a *Answers) ask(ctx context.Context, q alignment.Question) (k answered) {
	switch q.Type {
	case alignment.TXT:
		k.Texts, k.until, k.err = a.dns.TXT(ctx, q.Name)
	case alignment.Hosts:
		k.Addrs, k.until, k.err = a.dns.Lookup(ctx, q.Name)
	case alignment.MX:
		k.Names, k.until, k.err = a.dns.Exchangers(ctx, q.Name)
	case alignment.PTR:
		ip, err := netip.ParseAddr(q.Name)
		if err != nil {
			return answered{err: err}
		}
		k.Names, k.until, k.err = a.dns.PTR(ctx, ip)
	}
	if k.err != nil && dns.Final(k.err) {
		k = answered{until: k.until} // there is none: that is an answer
	}
	return k
}
