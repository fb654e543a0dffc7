package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// ErrOtherCluster is returned by Reload for an authority that is not the one this member runs under.
var ErrOtherCluster = errors.New("authority of another cluster")

// errNameless is for a certificate that names no member.
var errNameless = errors.New("certificate names no member")

// credentials are a member's files, read and checked. Never changed.
type credentials struct {
	pool      *x509.CertPool
	cert      tls.Certificate // with Leaf
	clusterID string
}

// load reads the files of cfg and checks what the other members will check.
func load(cfg Config) (*credentials, error) {
	text, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, err
	}
	c := &credentials{pool: x509.NewCertPool()}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.CA, err)
		}
		c.pool.AddCert(ca)
		if c.clusterID == "" {
			sum := sha256.Sum256(ca.Raw)
			c.clusterID = hex.EncodeToString(sum[:16])
		}
	}
	if c.clusterID == "" {
		return nil, fmt.Errorf("%s: no certificate in it", cfg.CA)
	}
	if c.cert, err = tls.LoadX509KeyPair(cfg.Cert, cfg.Key); err != nil {
		return nil, fmt.Errorf("%s, %s: %w", cfg.Cert, cfg.Key, err)
	}
	if name, err := certName(c.cert.Leaf); err != nil || name != cfg.Name {
		return nil, fmt.Errorf("%s: is of %q, but this member is %q", cfg.Cert, name, cfg.Name)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := c.verify(c.cert.Leaf, parse(c.cert.Certificate[1:]), use); err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.Cert, err)
		}
	}
	if st, err := os.Stat(cfg.Key); err == nil && st.Mode().Perm()&0o077 != 0 && cfg.Log != nil {
		cfg.Log.Warn("others than the owner may read the member's key", "file", cfg.Key, "mode", st.Mode().Perm())
	}
	return c, nil
}

// parse reads the certificates between a member's and the authority's; what cannot be read cannot help to verify.
func parse(chain [][]byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range chain {
		if c, err := x509.ParseCertificate(der); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// verify checks that a certificate is of this cluster, is valid now, and may be used so.
func (c *credentials) verify(leaf *x509.Certificate, between []*x509.Certificate, use x509.ExtKeyUsage) error {
	opts := x509.VerifyOptions{Roots: c.pool, Intermediates: x509.NewCertPool(), CurrentTime: clock.Wall(),
		KeyUsages: []x509.ExtKeyUsage{use}}
	for _, b := range between {
		opts.Intermediates.AddCert(b)
	}
	_, err := leaf.Verify(opts)
	return err
}

// server is what a connection is met with that is to speak proto.
func (c *credentials) server(proto string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.cert},
		ClientAuth:             tls.RequireAndVerifyClientCert, // chain, validity, and the use as a client
		ClientCAs:              c.pool,
		NextProtos:             []string{proto},
		SessionTicketsDisabled: true,
	}
}

// client is what a connection is made with that offers protos.
func (c *credentials) client(protos []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Always shown, also to a listener that asks for another authority's: its refusal says more than silence.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cert, nil },
		NextProtos:           protos,
		// A member is dialled by an address, and is whoever its certificate says. So the host name is not compared, and
		// everything else is verified below, by the same rules.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errNameless
			}
			err := c.verify(s.PeerCertificates[0], s.PeerCertificates[1:], x509.ExtKeyUsageServerAuth)
			if err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
			}
			return nil
		},
	}
}

// peerOf names the member at the other end of a finished handshake.
func peerOf(s tls.ConnectionState, from netip.AddrPort) (Peer, error) {
	p := Peer{Addr: from}
	if len(s.PeerCertificates) == 0 {
		return p, errNameless
	}
	name, err := certName(s.PeerCertificates[0])
	p.Name = name
	return p, err
}

// certName returns the one name that a member's certificate carries: its common name, which must also be its only
// alternative name, so that no two readers of the certificate take it for different members.
func certName(c *x509.Certificate) (string, error) {
	name := c.Subject.CommonName
	if len(c.DNSNames) != 1 || c.DNSNames[0] != name || !isName(name) {
		return "", errNameless
	}
	return name, nil
}

// isName tells whether a member may be called so: as node.name in the node file, but never "ca", which is the authority.
func isName(name string) bool {
	if len(name) == 0 || len(name) > 63 || name == "ca" {
		return false
	}
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && r != '-' && r != '_' && r != '.' {
			return false
		}
	}
	return true
}
