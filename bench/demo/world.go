package demo

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/sink"
)

// part is one receiver of the demonstration.
type part struct {
	name    string
	domains []string
	weight  int    // messages in a hundred
	rule    string // limits for the engine, "" = its built-in ones by domain
}

// parts is who receives. The carriers' limits are the engine's own (requirements D2), but begun faster, for a demonstration
// is short; the providers, whom it knows by MX host, are here named by domain because routes lead straight to them.
func parts() []part {
	return []part{
		{"docomo", []string{"docomo.ne.jp"}, 26, "queue: docomo, connections: 10, per_connection: 50, interval: 100ms, start: 40"},
		{"au", []string{"ezweb.ne.jp", "au.com"}, 18, "queue: ezweb, connections: 10, per_connection: 50, interval: 100ms, start: 40"},
		{"softbank", []string{"softbank.ne.jp", "i.softbank.jp"}, 12, "queue: softbank, connections: 10, per_connection: 50, interval: 100ms, start: 40"},
		{"ymobile", []string{"ymobile.ne.jp"}, 4, ""},
		{"google", []string{"gmail.com"}, 18, "connections: 5, per_connection: 50, rate: -1"},
		{"yahoo", []string{"yahoo.com"}, 7, "connections: 5, per_connection: 20, rate: -1"},
		{"outlook", []string{"outlook.com", "hotmail.com"}, 7, "connections: 5, per_connection: 50, rate: -1"},
		{"icloud", []string{"icloud.com"}, 2, "connections: 10, per_connection: 5"},
		{"pc", []string{"shop.example", "school.example", "town.example"}, 6, "connections: 10, per_connection: 100"},
	}
}

// sources are the engine's IPs.
func sources() []string {
	var out []string
	for i := 2; i <= 9; i++ {
		out = append(out, fmt.Sprintf("127.0.0.%d", i))
	}
	return out
}

// mix lays the domains out so that every stretch of a hundred messages holds each receiver by its weight, spread
// evenly: at each step the one goes that is most behind.
func mix() []string {
	all := parts()
	given := make([]int, len(all))
	var out []string
	for step := 1; step <= 100; step++ {
		best, behind := 0, -1e9
		for i, p := range all {
			if d := float64(step*p.weight)/100 - float64(given[i]); d > behind {
				best, behind = i, d
			}
		}
		p := all[best]
		out = append(out, p.domains[given[best]%len(p.domains)])
		given[best]++
	}
	return out
}

// locals are the recipients: in 53, one unknown, one deferred once, one whose user refuses. 53 has no divisor in
// common with a mix of a hundred, so every receiver gets its share.
func locals() []string {
	out := make([]string, 53)
	for i := range out {
		out[i] = "user"
	}
	out[7], out[23], out[41] = "unknown-", "defer1-", "filtered-"
	return out
}

// world is the pretend internet of the demonstration: every receiver on a listener of its own.
func world() (model sink.Model, listen []string, routes map[string]string, err error) {
	builtin, err := sink.Builtin()
	if err != nil {
		return model, nil, nil, err
	}
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	if model, err = builtin.Named(names...); err != nil {
		return model, nil, nil, err
	}
	routes = map[string]string{}
	for i, p := range parts() {
		addr, err := engine.FreeAddr("127.0.0.1", rand.IntN)
		if err != nil {
			return model, nil, nil, fmt.Errorf("demo: %w", err)
		}
		listen = append(listen, addr)
		r := &model.Receivers[i]
		r.Listen = []string{addr}
		if p.name == "outlook" { // its usual words concern the source IP; here single recipients are meant
			r.Filtered, r.Deferred = "550 5.7.520 Message identified as spam", "450 4.2.0 mailbox busy, try again later"
		}
		for _, d := range p.domains {
			routes[d] = addr
		}
	}
	return model, listen, routes, nil
}

// settings let retries come soon, so that deferrals are seen to end.
func settings() string {
	var b strings.Builder
	b.WriteString(`tenants:
  - name: default
    compositions:
      - name: default
        networks: ["127.0.0.0/8"]
        retry: {interval: 2s, lifetime: 10m}
`)
	fmt.Fprintf(&b, "pools: [{name: default, sources: [%s]}]\nreceivers:\n", strings.Join(sources(), ", "))
	for _, p := range parts() {
		if p.rule != "" {
			fmt.Fprintf(&b, "  - {name: %s, domains: [%s], %s, tls: opportunistic, block_pause: 5s}\n", p.name, strings.Join(p.domains, ", "), p.rule)
		}
	}
	return b.String()
}
