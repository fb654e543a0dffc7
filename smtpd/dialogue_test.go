package smtpd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// TestDialogues plays testdata/*.txt. Lines:
//
//	# comment
//	> option …    of the listener: role=submission tls=optional normalize; or unregistered: the client's address is
//	C: text       the client sends text and CRLF; escapes as in a Go string
//	R: text       the same without CRLF
//	TLS           the client does the handshake
//	S: text       a line the server must answer, its beginning is enough
//	CLOSED        the server must close
//	WAIT          the server must say nothing for a moment
//	M: text       one more message must have arrived, with this body
//	N: number     so many more messages must have arrived
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			play(t, strings.Split(string(text), "\n"))
		})
	}
}

func unescape(t *testing.T, s string) string {
	u, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return u
}

func play(t *testing.T, lines []string) {
	l, from := Listener{}, "127.0.0.1"
	var r *rig
	var c *talker
	seen := 0
	for n, line := range lines {
		kind, text, _ := strings.Cut(line, " ")
		if r == nil && kind != ">" && kind != "#" && kind != "" {
			r = mustStart(t, Config{Listeners: []Listener{l}, Limits: wire.Limits{Recipients: 3}}, nil)
			c = r.dialFrom(t, 0, from)
		}
		fail := func(got string) { t.Helper(); t.Fatalf("line %d: %s\n got %q", n+1, line, got) }
		switch kind {
		case ">":
			from = options(t, &l, text, from)
		case "C:":
			c.raw(unescape(t, text) + "\r\n")
		case "R:":
			c.raw(unescape(t, text))
		case "TLS":
			c = c.tls()
		case "S:":
			got, err := c.r.ReadString('\n')
			if err != nil || !strings.HasPrefix(got, text) {
				fail(got)
			}
		case "CLOSED":
			if got := c.reply(); got != "closed" {
				fail(got)
			}
		case "WAIT":
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if b, err := c.r.Peek(1); err == nil {
				fail(string(b))
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		case "M:":
			m := r.box.messages()
			if len(m) != seen+1 || string(m[seen].Data) != unescape(t, text) {
				t.Fatalf("line %d: %s\n got %d messages: %+v", n+1, line, len(m), m)
			}
			seen++
		case "N:":
			more, _ := strconv.Atoi(text)
			seen += more
		case "#", "":
		default:
			t.Fatalf("line %d: what is %q?", n+1, line)
		}
	}
	if m := r.box.messages(); len(m) != seen {
		t.Fatalf("%d messages arrived, %d were expected: %q", len(m), seen, m[seen].Data)
	}
}

func options(t *testing.T, l *Listener, text, from string) string {
	for _, o := range strings.Fields(text) {
		switch o {
		case "role=submission":
			l.Role = RoleSubmission
		case "role=bounce":
			l.Role = RoleBounce
		case "tls=optional":
			l.TLS = wire.TLSOptional
		case "tls=required":
			l.TLS = wire.TLSRequired
		case "normalize":
			l.Normalize = true
		case "unregistered":
			from = "127.0.0.9"
		default:
			t.Fatalf("option %q", o)
		}
	}
	return from
}
