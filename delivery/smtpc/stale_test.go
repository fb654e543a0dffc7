package smtpc

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// pausedWork has something happen before the second message is handed out.
type pausedWork struct {
	*fakeWork
	calls  int
	before func()
}

func (w *pausedWork) Next(wait time.Duration) *mail.Job {
	if w.calls++; w.calls == 2 {
		w.before()
	}
	return w.fakeWork.Next(wait)
}

// TestIdleTLSConnection: a receiver that ended the connection between two messages leaves neither in doubt, also where the
// end is to be seen below TLS only.
func TestIdleTLSConnection(t *testing.T) {
	if !canTryWrite {
		t.Skip("this system cannot look into a socket")
	}
	cert := selfSigned(t)
	for _, tt := range []struct {
		name string
		end  func(plain net.Conn, secure *tls.Conn)
		want string
	}{
		{"stays", func(net.Conn, *tls.Conn) {}, "2: delivered"},
		{"closes in order", func(_ net.Conn, secure *tls.Conn) { _ = secure.Close() }, "2: returned"},
		{"drops the connection", func(plain net.Conn, _ *tls.Conn) { _ = plain.Close() }, "2: returned"},
		{"says 421", func(_ net.Conn, secure *tls.Conn) { _, _ = io.WriteString(secure, "421 4.4.2 idle\r\n") }, "2: returned"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			secure := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}})
			go chunkingReceiver(server, secure)
			w := &pausedWork{fakeWork: newFakeWork(), before: func() { tt.end(server, secure) }}
			for n := range 2 {
				j := &mail.Job{Body: fmt.Appendf(nil, "body %d\r\n", n)}
				j.Delivery.Seq, j.Delivery.From, j.Delivery.To = mail.Seq(n+1), "f@x.test", "t@x.test"
				w.jobs = append(w.jobs, j)
			}
			cfg := Config{}.Complete()
			s, o := Open(context.Background(), client, Peer{Host: "mx.test"}, &cfg)
			if s == nil {
				t.Fatal(words(o))
			}
			s.Carry(context.Background(), w, Limits{Groups: true})
			if log := w.log(); !strings.HasPrefix(log, "1: delivered") || !strings.Contains(log, "\n"+tt.want) {
				t.Errorf("got %s\nwant %s", log, tt.want)
			}
		})
	}
}

// chunkingReceiver takes mail by BDAT above TLS.
func chunkingReceiver(plain net.Conn, secure *tls.Conn) {
	in, out := bufio.NewReader(plain), net.Conn(plain)
	_, _ = io.WriteString(plain, "220 x\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		reply := "250 ok\r\n"
		switch verb, arg, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case verb == "EHLO" && out == net.Conn(plain):
			reply = "250-x\r\n250 STARTTLS\r\n"
		case verb == "EHLO":
			reply = "250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
		case verb == "STARTTLS":
			_, _ = io.WriteString(plain, "220 go\r\n")
			if secure.Handshake() != nil {
				return
			}
			in, out, reply = bufio.NewReader(secure), secure, ""
		case verb == "BDAT":
			size := 0
			_, _ = fmt.Sscan(arg, &size)
			_, _ = io.CopyN(io.Discard, in, int64(size))
		}
		_, _ = io.WriteString(out, reply)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
