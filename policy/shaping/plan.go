package shaping

import (
	"math"
	"time"

	"github.com/ekiden-mta/ekiden/policy/settings"
)

// Plan is how many messages a new source may send to one receiver, day by day, until it counts as warm (R149). It is
// part of an immutable table: never change it.
type Plan struct {
	Name   string
	Span   time.Duration // what a step's figure covers: an hour or a day, by UTC
	Steps  []int         // messages in one Span: one figure for each day
	Earned bool          // a day counts only if four fifths of what it allowed was sent
}

// Names of the built-in plans. policy/settings knows them too.
const (
	NoPlan        = "none"
	PlanSendGrid  = "sendgrid"
	PlanSparkPost = "sparkpost"
)

// Plans returns the built-in plans and the operator's own, by name.
func Plans(own []settings.Warmup) map[string]*Plan {
	all := builtinPlans()
	for i := range own {
		p := &Plan{Name: own[i].Name, Span: 24 * time.Hour, Steps: own[i].Steps, Earned: own[i].Earned}
		if own[i].Per == "hour" {
			p.Span = time.Hour
		}
		all[p.Name] = p
	}
	return all
}

func builtinPlans() map[string]*Plan {
	return map[string]*Plan{
		// SendGrid's automatic warm-up: by the hour, days 0 to 35, 1.4 times as much each day. Excess goes to warm addresses.
		PlanSendGrid: {Name: PlanSendGrid, Span: time.Hour, Steps: ratio(
			[]int{20, 28, 39, 55, 77, 108, 151, 211, 295, 413, 579, 810, 1000, 1587, 2222, 3111}, 2_600_000, 36)},
		// SparkPost's: by the day, 29 stages, each to be used before the next. The stages between half a million and ten
		// are in equal ratio, for want of the published figures.
		PlanSparkPost: {Name: PlanSparkPost, Span: 24 * time.Hour, Earned: true, Steps: ratio([]int{200, 500, 1000, 2000, 5000,
			10_000, 20_000, 40_000, 50_000, 75_000, 100_000, 150_000, 200_000, 250_000, 325_000, 400_000, 500_000}, 10_000_000, 29)},
	}
}

// ratio extends steps to n of them in equal ratio, the last being last.
func ratio(steps []int, last, n int) []int {
	from := float64(steps[len(steps)-1])
	r := math.Pow(float64(last)/from, 1/float64(n-len(steps)))
	for len(steps) < n {
		from *= r
		steps = append(steps, int(math.Round(from)))
	}
	return steps
}

// Figures of warm-up that plans leave open.
const (
	coldAfter  = 7       // days without mail before warmth is lost, a step a day
	earnedPart = 4. / 5. // of a day's messages that must have been sent where a step is to be earned
)

// warmth is where a source stands in a plan with one receiver.
type warmth struct {
	plan   *Plan
	step   int   // the day's; len(plan.Steps) = warm
	day    int64 // of sent, since 1970 UTC
	last   int64 // day on which mail was last granted
	sent   int   // messages granted on day and not given back
	period int64 // Spans since 1970 …
	spent  int   // … messages granted in it and not given back
	stale  int   // messages out when it began
	hurt   bool  // a step was taken back today: the day does not count either
}

// cold tells whether the plan limits anything.
func (w *warmth) cold() bool { return w.plan != nil && w.step < len(w.plan.Steps) }

// left is how many messages the step still allows.
func (w *warmth) left() int { return w.plan.Steps[w.step] - w.spent }

// ends is when the next span begins.
func (w *warmth) ends(now time.Time) time.Time {
	span := int64(w.plan.Span / time.Second)
	return time.Unix((w.period+1)*span, 0).In(now.Location())
}

// periodAt is the number of the span that now is in.
func (w *warmth) periodAt(now time.Time) int64 { return now.Unix() / int64(w.plan.Span/time.Second) }

func unixDay(t time.Time) int64 { return int64(math.Floor(float64(t.Unix()) / 86400)) }

// advance brings period, day and step up to now; pending messages are out.
func (w *warmth) advance(now time.Time, pending int) {
	if w.plan == nil {
		return
	}
	if p := w.periodAt(now); p > w.period {
		w.period, w.spent, w.stale = p, 0, pending
	}
	day := unixDay(now)
	if day <= w.day {
		return
	}
	if w.day == 0 { // the first day
		w.day, w.last = day, day
		return
	}
	if w.cold() && w.counts() {
		w.step++
	}
	lost := max(0, day-w.last-coldAfter) - max(0, w.day-w.last-coldAfter)
	w.step = max(0, w.step-int(lost))
	w.day, w.sent, w.hurt = day, 0, false
}

// counts tells whether the day that is over leads on to the next step.
func (w *warmth) counts() bool {
	if w.hurt || w.sent == 0 {
		return false
	}
	whole := float64(w.plan.Steps[w.step]) * float64(24*time.Hour/w.plan.Span)
	return !w.plan.Earned || float64(w.sent) >= earnedPart*whole
}

func (w *warmth) debit(n int) {
	if w.plan != nil {
		w.spent, w.sent, w.last = w.spent+n, w.sent+n, w.day
	}
}

func (w *warmth) credit(n int) {
	old := min(n, w.stale)
	w.stale -= old
	w.spent, w.sent = max(0, w.spent-(n-old)), max(0, w.sent-(n-old))
}

// back takes one step back, once a day: the receiver did not like what it got.
func (w *warmth) back() {
	if w.plan != nil && !w.hurt {
		w.step, w.hurt = max(0, w.step-1), true
	}
}

// Warm puts a warm-up plan in force, nil = none. Where a source stands in another plan is forgotten; in one of the same name,
// which was edited, it stays, and what was sent today counts for the present span.
func (m *Machine) Warm(now time.Time, p *Plan) {
	w := &m.w
	if w.plan == p {
		return
	}
	if w.plan != nil && p != nil && w.plan.Name == p.Name {
		w.advance(now, m.pending)
		again := w.plan.Span != p.Span
		w.plan, w.step = p, min(w.step, len(p.Steps))
		if again {
			w.period, w.spent, w.stale = w.periodAt(now), w.sent, 0
		}
		return
	}
	m.w = warmth{plan: p}
	m.w.advance(now, m.pending)
	m.w.stale = m.pending
}

// Warmup tells the step of a plan a source is at with the receiver, and what it allows in one span; ok is false where
// no plan limits it.
func (m *Machine) Warmup() (step, allowed int, ok bool) {
	if !m.w.cold() {
		return 0, 0, false
	}
	return m.w.step, m.w.plan.Steps[m.w.step], true
}
