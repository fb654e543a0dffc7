package wire

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// openPolicy lets everybody do everything.
type openPolicy struct{}

func (openPolicy) Admit(*Conn) smtp.Reply          { return smtp.Reply{} }
func (openPolicy) Open(*Conn) smtp.Reply           { return smtp.Reply{} }
func (openPolicy) Allow(*Conn, Verb) smtp.Reply    { return smtp.Reply{} }
func (openPolicy) Size() int                       { return 1 << 20 }
func (openPolicy) Mechanisms(*Conn) string         { return "" }
func (openPolicy) Closed()                         {}
func (openPolicy) Mail(*Conn) smtp.Reply           { return smtp.Reply{} }
func (openPolicy) Rcpt(*Conn) smtp.Reply           { return smtp.Reply{} }
func (openPolicy) Data(*Conn) (string, smtp.Reply) { return "", smtp.Reply{} }
func (openPolicy) Begin(*Conn) bool                { return false }
func (openPolicy) End(*Conn) (string, smtp.Reply)  { return "", smtp.Reply{} }
func (openPolicy) Reset()                          {}

// TestSlowReaderIsEnded: a client that takes an octet of a reply a second holds its place no longer than Limits.Write; one
// that takes the reply in time is left alone (threat T7). net.Pipe has no buffer that would hide how slow it is.
func TestSlowReaderIsEnded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration // between two octets
		ended bool
	}{{"an octet a second", time.Second, true}, {"ten octets a second", 100 * time.Millisecond, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := NewEnv("a.host.with.a.long.name.test", Limits{Write: 30 * time.Second}, nil)
				server, client := net.Pipe()
				var others sync.WaitGroup
				defer others.Wait()
				defer client.Close()
				c := New(env, server, &Options{}, openPolicy{}, false)
				stop := make(chan struct{})
				others.Go(func() { // the server's sweeper
					for {
						select {
						case <-time.After(env.Interval()):
							env.Tick()
							c.Sweep()
						case <-stop:
							return
						}
					}
				})
				defer close(stop)
				others.Go(func() {
					var octet [1]byte
					for {
						time.Sleep(tt.every) // the pace is the test
						if _, err := client.Read(octet[:]); err != nil {
							return
						}
					}
				})
				begin := time.Now()
				_, _ = c.Write([]byte("220 x\r\n")) // go-smtp's greeting
				done := make(chan error, 1)
				go func() {
					_, err := c.Read(make([]byte, 100)) // writes what is owed first
					done <- err
				}()
				select {
				case <-done:
					if took := time.Since(begin); !tt.ended || took > 33*time.Second {
						t.Errorf("ended after %v", took)
					}
				case <-time.After(time.Minute):
					if tt.ended {
						t.Error("not ended after a minute")
					}
					_ = client.Close()
					<-done
				}
				_ = c.Close()
			})
		})
	}
}
