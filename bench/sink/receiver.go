package sink

import (
	"strconv"
	"strings"
	"time"
)

// receiver is a Receiver made ready for the session: rules by stage, one quota of each kind, replies as wire bytes.
type receiver struct {
	Receiver
	rules         map[string][]*Rule
	connections   *Quota
	perMinute     *Quota
	perConnection *Quota
	unknownRatio  *Quota
	latency       time.Duration
	commandDelay  time.Duration
	byteDelay     time.Duration
	maxSize       int64
	maxRecipients int
}

func compile(r Receiver, latency time.Duration) *receiver {
	c := &receiver{
		Receiver: r, rules: map[string][]*Rule{}, latency: max(latency, time.Duration(r.Latency)),
		commandDelay: time.Duration(r.Tarpit.Command), byteDelay: time.Duration(r.Tarpit.Byte),
		maxSize: pick(r.MaxSize, 50<<20), maxRecipients: pick(r.MaxRecipients, 1000),
	}
	for i := range c.Rules {
		rule := &c.Rules[i]
		rule.Do = pick(rule.Do, "reply")
		c.rules[rule.Stage] = append(c.rules[rule.Stage], rule)
	}
	for i := range c.Quotas {
		q := &c.Quotas[i]
		q.Then, q.After = pick(q.Then, "reply"), pick(q.After, 100)
		switch q.Of {
		case "connections":
			c.connections = q
		case "per_minute":
			c.perMinute = q
		case "per_connection":
			c.perConnection = q
		case "unknown_ratio":
			c.unknownRatio = q
		}
	}
	c.Unknown = pick(c.Unknown, "550 5.1.1 <{rcpt}>: User unknown")
	c.Full = pick(c.Full, "452 4.2.2 <{rcpt}>: mailbox full")
	c.Deferred = pick(c.Deferred, "451 4.3.0 Temporary failure, try again later")
	return c
}

// special reads the local parts every receiver understands: unknown-…, full-…, filtered-…, deferN-…, reset-…,
// close-…, hang-…. It returns the rule such a recipient brings with it, or nil.
func (r *receiver) special(local []byte) *Rule {
	word, _, ok := strings.Cut(string(local), "-")
	if !ok {
		return nil
	}
	switch word {
	case "unknown":
		return &Rule{Stage: "rcpt", Do: "reply", Reply: r.Unknown}
	case "full":
		return &Rule{Stage: "rcpt", Do: "reply", Reply: r.Full}
	case "filtered":
		if r.Filtered != "" {
			return &Rule{Stage: "dot", Do: "reply", Reply: r.Filtered}
		}
	case "reset", "close", "hang":
		return &Rule{Stage: "dot", Do: word}
	}
	if n, ok := strings.CutPrefix(word, "defer"); ok {
		if times, err := strconv.Atoi(n); err == nil && times > 0 {
			return &Rule{Stage: "rcpt", Do: "reply", Reply: r.Deferred, Times: times}
		}
	}
	return nil
}

// world finds the receiver of a domain or a listener.
type world struct {
	exact    map[string]*receiver
	suffix   map[string]*receiver
	any      *receiver
	byListen map[string]*receiver
	all      []*receiver
}

func newWorld(cfg Config) *world {
	w := &world{exact: map[string]*receiver{}, suffix: map[string]*receiver{}, byListen: map[string]*receiver{}}
	for _, r := range cfg.Model.Receivers {
		c := compile(r, cfg.Latency)
		w.all = append(w.all, c)
		for _, d := range r.Domains {
			d = strings.ToLower(d)
			switch {
			case d == "*":
				w.any = c
			case strings.HasPrefix(d, "*."):
				w.suffix[d[2:]] = c
			default:
				w.exact[d] = c
			}
		}
		for _, l := range r.Listen {
			w.byListen[l] = c
		}
	}
	if w.any == nil {
		starttls := ""
		if cfg.StartTLS {
			starttls = "offer"
		}
		w.any = compile(Receiver{Name: "any", Chunking: cfg.Chunking, StartTLS: starttls}, cfg.Latency)
		w.all = append(w.all, w.any)
	}
	return w
}

// of returns the receiver of a lower-case domain; never nil.
func (w *world) of(domain []byte) *receiver {
	if len(w.exact) > 0 {
		if r := w.exact[string(domain)]; r != nil {
			return r
		}
	}
	if len(w.suffix) > 0 {
		for i, b := range domain {
			if b == '.' {
				if r := w.suffix[string(domain[i+1:])]; r != nil {
					return r
				}
			}
		}
	}
	return w.any
}

// offersChunking and offersTLS tell what EHLO shows on a listener: what its receiver offers, or, where the listener
// is shared, what any of them does.
func (w *world) offers(bound *receiver, has func(*receiver) bool) bool {
	if bound != nil {
		return has(bound)
	}
	for _, r := range w.all {
		if has(r) {
			return true
		}
	}
	return false
}
