package faults

import (
	"context"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// answer is what an honest client heard.
type answer struct {
	code int // of the reply that decided: the dot's, or the first refusal
	text string
	took time.Duration // from the connect to that reply
}

// offer sends one message as an honest client does, command by command, and returns the reply that decided. Every
// reply is waited for at most patience.
func offer(ctx context.Context, addr, token string, patience time.Duration) (answer, error) {
	var a answer
	begin := clock.Wall()
	raw, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return a, fmt.Errorf("offer: %w", err)
	}
	conn := textproto.NewConn(raw)
	defer func() { _ = conn.Close() }()
	message := "Message-ID: <" + token + "@honest.example>\r\nFrom: <honest@load.example>\r\nTo: <" + token + "@d0.example>\r\nSubject: honest\r\n\r\nhello"
	for _, step := range []struct {
		say  string
		want int
	}{
		{"", 220}, {"EHLO honest.example", 250}, {"MAIL FROM:<honest@load.example>", 250}, {"RCPT TO:<" + token + "@d0.example>", 250},
		{"DATA", 354}, {message + "\r\n.", 250},
	} {
		_ = raw.SetDeadline(clock.Wall().Add(patience))
		if step.say != "" {
			if err := conn.PrintfLine("%s", step.say); err != nil {
				return a, fmt.Errorf("offer: %w", err)
			}
		}
		code, text, err := conn.ReadResponse(0)
		if err != nil && code == 0 {
			return a, fmt.Errorf("offer: after %.4q: %w", step.say, err)
		}
		a = answer{code: code, text: text, took: clock.Since(begin)}
		if code != step.want {
			return a, nil
		}
	}
	_ = conn.PrintfLine("QUIT")
	return a, nil
}

func (a answer) String() string {
	return fmt.Sprintf("%d %s", a.code, first(strings.ReplaceAll(a.text, "\r", ""), 1))
}

// turnedAway tells whether a was a temporary refusal, as a full or failed store has to answer.
func (a answer) turnedAway() bool { return a.code/100 == 4 }
