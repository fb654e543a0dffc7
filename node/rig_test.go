package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/node"
)

// rig is a whole node in this process, on sockets and a disk of its own; only the clock can be moved.
type rig struct {
	*testing.T
	dir  string
	cfg  node.Config
	node *node.Node
	code string

	ahead    time.Duration                                             // of the machine's clock, from each start on
	adopting atomic.Pointer[func(ctx context.Context, read int) error] // see node.Options.Adopting
}

// newRig starts a node. extra stands in the node file, composition in the only composition of its settings, both
// indented as YAML flow or block text of that place; edit changes the node file at last.
func newRig(t *testing.T, extra, composition string, edit ...func(string) string) *rig {
	t.Helper()
	return newRigWith(t, extra, composition, func(settings string) string { return settings }, edit...)
}

// newRigWith is newRig with settings that were edited.
func newRigWith(t *testing.T, extra, composition string, adjust func(string) string, edit ...func(string) string) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), ahead: pastTheHour(time.Now())}
	file := filepath.Join(r.dir, "node.yaml")
	text := `node: {name: n1, data: data, hostname: relay.test}
smtp: {listeners: [{address: "127.0.0.1:0"}]}
http: {address: "127.0.0.1:0"}
keys: {unseal: [recovery-code]}
settings: settings.yaml
testing: {enabled: true}
` + extra
	for _, f := range edit {
		text = f(text)
	}
	settings := "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]" + composition + "}]}]\n"
	settings = adjust(settings)
	if err := os.WriteFile(filepath.Join(r.dir, "settings.yaml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.DecodeConfig(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = cfg
	r.start()
	t.Cleanup(r.stop)
	return r
}

// to routes all mail to one receiver.
func to(r *receiver) string {
	return fmt.Sprintf("delivery: {allow_private: true, routes: [{domain: '*', to: '%s'}]}\n", r.Addr())
}

// spare returns a loopback address on which nothing listens. Its port lies below the ones that the kernel gives to whoever
// asks for any, so that nobody gets it by chance before the test uses it, or while its member is down.
func spare(t *testing.T) string {
	t.Helper()
	for range 100 {
		at := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", at); err == nil {
			l.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (r *rig) start() {
	r.Helper()
	n, err := node.New(r.Context(), r.cfg, node.Options{Version: "test", Code: func(c string) { r.code = c },
		Adopting: func(ctx context.Context, read int) error {
			if do := r.adopting.Load(); do != nil {
				return (*do)(ctx, read)
			}
			return nil
		}})
	if err != nil {
		r.Fatal(err)
	}
	if err := n.Start(r.Context()); err != nil {
		r.Fatal(err)
	}
	r.node = n
	if r.ahead > 0 { // at each start: what was accepted before is due by the same clock
		r.advance(r.ahead)
	}
}

func (r *rig) stop() {
	r.Helper()
	if r.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
	defer cancel()
	if err := r.node.Stop(ctx); err != nil {
		r.Error(err)
	}
	r.node = nil
}

// unseal gives the recovery code to a node that waits for it.
func (r *rig) unseal(code string) int {
	r.Helper()
	return r.call("POST", "/ekiden.admin.v1.AdminService/Unseal", map[string]string{"code": code}, nil)
}

// again stops and starts the node, and unseals it.
func (r *rig) again() {
	r.Helper()
	r.stop()
	r.start()
	if status := r.unseal(r.code); status != 200 {
		r.Fatalf("unseal: %d", status)
	}
}

// pastTheHour is how far a rig's clock is to be ahead where a full hour is about to begin or has begun: carriers are spared its first
// minute, and a test with mail to them would wait.
func pastTheHour(now time.Time) time.Duration {
	if minute := now.Minute(); minute >= 58 || minute == 0 {
		return 4 * time.Minute
	}
	return 0
}

// call speaks HTTP as an operator; out may be nil.
func (r *rig) call(method, path string, body, out any) int {
	r.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.Context(), method, "http://"+r.node.Ready().HTTP+path, bytes.NewReader(raw))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token())
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			r.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, answer)
		}
	}
	return resp.StatusCode
}

// token is the node's admin token.
func (r *rig) token() string {
	r.Helper()
	token, err := os.ReadFile(filepath.Join(r.dir, "data", "admin.token"))
	if err != nil {
		r.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// now is the product clock, in UNIX seconds.
func (r *rig) now() int64 {
	r.Helper()
	var c struct{ Now int64 }
	r.call("GET", "/testing/clock", nil, &c)
	return c.Now
}

func (r *rig) advance(d time.Duration) {
	r.Helper()
	if status := r.call("POST", "/testing/clock", map[string]string{"advance": d.String()}, nil); status != 200 {
		r.Fatalf("clock: %d", status)
	}
}

// counters are the twelve of R60, without the start.
func (r *rig) counters(query string) []map[string]int64 {
	r.Helper()
	var c struct{ Buckets []map[string]int64 }
	if status := r.call("GET", "/v1/counters?"+query, nil, &c); status != 200 {
		r.Fatalf("counters: %d", status)
	}
	for _, b := range c.Buckets {
		delete(b, "start")
	}
	return c.Buckets
}

// event is what the tests read of one.
type event struct {
	To, Status, Detail, Subject string
	Group                       string
	APIData                     string `json:"api_data"`
	Class                       int
	Cleaning                    bool
}

func (r *rig) events(query string) []event {
	r.Helper()
	var e struct{ Events []event }
	if status := r.call("GET", "/v1/events?"+query, nil, &e); status != 200 {
		r.Fatalf("events: %d", status)
	}
	return e.Events
}

// atRest waits until the books balance (I12).
func (r *rig) atRest() {
	r.Helper()
	mustBecome(r.T, "conservation_gap 0", func() bool {
		resp, err := http.Get("http://" + r.node.Ready().HTTP + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		s, balanced := bufio.NewScanner(resp.Body), 0
		for s.Scan() {
			for _, name := range []string{"ekiden_conservation_gap ", "ekiden_conservation_log_gap "} {
				if v, ok := strings.CutPrefix(s.Text(), name); ok {
					if gap, err := strconv.ParseFloat(v, 64); err == nil && gap == 0 {
						balanced++
					}
				}
			}
		}
		return balanced == 2
	})
}

// client is one SMTP session.
type client struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func (r *rig) dial() *client {
	r.Helper()
	c, err := net.Dial("tcp", r.node.Ready().SMTP[0])
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	return &client{T: r.T, Conn: c, in: bufio.NewReader(c)}
}

// session dials and greets.
func (r *rig) session() *client {
	r.Helper()
	c := r.dial()
	c.reply()
	c.cmd("EHLO client.test")
	return c
}

func (c *client) reply() string {
	c.Helper()
	for {
		l, err := c.in.ReadString('\n')
		if err != nil {
			c.Fatalf("no reply: %v", err)
		}
		if len(l) < 4 || l[3] != '-' {
			return strings.TrimRight(l, "\r\n")
		}
	}
}

func (c *client) cmd(format string, args ...any) string {
	c.Helper()
	if _, err := fmt.Fprintf(c, format+"\r\n", args...); err != nil {
		c.Fatal(err)
	}
	return c.reply()
}

// send relays data, whose dots are doubled here, and returns the first reply that is no success, or the last.
func (c *client) send(from, data string, rcpts ...string) string {
	c.Helper()
	if a := c.cmd("MAIL FROM:<%s>", from); a[0] != '2' {
		return a
	}
	for _, to := range rcpts {
		if a := c.cmd("RCPT TO:<%s>", to); a[0] != '2' {
			return a
		}
	}
	if a := c.cmd("DATA"); a[0] != '3' {
		return a
	}
	data = strings.ReplaceAll("\r\n"+data, "\r\n.", "\r\n..")[2:]
	return c.cmd("%s.", data)
}

func (c *client) mustSend(data string, rcpts ...string) {
	c.Helper()
	if a := c.send("sender@shop.test", data, rcpts...); a[:3] != "250" {
		c.Fatalf("to %d, first %q: %s", len(rcpts), rcpts[0], a)
	}
}

// text is a message with these header lines in front, each ended by "\n".
func text(header string) string {
	return strings.ReplaceAll(header, "\n", "\r\n") + "From: sender@shop.test\r\nSubject: test\r\nMessage-ID: <1@shop.test>\r\n\r\nhello\r\n"
}
