package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

func mustResolver(t testing.TB, cfg Config) *Resolver {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 300 * time.Millisecond
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hosts(mx []MX) string {
	var b []string
	for _, m := range mx {
		b = append(b, fmt.Sprintf("%d=%s", m.Pref, m.Host))
	}
	return strings.Join(b, " ")
}

// manyMX returns n MX records, the best preferred last.
func manyMX(n int) (mx []dnstest.MX) {
	for i := range n {
		mx = append(mx, dnstest.MX{Pref: uint16(1000 - i), Host: fmt.Sprintf("m%d.many.test", i)})
	}
	return mx
}

// aliases leads from c0.test to c8.test in eight steps, from d0.test to d9.test in nine, and nowhere from loop.test.
func aliases() map[string]string {
	m := map[string]string{"loop.test": "pool.test", "pool.test": "loop.test", "d8.test": "d9.test"}
	for i := range 8 {
		m[fmt.Sprintf("c%d.test", i)] = fmt.Sprintf("c%d.test", i+1)
		m[fmt.Sprintf("d%d.test", i)] = fmt.Sprintf("d%d.test", i+1)
	}
	return m
}

// TestAliasesAreTemporary: a loop is the domain's slip of today, not its word that it takes no mail. RFC 5321 §5.1 lets
// only "does not exist" and "has no host" end a delivery, and a resolver that chases the loop itself answers SERVFAIL.
func TestAliasesAreTemporary(t *testing.T) {
	srv := dnstest.Start(t, dnstest.Zone{CNAME: aliases(), TTL: 60})
	r := mustResolver(t, Config{Servers: []string{srv.Addr}})
	for _, name := range []string{"loop.test", "d0.test"} {
		_, until, err := r.MX(t.Context(), mail.Domain(name))
		if !errors.Is(err, ErrAliases) || !errors.Is(err, ErrTemporary) || Final(err) || !until.IsZero() {
			t.Errorf("MX of %s: %v, final %v, remembered until %v", name, err, Final(err), until)
		}
		if _, err := r.Addrs(t.Context(), name, true, true); !errors.Is(err, ErrAliases) || Final(err) {
			t.Errorf("addresses of %s: %v, final %v", name, err, Final(err))
		}
	}
}

// TestMX is table T16 of the threats, and the rules of RFC 5321 §5.1, as far as they concern MX.
func TestMX(t *testing.T) {
	srv := dnstest.Start(t, dnstest.Zone{
		MX: map[string][]dnstest.MX{
			"plain.test": {{Pref: 20, Host: "b.test"}, {Pref: 10, Host: "A.test"}},
			"null.test":  {{Pref: 0, Host: "."}},
			"mixed.test": {{Pref: 0, Host: "."}, {Pref: 10, Host: "a.test"}},
			"bad.test":   {{Pref: 0, Host: `a\032b.test`}, {Pref: 5, Host: `\.x.test`}},
			"local.test": {{Pref: 0, Host: "localhost"}},
			"c8.test":    {{Pref: 1, Host: "a.test"}},
			"d9.test":    {{Pref: 1, Host: "a.test"}},
			"many.test":  manyMX(500),
			"tc.test":    {{Pref: 1, Host: "a.test"}},
			"late.test":  {{Pref: 1, Host: "a.test"}},
		},
		A:     map[string][]string{"implicit.test": {"192.0.2.1"}},
		AAAA:  map[string][]string{"implicit6.test": {"2001:db8::1"}},
		TXT:   map[string][]string{"nothing.test": {"x"}, "txt.test": slices.Repeat([]string{strings.Repeat("y", 250)}, 200)},
		CNAME: aliases(),
		Rcode: map[string]int{"servfail.test": dns.RcodeServerFailure, "refused.test": dns.RcodeRefused},
		Raw: map[string][]byte{
			"rdata.test": {0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 5, 'r', 'd', 'a', 't', 'a', 4, 't', 'e', 's', 't', 0, 0, 15, 0, 1,
				0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 9, 0, 1, 7}, // MX rdata of one octet
			"short.test": {0x81},
			"empty.test": {},
		},
		Delay:    map[string]time.Duration{"late.test": 700 * time.Millisecond},
		Truncate: map[string]bool{"tc.test": true},
		WrongID:  map[string]bool{"id.test": true},
		Other:    map[string]bool{"foreign.test": true},
		Silent:   map[string]bool{"silent.test": true},
		TTL:      60,
	})
	r := mustResolver(t, Config{Servers: []string{srv.Addr}})
	for _, tc := range []struct {
		name, domain, want string
		err                error
	}{
		{"by preference", "plain.test", "10=a.test 20=b.test", nil},
		{"null MX", "null.test", "", ErrNullMX},
		{"null MX beside others", "mixed.test", "10=a.test", nil},
		{"no usable MX", "bad.test", "", ErrNullMX},
		{"localhost is for the guard", "local.test", "0=localhost", nil},
		{"address only", "implicit.test", "0=implicit.test", nil},
		{"IPv6 address only", "implicit6.test", "0=implicit6.test", nil},
		{"neither", "nothing.test", "", ErrNoData},
		{"huge TXT, no MX", "txt.test", "", ErrNoData},
		{"no such name", "gone.test", "", ErrNoName},
		{"eight aliases", "c0.test", "1=a.test", nil},
		{"nine aliases", "d0.test", "", ErrAliases},
		{"alias loop", "loop.test", "", ErrAliases},
		{"SERVFAIL", "servfail.test", "", ErrTemporary},
		{"REFUSED", "refused.test", "", ErrTemporary},
		{"rdata too short", "rdata.test", "", ErrTemporary},
		{"message too short", "short.test", "", ErrTemporary},
		{"no message", "empty.test", "", ErrTemporary},
		{"truncated", "tc.test", "1=a.test", nil},
		{"wrong id", "id.test", "", ErrTemporary},
		{"another question", "foreign.test", "", ErrTemporary},
		{"no answer", "silent.test", "", ErrTemporary},
		{"late answer", "late.test", "", ErrTemporary},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			mx, until, err := r.MX(context.Background(), mail.Domain(tc.domain))
			if got := hosts(mx); !errors.Is(err, tc.err) || got != tc.want {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
			if err == nil && !until.After(clock.Wall()) {
				t.Errorf("answer valid until %v", until)
			}
			if Final(err) == errors.Is(err, ErrTemporary) && err != nil {
				t.Errorf("%v: final and temporary", err)
			}
		})
	}
	t.Run("500 MX", func(t *testing.T) {
		mx, _, err := r.MX(context.Background(), "many.test")
		if err != nil || len(mx) != MaxMX || mx[0].Host != "m499.many.test" || mx[29].Host != "m470.many.test" {
			t.Errorf("got %d hosts, %v: %s", len(mx), err, hosts(mx))
		}
		if srv.Asked("tcp many.test MX") != 1 {
			t.Error("the long answer did not come by TCP")
		}
	})
}

func TestAddrs(t *testing.T) {
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i+1))
	}
	srv := dnstest.Start(t, dnstest.Zone{
		A:     map[string][]string{"both.test": {"192.0.2.1"}, "four.test": {"192.0.2.2"}, "many.test": many},
		AAAA:  map[string][]string{"both.test": {"2001:db8::1"}, "mapped.test": {"::ffff:127.0.0.1"}},
		CNAME: map[string]string{"alias.test": "both.test"},
		Rcode: map[string]int{"servfail.test": dns.RcodeServerFailure},
		TTL:   60,
	})
	r := mustResolver(t, Config{Servers: []string{srv.Addr}})
	for _, tc := range []struct {
		host   string
		v4, v6 bool
		want   string
		err    error
	}{
		{"both.test", true, true, "[192.0.2.1 2001:db8::1]", nil},
		{"both.test", true, false, "[192.0.2.1]", nil},
		{"both.test", false, true, "[2001:db8::1]", nil},
		{"alias.test", true, true, "[192.0.2.1 2001:db8::1]", nil},
		{"four.test", true, true, "[192.0.2.2]", nil},
		{"four.test", false, true, "[]", ErrNoData},
		{"mapped.test", true, true, "[::ffff:127.0.0.1]", nil},
		{"gone.test", true, true, "[]", ErrNoName},
		{"servfail.test", true, true, "[]", ErrTemporary},
	} {
		got, err := r.Addrs(context.Background(), tc.host, tc.v4, tc.v6)
		if fmt.Sprint(got) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s %v %v: got %v, %v; want %s, %v", tc.host, tc.v4, tc.v6, got, err, tc.want, tc.err)
		}
	}
	if got, err := r.Addrs(context.Background(), "many.test", true, false); err != nil || len(got) != MaxAddrs {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

func TestEqualPreferenceIsShuffled(t *testing.T) {
	srv := dnstest.Start(t, dnstest.Zone{TTL: 60, MX: map[string][]dnstest.MX{
		"x.test": {{Pref: 10, Host: "a.test"}, {Pref: 10, Host: "b.test"}, {Pref: 10, Host: "c.test"}, {Pref: 5, Host: "d.test"}},
	}})
	first := mustResolver(t, Config{Servers: []string{srv.Addr}, Rand: func(int) int { return 0 }})
	last := mustResolver(t, Config{Servers: []string{srv.Addr}, Rand: func(n int) int { return n - 1 }})
	a, _, _ := first.MX(context.Background(), "x.test")
	b, _, _ := last.MX(context.Background(), "x.test")
	if a[0].Host != "d.test" || b[0].Host != "d.test" || hosts(a) == hosts(b) {
		t.Errorf("%s and %s", hosts(a), hosts(b))
	}
}

func TestCache(t *testing.T) {
	srv := dnstest.Start(t, dnstest.Zone{
		TTL: 1, MX: map[string][]dnstest.MX{"x.test": {{Pref: 10, Host: "a.test"}}},
		Rcode: map[string]int{"down.test": dns.RcodeServerFailure},
		Delay: map[string]time.Duration{"x.test": 50 * time.Millisecond},
	})
	r := mustResolver(t, Config{Servers: []string{srv.Addr}, Retries: -1})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, _, err := r.MX(context.Background(), "x.test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := srv.Asked("x.test MX"); n != 1 {
		t.Errorf("asked %d times for 20 at once", n)
	}
	_, _, _ = r.MX(context.Background(), "gone.test")
	_, _, _ = r.MX(context.Background(), "gone.test")
	if n := srv.Asked("gone.test MX"); n != 1 {
		t.Errorf("a negative answer was asked for %d times", n)
	}
	_, _, _ = r.MX(context.Background(), "down.test")
	_, _, _ = r.MX(context.Background(), "down.test")
	if n := srv.Asked("down.test MX"); n != 2 {
		t.Errorf("SERVFAIL was remembered: asked %d times", n)
	}
	// After the TTL the answer is asked for again.
	_, until, _ := r.MX(context.Background(), "x.test")
	timer := time.NewTimer(time.Until(until) + 10*time.Millisecond)
	<-timer.C
	_, _, _ = r.MX(context.Background(), "x.test")
	if n := srv.Asked("x.test MX"); n != 2 {
		t.Errorf("asked %d times after the TTL", n)
	}
	if srv.Ports() < 5 {
		t.Errorf("5 questions came from %d ports", srv.Ports())
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100)
	for i := range 1000 {
		_, err := c.get(context.Background(), question{fmt.Sprint(i), dns.TypeA}, func() (answer, error) {
			return answer{addrs: []netip.Addr{netip.IPv4Unspecified()}, until: clock.Wall().Add(time.Minute)}, nil
		})
		if err != nil || len(c.m) > 100 {
			t.Fatalf("%d entries, %v", len(c.m), err)
		}
	}
}

func TestContextAndFailover(t *testing.T) {
	dead := dnstest.Start(t, dnstest.Zone{Rcode: map[string]int{"x.test": dns.RcodeServerFailure}})
	live := dnstest.Start(t, dnstest.Zone{TTL: 60, MX: map[string][]dnstest.MX{"x.test": {{Pref: 1, Host: "a.test"}}},
		Silent: map[string]bool{"y.test": true}, NoEDNS: true})
	var log []string
	r := mustResolver(t, Config{Servers: []string{dead.Addr, live.Addr}, Notify: func(l Lookup) {
		log = append(log, fmt.Sprintf("%s %s %s %s", l.Name, l.Type, l.Status, l.Detail))
	}})
	mx, _, err := r.MX(context.Background(), "x.test")
	if err != nil || hosts(mx) != "1=a.test" {
		t.Errorf("%s, %v", hosts(mx), err)
	}
	if want := "[x.test MX SERVFAIL  x.test MX NOERROR 1 a.test.]"; fmt.Sprint(log) != want {
		t.Errorf("log %v", log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := mustResolver(t, Config{Servers: []string{live.Addr}, Retries: -1}).MX(ctx, "y.test"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := New(Config{Servers: []string{"resolver.test:53"}}); err == nil {
		t.Error("a server by name was taken")
	}
}

// FuzzRead feeds foreign messages to the reader of answers.
func FuzzRead(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("x.test.", dns.TypeMX)
	for _, s := range []string{"x.test. 60 IN MX 10 a.test.", "x.test. 60 IN CNAME y.test.", "y.test. 60 IN CNAME x.test.", "x.test. 60 IN MX 0 ."} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(dns.TypeMX))
	}
	f.Fuzz(func(t *testing.T, b []byte, qtype uint16) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		aliases := 0
		got := read(m, "x.test", qtype, &aliases)
		if len(got.mx) > MaxMX || len(got.addrs) > MaxAddrs || aliases > MaxCNAME+1 || got.ttl > maxTTL || got.ttl < 0 {
			t.Fatalf("%+v after %d aliases", got, aliases)
		}
		for _, h := range got.mx {
			if _, err := mail.ParseDomain(h.Host); err != nil {
				t.Fatalf("MX host %q", h.Host)
			}
		}
		if got.err == nil && got.mx == nil && got.addrs == nil && got.next == "" {
			t.Fatalf("neither answer nor error: %+v", got)
		}
	})
}
