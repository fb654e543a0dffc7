package delivery

import (
	"errors"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestRoutes(t *testing.T) {
	r, err := ParseRoutes([]RouteRule{
		{"*", "127.0.0.2:2526"}, {"*.test", "a.relay:25"}, {"*.b.test", "b.relay:26"}, {"X.b.test", "[::1]:27"}, {"bücher.example", "c.relay:25"},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[mail.Domain]string{
		"example.jp": "127.0.0.2:2526", "test": "127.0.0.2:2526", "b.test": "a.relay:25", "y.b.test": "b.relay:26",
		"z.y.b.test": "b.relay:26", "x.b.test": "::1:27", "notb.test": "a.relay:25", "xn--bcher-kva.example": "c.relay:25",
	} {
		got, ok := r.Lookup(d)
		if !ok || got.Key() != want || !got.Static || got.Hosts[0].Addr.IsValid() != strings.ContainsAny(want[:1], "1:") {
			t.Errorf("%s goes to %+v, want %s", d, got, want)
		}
	}
	if _, ok := (*Routes)(nil).Lookup("x.test"); ok {
		t.Error("no table has a route")
	}
}

func TestRoutesRefuse(t *testing.T) {
	for want, rules := range map[string][]RouteRule{
		`routes[0].domain: "a..b"`:         {{"a..b", "x.test:25"}},
		`routes[1].domain: "*" stands`:     {{"*", "x.test:25"}, {"*", "y.test:25"}},
		`routes[1].domain: "a.test" stand`: {{"a.test", "x.test:25"}, {"a.test", "y.test:25"}},
		`routes[0].domain: "*a.test"`:      {{"*a.test", "x.test:25"}},
		`routes[0].domain: ""`:             {{"", "x.test:25"}},
		`routes[0].to: "x.test" must`:      {{"a.test", "x.test"}},
		`routes[0].to: "x.test:0" needs`:   {{"a.test", "x.test:0"}},
		`routes[0].to: "x.test:smtp" need`: {{"a.test", "x.test:smtp"}},
		`routes[0].to: "a b:25" names`:     {{"a.test", "a b:25"}},
		`routes[0].to: "[fe80::1%lo]:25"`:  {{"a.test", "[fe80::1%lo]:25"}},
	} {
		if _, err := ParseRoutes(rules, 0); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestRoutesFillInThePort(t *testing.T) {
	for to, want := range map[string]string{
		"127.0.0.2:2526": "127.0.0.2:2526", "mx.example": "mx.example:2525", "127.0.0.2": "127.0.0.2:2525",
		"[::1]:26": "::1:26", "[::1]": "::1:2525", "::1": "::1:2525",
	} {
		r, err := ParseRoutes([]RouteRule{{"*", to}}, 2525)
		if err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		if got, _ := r.Lookup("x.test"); got.Key() != want {
			t.Errorf("%s leads to %s, want %s", to, got.Key(), want)
		}
	}
}

func TestRoutesTellEverythingWrong(t *testing.T) {
	_, err := ParseRoutes([]RouteRule{{"a..b", "a:b:c"}, {"a.test", "x.test"}, {"a.test", "x.test"}}, 25)
	var wrong RouteErrors
	if !errors.As(err, &wrong) || strings.Count(err.Error(), "\n") != 2 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []RouteError{{0, "to", `"a:b:c" names neither a host nor an address`},
		{0, "domain", `"a..b" must be a domain, "*.suffix" or "*"`}, {2, "domain", `"a.test" stands twice`}} {
		if wrong[i] != want {
			t.Errorf("got %v, want %v", wrong[i], want)
		}
	}
}
