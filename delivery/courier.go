package delivery

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/smtpc"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Work is what a session carries; see smtpc.Work for the contract of each method.
type Work = smtpc.Work

// Trip is one connection to make.
type Trip struct {
	Source        netip.Addr    // invalid: the system chooses
	Route         mail.Route    // hosts to try in order
	Receiver      string        // policy group, for classification and logs
	PerConnection int           // messages on this connection; 0 = no limit
	SessionTime   time.Duration // how long after its beginning it begins messages; 0 = no limit
	Interval      time.Duration // from one message's begin to the next on this connection
	TLS           string        // smtpc.TLSOpportunistic (also ""), TLSRequired, TLSNone
	Linger        time.Duration // how long an idle connection waits for work; 0 = 3 s, negative = not at all
	Domain        mail.Domain   // of the mail it is made for, for the log
}

// Report is why the connection ended.
type Report struct {
	Connected bool         // a session was established (EHLO answered 2xx)
	Outcome   mail.Outcome // zero when it ended in peace; else the trouble with the connection
	Messages  int          // deliveries that got an outcome
}

// Config is what a Courier needs. Zero fields take the default.
type Config struct {
	Session        smtpc.Config
	Guard          *Guard        // nil: nothing private, no listeners of our own
	DNS            *dns.Resolver // for the addresses of hosts; may be nil if every route names addresses
	Clock          *clock.Clock
	ConnectTimeout time.Duration // 30 s
	UserTimeout    time.Duration // TCP_USER_TIMEOUT: 60 s
	MaxDials       int           // addresses tried per trip: 10
	Log            *slog.Logger
	Notify         func(Connection) // told of every connection when it has ended; nil = nobody. It must not block
}

// Courier carries mail to receivers. One serves a whole node; it is safe for concurrent use.
type Courier struct {
	cfg    Config
	memory *memory
}

// New returns a Courier.
func New(cfg Config) *Courier {
	if cfg.Guard == nil {
		cfg.Guard = NewGuard(false, nil)
	}
	if cfg.Clock == nil {
		cfg.Clock = &clock.Clock{}
	}
	if cfg.Session.Clock == nil {
		cfg.Session.Clock = cfg.Clock
	}
	cfg.Session = cfg.Session.Complete()
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = 30 * time.Second
	}
	if cfg.UserTimeout <= 0 {
		cfg.UserTimeout = time.Minute
	}
	if cfg.MaxDials <= 0 {
		cfg.MaxDials = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Courier{cfg: cfg, memory: newMemory(cfg.Clock)}
}

// defaultLinger is how long an idle connection waits for work unless the trip says otherwise.
const defaultLinger = 3 * time.Second

// Run connects to the first host of t that takes us, carries what w gives, and returns when the connection is closed.
// It ends early, at the next message, when ctx does.
//
// Hosts are tried in order, the addresses of each in the order of the DNS, IPv4 first. A host that turns us away in
// its greeting or at EHLO is left for the next (requirement E-44). If none takes us the outcome is that of the host
// that came furthest, deferred, and no job was touched. The exception is a route of the DNS that leads nowhere mail
// may go: no host exists, all addresses are forbidden (threat T15), or it leads back to ourselves (threat T14). Then
// the outcome is failed, and what w gives is settled with it. An outcome of StageNone is our own trouble, such as ctx.
func (c *Courier) Run(ctx context.Context, t Trip, w Work) Report {
	a := attempt{c: c, t: t}
	for _, h := range t.Route.Hosts {
		if a.done(ctx, h) {
			break
		}
		if s := a.host(ctx, h); s != nil {
			return c.carry(ctx, t, w, s, &a)
		}
	}
	o := a.verdict()
	if ctx.Err() != nil { // whatever failed last, it was us who broke off
		o.Result, o.Stage, o.Status, o.Detail = mail.Deferred, mail.StageNone, mail.StatusNone, "stopped"
	}
	if o.Advice == nil && o.Silence() != mail.NotSilent { // a reply was judged already
		if known := c.cfg.Session.Classify(t.Receiver, o, ""); known.Advice != nil {
			o.Scope, o.Advice = known.Scope, known.Advice
		}
	}
	c.cfg.Log.Debug("no host took the connection", "receiver", t.Receiver, "stage", o.Stage.String(), "detail", o.Detail)
	r := Report{Outcome: o}
	if o.Result == mail.Failed {
		r.Messages = c.refuseAll(ctx, t, w, o)
	}
	return r
}

// carry has the session do its work and remembers what the host could not take.
func (c *Courier) carry(ctx context.Context, t Trip, w Work, s *smtpc.Session, a *attempt) Report {
	linger := t.Linger
	if linger == 0 {
		linger = defaultLinger
	}
	_, torn := c.memory.about(a.key)
	if c.cfg.Notify != nil {
		w = &countedWork{Work: w, to: &a.last}
	}
	r := s.Carry(ctx, w, smtpc.Limits{
		Messages: t.PerConnection, Time: t.SessionTime, Interval: t.Interval, Linger: max(linger, 0), Groups: !torn,
	})
	if r.Torn {
		c.memory.groupTorn(a.key)
	}
	a.last.TLS = s.Secure()
	a.ended(r.Outcome)
	return Report{Connected: true, Outcome: r.Outcome, Messages: r.Messages}
}

// refuseWait is how long hopeless mail is waited for: whoever has a pace gives none to those that do not wait.
const refuseWait = time.Second

// refuseAll settles what w gives with a final outcome, as far as one connection would have carried it.
func (c *Courier) refuseAll(ctx context.Context, t Trip, w Work, o mail.Outcome) (n int) {
	for ; (t.PerConnection <= 0 || n < t.PerConnection) && ctx.Err() == nil; n++ {
		j := w.Next(refuseWait)
		if j == nil {
			break
		}
		w.Settle(j, o, func(error) {}) // no dot follows that would have to wait
	}
	return n
}

// attempt is one walk over the hosts of a trip.
type attempt struct {
	c     *Courier
	t     Trip
	key   string // of the host a session was opened with
	dials int
	best  mail.Outcome // trouble that came furthest; zero = none

	last Connection // the one under way, where somebody wants to know of it

	self  bool   // met ourselves, and everything from that preference on is out of question
	pref  uint16 // of the host that is ourselves
	tried bool   // some host could have taken us: its trouble is not final
}

// done tells whether to stop in front of h. A host list that holds ourselves ends there, except for hosts preferred
// more (RFC 5321 §5.1), or two of us would hand the mail to and fro.
func (a *attempt) done(ctx context.Context, h mail.Host) bool {
	return ctx.Err() != nil || a.dials >= a.c.cfg.MaxDials || a.self && h.Pref >= a.pref
}

// trouble remembers o unless an earlier host came further.
func (a *attempt) trouble(o mail.Outcome) {
	if a.best.Result == 0 || o.Stage >= a.best.Stage {
		a.best = o
	}
}

// verdict is the outcome of a walk without a session.
func (a *attempt) verdict() mail.Outcome {
	o := a.best
	switch {
	case o.Result == 0:
		return mail.Outcome{
			Result: mail.Deferred, Stage: mail.StageDNS, Status: mail.StatusTimeout, Scope: mail.ScopeReceiver,
			Detail: "no host has an address of the source's family", Source: a.t.Source, At: a.c.cfg.Clock.Now(),
		}
	case a.tried || a.t.Route.Static:
		o.Result = mail.Deferred
	default:
		o.Result = mail.Failed
	}
	return o
}

// host tries the addresses of h.
func (a *attempt) host(ctx context.Context, h mail.Host) *smtpc.Session {
	addrs, err := a.addresses(ctx, h)
	if err != nil {
		o := dnsOutcome(err, a.c.cfg.Clock.Now())
		o.MX, o.Source = h.Name, a.t.Source
		a.tried = a.tried || o.Result == mail.Deferred
		a.trouble(o)
		return nil
	}
	for _, addr := range addrs {
		if a.dials >= a.c.cfg.MaxDials || ctx.Err() != nil {
			return nil
		}
		a.dials++
		s, o := a.open(ctx, h, netip.AddrPortFrom(addr, h.Port))
		if s != nil {
			return s
		}
		a.trouble(o)
		if a.self || o.Stage > mail.StageConnect {
			return nil // turned away: another door of the same house will not open either
		}
	}
	return nil
}

// addresses returns where h can be dialled from the trip's source.
func (a *attempt) addresses(ctx context.Context, h mail.Host) ([]netip.Addr, error) {
	src := a.t.Source
	v4, v6 := !src.IsValid() || src.Unmap().Is4(), !src.IsValid() || !src.Unmap().Is4()
	if h.Addr.IsValid() {
		if is4 := h.Addr.Unmap().Is4(); is4 && !v4 || !is4 && !v6 {
			a.tried = true
			return nil, nil
		}
		return []netip.Addr{h.Addr}, nil
	}
	if a.c.cfg.DNS == nil {
		return nil, errors.New("no resolver")
	}
	addrs, err := a.c.cfg.DNS.Addrs(ctx, h.Name, v4, v6)
	if errors.Is(err, dns.ErrNoData) && src.IsValid() { // it may have addresses of the other family
		a.tried = true
		return nil, nil
	}
	return addrs, err
}

// open dials one address and opens a session on it. Where opportunistic TLS breaks, it connects again in clear, and
// remembers not to try for some days. A connection that is lost in the handshake says nothing of the receiver's TLS: that
// is trouble with the connection, and mail goes to another host or later, unless it happens again and again.
func (a *attempt) open(ctx context.Context, h mail.Host, to netip.AddrPort) (*smtpc.Session, mail.Outcome) {
	a.key = net.JoinHostPort(h.Name, strconv.Itoa(int(h.Port)))
	mode := a.t.TLS
	if mode == "" {
		mode = smtpc.TLSOpportunistic
	}
	if broken, _ := a.c.memory.about(a.key); broken && mode == smtpc.TLSOpportunistic {
		mode = smtpc.TLSNone
	}
	s, o := a.connect(ctx, h, to, mode)
	if s != nil && s.Secure() {
		a.c.memory.tlsWorks(a.key)
	}
	if s == nil && o.Stage == mail.StageTLS && mode == smtpc.TLSOpportunistic && ctx.Err() == nil && o.Reply.IsZero() &&
		(o.Silence() == mail.NotSilent || a.c.memory.tlsSilent(a.key)) {
		a.c.memory.tlsBroken(a.key)
		a.c.cfg.Log.Info("TLS is broken, mail goes in clear", "host", a.key, "detail", o.Detail)
		return a.connect(ctx, h, to, smtpc.TLSNone)
	}
	return s, o
}

func (a *attempt) connect(ctx context.Context, h mail.Host, to netip.AddrPort, mode string) (*smtpc.Session, mail.Outcome) {
	a.begun(h, to)
	conn, err := a.c.dial(ctx, a.t.Source, to)
	if err != nil {
		switch {
		case errors.Is(err, ErrOurselves):
			a.self, a.pref = true, h.Pref
		case !errors.Is(err, ErrForbidden):
			a.tried = true
		}
		o := a.c.connectFailure(a.t, h, to, err)
		if !errors.Is(err, ErrOurselves) && !errors.Is(err, ErrForbidden) { // or nothing was tried
			a.ended(o)
		}
		return nil, o
	}
	a.tried = true
	peer := smtpc.Peer{Source: a.t.Source, Remote: to, Host: h.Name, Receiver: a.t.Receiver, TLS: mode}
	if a.c.cfg.Notify != nil {
		peer.Greeted = a.greeted
		if !a.last.Source.IsValid() {
			a.last.Source = addressOf(conn.LocalAddr())
		}
	}
	s, o := smtpc.Open(ctx, conn, peer, &a.c.cfg.Session)
	if s == nil {
		a.ended(o)
	}
	return s, o
}
