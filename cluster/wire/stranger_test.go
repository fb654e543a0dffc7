package wire_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/cluster/wire/wiretest"
)

// spec is a certificate that Init would not make.
type spec struct {
	cn     string
	sans   []string
	uses   []x509.ExtKeyUsage
	from   time.Duration // valid from and to, from now
	to     time.Duration
	selfly bool // signed by itself
}

func good() spec {
	return spec{cn: "n2", sans: []string{"n2"}, from: -time.Hour, to: time.Hour,
		uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
}

func (s spec) with(change func(*spec)) spec { change(&s); return s }

// mustForge makes the certificate under the authority in dir, or under none for dir "".
func mustForge(t *testing.T, dir string, s spec) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: s.cn},
		DNSNames: s.sans, NotBefore: now.Add(s.from), NotAfter: now.Add(s.to), ExtKeyUsage: s.uses,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	parent, signer := template, key
	if !s.selfly {
		ca, err := tls.LoadX509KeyPair(filepath.Join(dir, wire.CAFile), filepath.Join(dir, wire.CAKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		parent, signer = ca.Leaf, ca.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// mustFiles writes a pair where Config looks for that of a member.
func mustFiles(t *testing.T, dir, name string, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		name + ".key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func mustRename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// badPairs are the pairs that no member may be talked to with, in either direction (threats T21 and T22).
func badPairs(t *testing.T, dir string) map[string]tls.Certificate {
	t.Helper()
	other := wiretest.Dir(t, "n2") // same names, another cluster
	return map[string]tls.Certificate{
		"wrong authority, same names": mustForge(t, other, good()),
		"its own authority":           mustForge(t, "", good().with(func(s *spec) { s.selfly = true })),
		"expired":                     mustForge(t, dir, good().with(func(s *spec) { s.to = -time.Minute })),
		"not yet valid":               mustForge(t, dir, good().with(func(s *spec) { s.from = time.Minute })),
		"for no use":                  mustForge(t, dir, good().with(func(s *spec) { s.uses = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })),
		"names nobody":                mustForge(t, dir, good().with(func(s *spec) { s.cn, s.sans = "", nil })),
		"names two":                   mustForge(t, dir, good().with(func(s *spec) { s.sans = []string{"n2", "n3"} })),
		"two readings of its name":    mustForge(t, dir, good().with(func(s *spec) { s.sans = []string{"n3"} })),
		"a name to write on the log":  mustForge(t, dir, good().with(func(s *spec) { s.cn, s.sans = "n2\nn3", []string{"n2\nn3"} })),
	}
}

// Nobody without a valid certificate of the cluster reaches a handler, whatever it is dialled with.
func TestStrangersAreNotLetIn(t *testing.T) {
	dir := wiretest.Dir(t, "n1")
	w := wiretest.Listen(t, wiretest.Config(dir, "n1"))
	var reached atomic.Int32
	w.Handle(wire.Raft, func(_ wire.Peer, c net.Conn) { reached.Add(1); _, _ = io.WriteString(c, "secret"); _ = c.Close() })
	w.Start()

	pairs := badPairs(t, dir)
	pairs["server's certificate used as a client's"] = mustForge(t, dir,
		good().with(func(s *spec) { s.uses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	pairs["no certificate"] = tls.Certificate{}
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) { mustNotEnter(t, w, &tls.Config{}, pair) })
	}
	ok := mustForge(t, dir, good())
	t.Run("TLS 1.2", func(t *testing.T) { mustNotEnter(t, w, &tls.Config{MaxVersion: tls.VersionTLS12}, ok) })
	t.Run("no protocol", func(t *testing.T) { mustNotEnter(t, w, &tls.Config{NextProtos: []string{}}, ok) })
	t.Run("http", func(t *testing.T) { mustNotEnter(t, w, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, ok) })
	t.Run("no TLS", func(t *testing.T) {
		c, err := net.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "\x00raft without TLS")
		mustEnd(t, c)
	})
	if n := reached.Load(); n != 0 {
		t.Fatalf("%d strangers reached the handler", n)
	}
	// The same by hand with a good pair: the test does not pass because nothing would.
	c, err := tls.Dial("tcp", w.Addr().String(), clientOf(&tls.Config{}, ok))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := mustRead(t, c, 7); got != "\x00secret" {
		t.Fatalf("a good pair reads %q", got)
	}
}

func clientOf(cfg *tls.Config, pair tls.Certificate) *tls.Config {
	cfg.InsecureSkipVerify = true
	// Sent whatever authority is asked for.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{wire.Raft}
	}
	return cfg
}

// mustNotEnter dials as a stranger would and reads nothing of a handler's.
func mustNotEnter(t *testing.T, w *wire.Wire, cfg *tls.Config, pair tls.Certificate) {
	t.Helper()
	c, err := tls.Dial("tcp", w.Addr().String(), clientOf(cfg, pair))
	if err != nil {
		return // the listener ended it within the handshake
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(c)
	var timeout net.Error
	if strings.Contains(string(got), "secret") || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("read %q, then %v", got, err)
	}
}

// We do not talk to who listens without a valid certificate of the cluster.
func TestStrangersAreNotDialled(t *testing.T) {
	dir := wiretest.Dir(t, "n1")
	w := wiretest.Listen(t, wiretest.Config(dir, "n1"))
	pairs := badPairs(t, dir)
	pairs["client's certificate used as a server's"] = mustForge(t, dir,
		good().with(func(s *spec) { s.uses = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) {
			cfg := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, NextProtos: []string{wire.Raft}}
			if _, _, _, err := w.Dial(t.Context(), impostor(t, cfg), wire.Raft); !errors.Is(err, wire.ErrPeer) {
				t.Fatalf("error %v, want ErrPeer", err)
			}
		})
	}
	ok := mustForge(t, dir, good())
	t.Run("TLS 1.2", func(t *testing.T) {
		cfg := &tls.Config{Certificates: []tls.Certificate{ok}, MaxVersion: tls.VersionTLS12, NextProtos: []string{wire.Raft}}
		if _, _, _, err := w.Dial(t.Context(), impostor(t, cfg), wire.Raft); err == nil {
			t.Fatal("spoke TLS 1.2")
		}
	})
	t.Run("no protocol agreed on", func(t *testing.T) {
		cfg := &tls.Config{Certificates: []tls.Certificate{ok}}
		if _, _, _, err := w.Dial(t.Context(), impostor(t, cfg), wire.Raft); !errors.Is(err, wire.ErrPeer) {
			t.Fatalf("error %v, want ErrPeer", err)
		}
	})
	t.Run("a good one", func(t *testing.T) {
		cfg := &tls.Config{Certificates: []tls.Certificate{ok}, NextProtos: []string{wire.Raft}}
		if _, _, _, err := w.Dial(t.Context(), impostor(t, cfg), wire.Raft); err != nil {
			t.Fatal(err)
		}
	})
}

// impostor listens with cfg and welcomes everybody.
func impostor(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte{0})
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// A member whose own files would get it refused everywhere does not start.
func TestListenRefusesBadFiles(t *testing.T) {
	dir := wiretest.Dir(t, "n1")
	pairs := badPairs(t, dir)
	for name, use := range map[string]x509.ExtKeyUsage{"server only": x509.ExtKeyUsageServerAuth, "client only": x509.ExtKeyUsageClientAuth} {
		pairs[name] = mustForge(t, dir, good().with(func(s *spec) { s.uses = []x509.ExtKeyUsage{use} }))
	}
	pairs["another member's"] = mustForge(t, dir, good().with(func(s *spec) { s.cn, s.sans = "n3", []string{"n3"} }))
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) {
			mustFiles(t, dir, "n2", pair)
			if w, err := wire.Listen(wiretest.Config(dir, "n2")); err == nil {
				_ = w.Close()
				t.Fatal("listens")
			}
		})
	}
	mustFiles(t, dir, "n2", mustForge(t, dir, good()))
	wiretest.Listen(t, wiretest.Config(dir, "n2"))
}

// A member that finds itself expired while it runs is told so by the others.
func TestExpiredWhileRunning(t *testing.T) {
	dir := wiretest.Dir(t, "n1")
	mustFiles(t, dir, "n2", mustForge(t, dir, good().with(func(s *spec) { s.to = 2 * time.Second })))
	w, old := wiretest.Listen(t, wiretest.Config(dir, "n1")), wiretest.Listen(t, wiretest.Config(dir, "n2"))
	w.Handle(wire.Raft, echo(wire.Raft))
	w.Start()
	for {
		_, _, _, err := old.Dial(t.Context(), w.Addr().String(), wire.Raft)
		if err == nil {
			if time.Since(old.Expires()) > 20*time.Second {
				t.Fatal("still let in 20 s after its end")
			}
			continue
		}
		if !errors.Is(err, wire.ErrRefused) || !strings.Contains(err.Error(), "certificate") {
			t.Fatalf("error %v, want ErrRefused and a word about the certificate", err)
		}
		return
	}
}

// Who connects and says nothing is bounded in number and in time, and does not keep members of other addresses out.
func TestSilentStrangersAreBounded(t *testing.T) {
	dir := wiretest.Dir(t, "n1", "n2")
	cfg := wiretest.Config(dir, "n1")
	cfg.MaxHandshakes, cfg.HandshakeTimeout = 8, 2*time.Second
	w := wiretest.Listen(t, cfg)
	w.Handle(wire.Raft, echo(wire.Raft))
	w.Start()

	begun := time.Now()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var silent []net.Conn
	for range 20 {
		c, err := d.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Skipf("no second address on loopback: %v", err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	// A quarter of 8 is all that one address gets: the others are closed at once, unread.
	for _, c := range silent[2:] {
		mustEnd(t, c)
	}
	if waited := time.Since(begun); waited > cfg.HandshakeTimeout {
		t.Fatalf("those on top were closed after %v only", waited)
	}
	n2 := wiretest.Listen(t, wiretest.Config(dir, "n2"))
	mustDial(t, n2, w, wire.Raft)
	for _, c := range silent {
		mustEnd(t, c) // the first two by the time-out
	}
}
