package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/hooks"
	"github.com/ekiden-mta/ekiden/bench/sink"
	"github.com/ekiden-mta/ekiden/internal/secret"
)

// canaries are what no file may hold: recipients, sender, subject and body, each known by one part.
func canaries() []string {
	return []string{"canary-ok", "canary-gone", "canary-later", "canary-listed", "canary-domain", "canary-sender", "canary-subject", "canary-body", "canary-data"}
}

// mustBeSilent looks for canaries in every file below dir.
func mustBeSilent(t *testing.T, when, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) { // a file of the running engine went while we looked
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		files++
		for _, c := range canaries() {
			if bytes.Contains(bytes.ToLower(raw), []byte(c)) {
				t.Errorf("%s: %s holds %s", when, path, c)
			}
		}
		return err
	})
	if err != nil || files < 10 {
		t.Fatalf("%s: %d files of %s read: %v", when, files, dir, err)
	}
}

// TestNothingOnDisk lets mail of every fate through a real engine, has it posted, reported, bounced, suppressed, counted and
// listed, and looks through every file that the engine has, its temporary ones and its log included, while it runs,
// after kill -9 and after a peaceful end: no address, subject or text of mail stands anywhere (requirements R13, R23).
func TestNothingOnDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	bench := mustBinaries(t)
	world, err := sink.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	to, err := sink.Start(sink.Config{Listen: []string{"127.0.0.1:0"}, Model: world})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Stop()
	posts, err := hooks.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer posts.Close()
	dir := t.TempDir()
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	cfg := engine.Config{
		Path: filepath.Join(filepath.Dir(bench), "ekiden"), Dir: dir, Routes: map[string]string{"*": to.Addrs()[0]}, Testing: true,
		Settings: fmt.Sprintf(`tenants:
  - name: shop
    blackbox: true
    exclusion: {enabled: true, threshold: 1}
    webhooks: [{url: '%s'}]
    compositions:
      - name: main
        networks: [127.0.0.0/8]
        retry: {interval: 5m, lifetime: 48h}
        delivery_stop: {run_at: immediate, reasons: {2: 1}}
        users: [{name: reports@shop.example, secret_hash: '%s', report_mail: true}]
`, posts.URL, secret.Make("secret-key-1")),
	}
	e, err := engine.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { e.Crash() }()
	mustPostTo(t, e, "/v1/suppressions", `{"address":"canary-listed@canary-domain.example","list":"blocklist","tenant":"shop","reason":"canary-data"}`)
	message := strings.ReplaceAll("X-Api-Data: canary-data\nFrom: canary-sender@shop.example\nSubject: canary-subject\nMessage-ID: <canary-data@shop.example>\n\n"+
		strings.Repeat("canary-body\n", 300), "\n", "\r\n")
	for i := range 50 {
		to := []string{fmt.Sprintf("canary-ok%d@canary-domain.example", i), fmt.Sprintf("unknown-canary-gone%d@docomo.ne.jp", i),
			fmt.Sprintf("defer99-canary-later%d@docomo.ne.jp", i), "canary-listed@canary-domain.example"}
		mustSubmit(t, e.SMTP, "canary-sender@shop.example", message, to)
	}
	mustSee(t, e, `"succeeded":50,"failed":100,"temporary":50`) // of 200 recipients 50 wait, and 50 of those that failed were suppressed
	mustPostTo(t, e, "/testing/clock", `{"advance":"25h"}`)
	mustPostTo(t, e, "/testing/jobs/nightly", "")
	for _, path := range []string{"/v1/events?to=canary-ok1@canary-domain.example", "/v1/suppressions?address=canary-gone",
		"/v1/error-addresses?tenant=shop&format=tsv", "/srs/v1/log/delivery?to=canary"} {
		raw, err := e.Get(t.Context(), path)
		if err != nil || !bytes.Contains(bytes.ToLower(raw), []byte("canary-")) {
			t.Errorf("%s knows nothing of the canaries: %v %.200s", path, err, raw)
		}
	}
	mustBecomeWithin(t, "everything posted", func() bool { return posts.Events() >= 50*6 })
	mustBeSilent(t, "running", dir)
	e.Crash()
	mustBeSilent(t, "after kill -9", dir)
	if e, err = engine.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	mustSee(t, e, `"succeeded":50,"failed":100`)
	if err := e.Stop(); err != nil {
		t.Error(err)
	}
	mustBeSilent(t, "after the end", dir)
}

// mustSubmit sends a message without STARTTLS: the engine's certificate is signed by nobody.
func mustSubmit(t *testing.T, addr, from, message string, to []string) {
	t.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Mail(from)
	for _, rcpt := range to {
		err = errors.Join(err, c.Rcpt(rcpt))
	}
	w, dataErr := c.Data()
	if err = errors.Join(err, dataErr); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(message))
	if err = errors.Join(err, w.Close(), c.Quit()); err != nil {
		t.Fatal(err)
	}
}

func mustPostTo(t *testing.T, e *engine.Engine, path, body string) {
	t.Helper()
	if raw, err := e.Post(t.Context(), path, body); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
}

// mustSee waits until the counters of all time hold words.
func mustSee(t *testing.T, e *engine.Engine, words string) {
	t.Helper()
	var last []byte
	var err error
	ok := becomes(func() bool {
		last, err = e.Get(t.Context(), "/v1/counters?tenant=shop")
		return err == nil && bytes.Contains(last, []byte(words))
	})
	if !ok {
		t.Fatalf("counters %s, %v; want %s", last, err, words)
	}
}

func mustBecomeWithin(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !becomes(ok) {
		t.Fatalf("never: %s", what)
	}
}

// becomes waits 30 s for ok.
func becomes(ok func() bool) bool {
	tick, end := time.NewTicker(20*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}
