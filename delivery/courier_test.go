package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
	"github.com/ekiden-mta/ekiden/delivery/smtpc"
	"github.com/ekiden-mta/ekiden/mail"
)

// receiver is a small honest SMTP server. It writes down every message, whether it came under TLS, and from where.
type receiver struct {
	addr     netip.AddrPort
	greeting string // "" = 220
	tls      *tls.Config
	broken   bool // answers STARTTLS with 220 and nonsense
	hangUps  int  // so many times it closes in the handshake without a word

	mu    sync.Mutex
	got   []string
	conns int
}

func startReceiver(t *testing.T, r *receiver, listen string) *receiver {
	t.Helper()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	r.addr = netip.MustParseAddrPort(ln.Addr().String())
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns++
			r.mu.Unlock()
			go r.serve(c)
		}
	}()
	return r
}

func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	say := func(s string) { _, _ = c.Write([]byte(s + "\r\n")) }
	if r.greeting != "" {
		say(r.greeting)
		return
	}
	say("220 receiver.test")
	how, to := "plain", ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.TrimSpace(line)); {
		case strings.HasPrefix(verb, "EHLO"):
			if r.tls != nil && how == "plain" || r.broken {
				say("250-receiver.test\r\n250-STARTTLS\r\n250 PIPELINING")
			} else {
				say("250-receiver.test\r\n250 PIPELINING")
			}
		case verb == "STARTTLS":
			say("220 go")
			if r.broken {
				say("500 what is this?")
				return
			}
			r.mu.Lock()
			r.hangUps--
			silent := r.hangUps >= 0
			r.mu.Unlock()
			if silent {
				_, _ = in.Peek(1) // the client's hello
				return
			}
			tc := tls.Server(c, r.tls)
			if tc.Handshake() != nil {
				return
			}
			c, in, how = tc, bufio.NewReader(tc), "tls"
		case strings.HasPrefix(verb, "RCPT"):
			to = line[strings.IndexByte(line, '<')+1 : strings.IndexByte(line, '>')]
			say("250 ok")
		case verb == "DATA":
			say("354 go")
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			r.mu.Lock()
			r.got = append(r.got, fmt.Sprintf("%s %s from %s", to, how, host))
			r.mu.Unlock()
			say("250 2.0.0 queued")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (r *receiver) log() (string, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.got, "; "), r.conns
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"somebody.else.test"}, NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// basket is Work over a list of jobs.
type basket struct {
	jobs  []*mail.Job
	lines []string
	next  func() // called in every Next
}

func newBasket(n int) *basket {
	b := &basket{}
	for i := range n {
		j := &mail.Job{Body: []byte("Subject: x\r\n\r\nx\r\n")}
		j.Delivery.To = mail.Address(fmt.Sprintf("u%d@x.test", i+1))
		b.jobs = append(b.jobs, j)
	}
	return b
}

func (b *basket) Next(time.Duration) *mail.Job {
	if b.next != nil {
		b.next()
	}
	if len(b.jobs) == 0 {
		return nil
	}
	j := b.jobs[0]
	b.jobs = b.jobs[1:]
	return j
}
func (b *basket) Ready(*mail.Job) bool { return true }
func (b *basket) Clear(*mail.Job) bool { return true }

func (b *basket) Sent(*mail.Job) {}
func (b *basket) Settle(j *mail.Job, o mail.Outcome, durable func(error)) {
	b.lines = append(b.lines, fmt.Sprintf("%s %s", j.Delivery.To, short(o)))
	durable(nil)
}
func (b *basket) Return(j *mail.Job) { b.lines = append(b.lines, string(j.Delivery.To)+" returned") }

func short(o mail.Outcome) string {
	s := strings.TrimSpace(fmt.Sprintf("%v %v %d %s", o.Result, o.Stage, o.Status, o.Detail+o.Reply.String()))
	if o.InDoubt {
		s += " (in doubt)"
	}
	return s
}

func at(rs ...*receiver) (route mail.Route) {
	for i, r := range rs {
		route.Hosts = append(route.Hosts, mail.Host{Name: fmt.Sprintf("mx%d.test", i+1), Addr: r.addr.Addr(), Port: r.addr.Port(), Pref: uint16(10 * i)})
	}
	return route
}

func closedPort(t *testing.T) *receiver {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return &receiver{addr: netip.MustParseAddrPort(ln.Addr().String())}
}

func TestCourier(t *testing.T) {
	const quick = -1
	for _, tc := range []struct {
		name    string
		hosts   func(t *testing.T) []*receiver
		trip    Trip
		guard   func(rs []*receiver) *Guard
		work    string // what became of the two jobs
		report  string // outcome of the report
		arrived []string
	}{
		{
			name:    "delivers",
			hosts:   func(t *testing.T) []*receiver { return []*receiver{startReceiver(t, &receiver{}, "127.0.0.1:0")} },
			work:    "[u1@x.test delivered dot 0 250 2.0.0 queued u2@x.test delivered dot 0 250 2.0.0 queued]",
			arrived: []string{"u1@x.test plain from 127.0.0.1; u2@x.test plain from 127.0.0.1"},
		}, {
			name:    "from the source asked for",
			hosts:   func(t *testing.T) []*receiver { return []*receiver{startReceiver(t, &receiver{}, "127.0.0.1:0")} },
			trip:    Trip{Source: netip.MustParseAddr("127.0.0.3"), PerConnection: 1},
			work:    "[u1@x.test delivered dot 0 250 2.0.0 queued]",
			arrived: []string{"u1@x.test plain from 127.0.0.3"},
		}, {
			name: "next host after refused connection and 5xx greeting",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{closedPort(t), startReceiver(t, &receiver{greeting: "554 5.7.1 no"}, "127.0.0.1:0"), startReceiver(t, &receiver{}, "127.0.0.1:0")}
			},
			work:    "[u1@x.test delivered dot 0 250 2.0.0 queued u2@x.test delivered dot 0 250 2.0.0 queued]",
			arrived: []string{"", "", "u1@x.test plain from 127.0.0.1; u2@x.test plain from 127.0.0.1"},
		}, {
			name: "5xx greeting everywhere is deferred (E-44)",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{startReceiver(t, &receiver{greeting: "554 5.7.1 no"}, "127.0.0.1:0"), closedPort(t)}
			},
			work:   "[]",
			report: "deferred greeting 4 554 5.7.1 no",
		}, {
			name:   "connection refused",
			hosts:  func(t *testing.T) []*receiver { return []*receiver{closedPort(t)} },
			work:   "[]",
			report: "deferred connect 3 connection refused",
		}, {
			name:   "source that is not ours",
			hosts:  func(t *testing.T) []*receiver { return []*receiver{closedPort(t)} },
			trip:   Trip{Source: netip.MustParseAddr("192.0.2.99")},
			work:   "[]",
			report: "deferred connect 3 source address is not available on this machine",
		}, {
			name: "TLS with a certificate nobody believes",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{startReceiver(t, &receiver{tls: selfSigned(t)}, "127.0.0.1:0")}
			},
			work:    "[u1@x.test delivered dot 0 250 2.0.0 queued u2@x.test delivered dot 0 250 2.0.0 queued]",
			arrived: []string{"u1@x.test tls from 127.0.0.1; u2@x.test tls from 127.0.0.1"},
		}, {
			name: "broken TLS goes in clear",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{startReceiver(t, &receiver{broken: true}, "127.0.0.1:0")}
			},
			work:    "[u1@x.test delivered dot 0 250 2.0.0 queued u2@x.test delivered dot 0 250 2.0.0 queued]",
			arrived: []string{"u1@x.test plain from 127.0.0.1; u2@x.test plain from 127.0.0.1"},
		}, {
			name: "broken TLS where it is required",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{startReceiver(t, &receiver{broken: true}, "127.0.0.1:0")}
			},
			trip:    Trip{TLS: smtpc.TLSRequired},
			work:    "[]",
			report:  "deferred tls 3",
			arrived: []string{""},
		}, {
			name:   "forbidden address",
			hosts:  func(t *testing.T) []*receiver { return []*receiver{startReceiver(t, &receiver{}, "127.0.0.1:0")} },
			guard:  func([]*receiver) *Guard { return NewGuard(false, nil) },
			work:   "[u1@x.test failed connect 7 5.4.4 mx1.test has an address that is not for mail: 127.0.0.1 u2@x.test failed connect 7 5.4.4 mx1.test has an address that is not for mail: 127.0.0.1]",
			report: "failed connect 7 5.4.4 mx1.test has an address that is not for mail: 127.0.0.1",
		}, {
			name: "MX to ourselves",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{startReceiver(t, &receiver{}, "127.0.0.1:0"), closedPort(t)}
			},
			guard: func(rs []*receiver) *Guard { return NewGuard(true, []netip.AddrPort{rs[0].addr}) },
			work: "[u1@x.test failed connect 7 5.4.6 mail for mx1.test loops back to ourselves" +
				" u2@x.test failed connect 7 5.4.6 mail for mx1.test loops back to ourselves]",
			report: "failed connect 7 5.4.6 mail for mx1.test loops back to ourselves",
		}, {
			name: "we are the second choice",
			hosts: func(t *testing.T) []*receiver {
				return []*receiver{closedPort(t), startReceiver(t, &receiver{}, "127.0.0.1:0")}
			},
			guard:  func(rs []*receiver) *Guard { return NewGuard(true, []netip.AddrPort{rs[1].addr}) },
			work:   "[]",
			report: "deferred connect 7 5.4.6 mail for mx2.test loops back to ourselves",
		}, {
			name:   "no host",
			hosts:  func(*testing.T) []*receiver { return nil },
			work:   "[]",
			report: "deferred dns 3 no host has an address of the source's family",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rs := tc.hosts(t)
			cfg := Config{Guard: NewGuard(true, nil), Session: smtpc.Config{Helo: "client.test"}}
			if tc.guard != nil {
				cfg.Guard = tc.guard(rs)
			}
			tc.trip.Route, tc.trip.Linger = at(rs...), quick
			b := newBasket(2)
			r := New(cfg).Run(context.Background(), tc.trip, b)
			if got := fmt.Sprint(b.lines); got != tc.work {
				t.Errorf("jobs: %s, want %s", got, tc.work)
			}
			got := ""
			if r.Outcome.Result != 0 {
				got = short(r.Outcome)
			}
			if got != tc.report && (tc.report == "" || !strings.HasPrefix(got, tc.report)) {
				t.Errorf("report %q, want %q", got, tc.report)
			}
			if r.Connected != strings.Contains(tc.work, "delivered") || r.Messages != len(b.lines) {
				t.Errorf("report %+v", r)
			}
			for i, want := range tc.arrived {
				if got, _ := rs[i].log(); got != want {
					t.Errorf("host %d got %q, want %q", i+1, got, want)
				}
			}
		})
	}
}

// TestRebinding: the name leads to a harmless address when the route is made and to loopback when it is dialled.
func TestRebinding(t *testing.T) {
	rc := startReceiver(t, &receiver{}, "127.0.0.1:0")
	srv := dnstest.Start(t, dnstest.Zone{TTL: 60, A: map[string][]string{"evil.test": {"192.0.2.1"}}})
	ask := func() *mdns.Resolver {
		r, err := mdns.New(mdns.Config{Servers: []string{srv.Addr}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	res := Resolver{DNS: ask(), Port: rc.addr.Port()}
	route, o := res.Route(context.Background(), "evil.test")
	if o.Result != 0 {
		t.Fatal(short(o))
	}
	srv.Set(func(z *dnstest.Zone) { z.A["evil.test"] = []string{"127.0.0.1"} })
	b := newBasket(1)
	r := New(Config{DNS: ask()}).Run(context.Background(), Trip{Route: route, Linger: -1}, b)
	if r.Outcome.Result != mail.Failed || !strings.Contains(r.Outcome.Detail, "127.0.0.1") || r.Messages != 1 {
		t.Errorf("%+v, %v", r, b.lines)
	}
	if _, conns := rc.log(); conns != 0 {
		t.Error("loopback was dialled")
	}
}

// TestAliasToPrivate: neither the host of an MX nor a domain without one leads to loopback by way of an alias (threat T15).
func TestAliasToPrivate(t *testing.T) {
	rc := startReceiver(t, &receiver{}, "127.0.0.1:0")
	srv := dnstest.Start(t, dnstest.Zone{TTL: 60,
		MX:    map[string][]dnstest.MX{"mx.evil.test": {{Pref: 10, Host: "host.evil.test"}}},
		CNAME: map[string]string{"host.evil.test": "alias.test", "domain.evil.test": "alias.test", "alias.test": "inner.test"},
		A:     map[string][]string{"inner.test": {"127.0.0.1"}}})
	d, err := mdns.New(mdns.Config{Servers: []string{srv.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	res := Resolver{DNS: d, Port: rc.addr.Port()}
	for _, domain := range []mail.Domain{"mx.evil.test", "domain.evil.test"} {
		route, o := res.Route(context.Background(), domain)
		if o.Result != 0 {
			t.Fatal(domain, short(o))
		}
		b := newBasket(1)
		r := New(Config{DNS: d}).Run(context.Background(), Trip{Route: route, Linger: -1}, b)
		if r.Outcome.Result != mail.Failed || !strings.Contains(r.Outcome.Detail, "127.0.0.1") || r.Messages != 1 {
			t.Errorf("%s: %+v, %v", domain, r, b.lines)
		}
	}
	if _, conns := rc.log(); conns != 0 {
		t.Error("loopback was dialled")
	}
}

func TestResolverRoute(t *testing.T) {
	srv := dnstest.Start(t, dnstest.Zone{TTL: 60,
		MX: map[string][]dnstest.MX{"x.test": {{Pref: 20, Host: "b.test"}, {Pref: 10, Host: "a.test"}}, "null.test": {{Host: "."}}},
		A:  map[string][]string{"host.test": {"192.0.2.1"}}, Rcode: map[string]int{"down.test": 2}})
	d, err := mdns.New(mdns.Config{Servers: []string{srv.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	routes, err := ParseRoutes([]RouteRule{{"*.static.test", "127.0.0.2:2526"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	res := Resolver{Routes: routes, DNS: d}
	for domain, want := range map[mail.Domain]string{
		"x.test": "10=a.test:25,20=b.test:25 false", "host.test": "host.test:25 false", "y.static.test": "127.0.0.2:2526 true",
		"null.test": "failed dns 1 domain takes no mail (null MX)", "gone.test": "failed dns 1 domain does not exist",
		"down.test": "deferred dns 3 no DNS answer at the moment: down.test: SERVFAIL",
	} {
		route, o := res.Route(context.Background(), domain)
		got := fmt.Sprint(route.Key(), " ", route.Static)
		if o.Result != 0 {
			got = short(o)
		} else if !route.Until.After(time.Now()) {
			t.Errorf("%s: route is out of date", domain)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
	if srv.Asked("y.static.test MX") != 0 {
		t.Error("the DNS was asked about a static route")
	}
}

// TestInterval: messages on one connection begin no closer than the interval.
func TestInterval(t *testing.T) {
	rc := startReceiver(t, &receiver{}, "127.0.0.1:0")
	start := time.Now()
	b := newBasket(3)
	New(Config{Guard: NewGuard(true, nil)}).Run(context.Background(), Trip{Route: at(rc), Linger: -1, Interval: 60 * time.Millisecond}, b)
	if took := time.Since(start); len(b.lines) != 3 || took < 120*time.Millisecond {
		t.Errorf("%v in %v", b.lines, took)
	}
}

// TestStop: a context that ends lets the open transaction finish and nothing new begin.
func TestStop(t *testing.T) {
	rc := startReceiver(t, &receiver{}, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := newBasket(5)
	calls := 0
	b.next = func() {
		if calls++; calls == 2 {
			cancel()
		}
	}
	r := New(Config{Guard: NewGuard(true, nil)}).Run(ctx, Trip{Route: at(rc), Linger: -1}, b)
	if r.Outcome.Result != 0 || r.Messages != 2 || len(b.jobs) != 3 {
		t.Errorf("%+v, %v, %d left", r, b.lines, len(b.jobs))
	}
}

// TestStoppedWhileConnecting: breaking off is nobody's failure to connect.
func TestStoppedWhileConnecting(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := newBasket(1)
	r := New(Config{Guard: NewGuard(true, nil)}).Run(ctx, Trip{Route: at(closedPort(t))}, b)
	if got := short(r.Outcome); got != "deferred none 0 stopped" || len(b.jobs) != 1 {
		t.Errorf("%s, %v", got, b.lines)
	}
}

// TestStoppedBehindTheDot: a receiver that never answers is cut off, and the message is in doubt.
func TestStoppedBehindTheDot(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte("220 x\r\n"))
		in := bufio.NewReader(c)
		_, _ = in.ReadString('\n')
		_, _ = c.Write([]byte("250-x\r\n250 PIPELINING\r\n"))
		var seen []byte
		for !bytes.HasSuffix(seen, []byte("DATA\r\n")) {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			seen = append(seen, line...)
		}
		_, _ = c.Write([]byte("250 ok\r\n250 ok\r\n354 go\r\n"))
		for line := ""; line != ".\r\n"; {
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		cancel()
		_, _ = in.ReadByte()
	}()
	rc := &receiver{addr: netip.MustParseAddrPort(ln.Addr().String())}
	b := newBasket(1)
	cfg := Config{Guard: NewGuard(true, nil), Session: smtpc.Config{Timeouts: smtpc.Timeouts{Stop: 50 * time.Millisecond}}}
	New(cfg).Run(ctx, Trip{Route: at(rc), Linger: -1}, b)
	if len(b.lines) != 1 || !strings.HasSuffix(b.lines[0], "deferred dot 3 connection closed by us after the final dot (in doubt)") {
		t.Errorf("%v", b.lines)
	}
}
