package smtpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestProbeUTF8: an address that is not ASCII is asked for as RFC 6531 wants, or not at all.
func TestProbeUTF8(t *testing.T) {
	for _, tt := range []struct {
		name, offers string
		from, to     mail.Address
		said         []string
		result       string
	}{
		{"ASCII", "250 PIPELINING", "a@x.test", "b@x.test", []string{"MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "RSET"}, "delivered"},
		{"recipient, offered", "250 SMTPUTF8", "a@x.test", "鈴木@x.test",
			[]string{"MAIL FROM:<a@x.test> SMTPUTF8", "RCPT TO:<鈴木@x.test>", "RSET"}, "delivered"},
		{"sender, offered", "250 SMTPUTF8", "鈴木@x.test", "b@x.test",
			[]string{"MAIL FROM:<鈴木@x.test> SMTPUTF8", "RCPT TO:<b@x.test>", "RSET"}, "delivered"},
		{"recipient, not offered", "250 PIPELINING", "a@x.test", "鈴木@x.test", nil, "deferred 5.6.7"},
		{"domain only", "250 PIPELINING", "a@x.test", "b@例.test", []string{"MAIL FROM:<a@x.test>", "RCPT TO:<b@xn--fsq.test>", "RSET"}, "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			said := make(chan []string, 1)
			go func() {
				var lines []string
				_, _ = io.WriteString(server, "220 x\r\n")
				for in := bufio.NewScanner(server); in.Scan(); {
					switch line := in.Text(); {
					case strings.HasPrefix(line, "EHLO"):
						_, _ = fmt.Fprintf(server, "250-x\r\n%s\r\n", tt.offers)
					case line == "QUIT":
						_, _ = io.WriteString(server, "221 bye\r\n")
					default:
						lines = append(lines, line)
						_, _ = io.WriteString(server, "250 ok\r\n")
					}
				}
				said <- lines
			}()
			cfg := Config{}.Complete()
			s, o := Open(context.Background(), client, Peer{}, &cfg)
			if s == nil {
				t.Fatal(words(o))
			}
			asked, result := false, ""
			s.Probe(context.Background(), tt.from, 0, 0, func() (mail.Address, bool) {
				first := !asked
				asked = true
				return tt.to, first
			}, func(_ mail.Address, o mail.Outcome) {
				code, _, _ := strings.Cut(o.Detail, " ")
				result = strings.TrimSpace(o.Result.String() + " " + code)
			})
			if got := <-said; result != tt.result || !slices.Equal(got, tt.said) {
				t.Errorf("%s after %q, want %s after %q", result, got, tt.result, tt.said)
			}
		})
	}
}
