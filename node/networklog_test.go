package node_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// rows reads a path of the TSV API, without the line of names.
func (r *rig) rows(path string) (out [][]string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), "GET", "http://"+r.node.Ready().HTTP+"/srs/v1/"+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(r.dir, "data", "admin.token"))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.Fatalf("%s: %s", path, resp.Status)
	}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		out = append(out, strings.Split(s.Text(), "\t"))
	}
	return out[1:]
}

// TestNetworkLog: each question to the DNS and each TCP connection is one line of its log, and no message costs one (R69, R70).
func TestNetworkLog(t *testing.T) {
	sink := startReceiver(t, "127.0.0.5:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "gone"):
			return "550 5.1.1 no such user"
		case stage == "rcpt" && strings.HasPrefix(arg, "later"):
			return "451 4.3.0 later"
		}
		return ""
	})
	_, text5, _ := net.SplitHostPort(sink.Addr().String())
	port, err := strconv.Atoi(text5)
	if err != nil {
		t.Fatal(err)
	}
	startReceiver(t, fmt.Sprintf("127.0.0.6:%d", port), func(stage, _ string) string { return map[string]string{"greet": "554 go away"}[stage] })
	mx := func(host string) []dnstest.MX { return []dnstest.MX{{Pref: 10, Host: host}} }
	names := dnstest.Start(t, dnstest.Zone{
		MX: map[string][]dnstest.MX{"ok.test": mx("mx.ok.test"), "rude.test": mx("mx.rude.test"), "closed.test": mx("mx.closed.test")},
		A:  map[string][]string{"mx.ok.test": {"127.0.0.5"}, "mx.rude.test": {"127.0.0.6"}, "mx.closed.test": {"127.0.0.7"}}, TTL: 3600,
	})
	r := newRig(t, fmt.Sprintf("delivery: {port: %d, allow_private: true}\ndns: {servers: ['%s'], timeout: 2s}\n", port, names.Addr), "")
	c := r.session()
	c.mustSend(text(""), "a@ok.test", "gone@ok.test", "later@ok.test", "b@ok.test")
	c.mustSend(text(""), "u@rude.test")
	c.mustSend(text(""), "u@closed.test")
	c.mustSend(text(""), "u@missing.invalid")
	served := func() (ok, later, gone, conns int) {
		for _, row := range r.rows("log/connection") {
			if row[2] != "ok.test" {
				continue
			}
			n := [3]int{}
			for i := range n {
				if n[i], err = strconv.Atoi(row[6+i]); err != nil {
					t.Fatal(err)
				}
			}
			ok, later, gone, conns = ok+n[0], later+n[1], gone+n[2], conns+1
		}
		return ok, later, gone, conns
	}
	mustBecome(t, "the connections have ended", func() bool {
		ok, later, gone, _ := served()
		return ok == 2 && later == 1 && gone == 1 && len(r.rows("log/connection?limit=100")) >= 3
	})
	if ok, _, _, conns := served(); conns > 4 {
		t.Errorf("%d lines for %d messages", conns, ok)
	}
	find := func(domain string) []string {
		for _, row := range r.rows("log/connection") {
			if row[2] == domain {
				return row
			}
		}
		return nil
	}
	mustBecome(t, "the others are told of", func() bool { return find("rude.test") != nil && find("closed.test") != nil })
	for domain, want := range map[string][3]string{
		"ok.test": {"127.0.0.5", "success", "220"}, "rude.test": {"127.0.0.6", "connection error", "554 go away"},
		"closed.test": {"127.0.0.7", "connection failure: connection refused", ""},
	} {
		row := find(domain)
		if row[4] != want[0] || !strings.HasPrefix(row[5], want[1]) || !strings.HasPrefix(row[9], want[2]) || row[0] == "" || row[1] == "" || len(row) != 10 {
			t.Errorf("%s: %q", domain, row)
		}
	}
	looked := map[string]string{}
	for _, row := range r.rows("log/domain") {
		if key := row[1] + " " + strings.Fields(row[3])[0]; looked[key] != "" {
			t.Errorf("asked twice for %s", key)
		} else {
			looked[key] = row[2] + " " + row[3]
		}
	}
	for key, want := range map[string]string{"ok.test MX": "NOERROR MX 10 mx.ok.test.", "mx.ok.test A": "NOERROR A 127.0.0.5",
		"missing.invalid MX": "NXDOMAIN MX"} {
		if looked[key] != want {
			t.Errorf("%s: %q, want %q of %v", key, looked[key], want, looked)
		}
	}
	for _, e := range r.events("limit=1000") { // who asks for deliveries gets these alone
		if e.Status == "lookup" || e.Status == "connection" {
			t.Errorf("among deliveries: %+v", e)
		}
	}
	if n := len(r.events("status=lookup&domain=ok.test")); n != 1 {
		t.Errorf("%d look-ups of one domain by the native API", n)
	}
	r.again() // they are on disk
	if find("rude.test") == nil {
		t.Error("gone after a restart")
	}
}
