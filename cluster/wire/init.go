package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Names of the authority's files. ca.key makes members: keep it off the members' machines.
const (
	CAFile    = "ca.crt"
	CAKeyFile = "ca.key"
)

const (
	// How long certificates are valid. An authority that ends stops the cluster, and its members' certificates are
	// taken back by removing the member, not by waiting: so both outlive machines.
	authorityYears = 30
	memberYears    = 10
	// early is how far back validity begins: machines' clocks differ.
	early = time.Hour
)

// ErrExists is returned where a file that is to be written is there already. Nothing was written.
var ErrExists = errors.New("file exists, and is never overwritten")

// ErrNoAuthority is returned for a directory with a ca.crt but without its ca.key, which no member can be added with.
var ErrNoAuthority = errors.New("the authority's key is not here")

// authority signs members.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Init writes the certificates of a cluster into dir: ca.crt and ca.key, and NAME.crt and NAME.key for every name. In a
// directory that has an authority already, it adds the names to it. Keys are ECDSA P-256, readable by the owner only. It
// never overwrites: to renew a member's certificate, move its two files away first. Errors are ErrExists,
// ErrNoAuthority, and those of names and files; then nothing was written, or it is removed again.
func Init(dir string, names []string) (err error) {
	if len(names) == 0 {
		return errors.New("no member named")
	}
	if err := checkNames(dir, names); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	var written []string
	defer func() {
		for _, path := range written {
			if err != nil {
				_ = os.Remove(path)
			}
		}
	}()
	put := func(name, kind string, der []byte, mode fs.FileMode) error {
		path := filepath.Join(dir, name)
		if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
			return err
		}
		written = append(written, path)
		return nil
	}
	pair := func(name string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := put(name+".key", "PRIVATE KEY", der, 0o600); err != nil {
			return err
		}
		return put(name+".crt", "CERTIFICATE", cert.Raw, 0o644)
	}

	a, err := readAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if a, err = newAuthority(); err == nil {
			err = pair("ca", a.cert, a.key)
		}
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		cert, key, err := a.member(name)
		if err != nil {
			return fmt.Errorf("make the certificate of %s: %w", name, err)
		}
		if err := pair(name, cert, key); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// checkNames refuses names that are none, come twice, or have files already. Files of names that differ in case only
// would be one file on some systems.
func checkNames(dir string, names []string) error {
	seen := map[string]bool{"ca": true}
	for _, name := range names {
		lower := strings.ToLower(name)
		if !isName(name) || seen[lower] || strings.HasPrefix(name, ".") {
			return fmt.Errorf("member %q: not 1-63 letters, digits, \"-\", \"_\", \".\", or named twice, or \"ca\"", name)
		}
		seen[lower] = true
		for _, ext := range []string{".crt", ".key"} {
			path := filepath.Join(dir, name+ext)
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("%s: %w", path, ErrExists)
			}
		}
	}
	return nil
}

// readAuthority reads ca.crt and ca.key; fs.ErrNotExist says that there is neither.
func readAuthority(dir string) (*authority, error) {
	text, err := os.ReadFile(filepath.Join(dir, CAFile))
	keyText, keyErr := os.ReadFile(filepath.Join(dir, CAKeyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is without its certificate %s: one of them was moved", CAKeyFile, CAFile)
	case err != nil:
		return nil, err
	case errors.Is(keyErr, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, CAKeyFile), ErrNoAuthority)
	case keyErr != nil:
		return nil, keyErr
	}
	block, _ := pem.Decode(text)
	keyBlock, _ := pem.Decode(keyText)
	if block == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s, %s: not PEM", CAFile, CAKeyFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAFile, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAKeyFile, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", CAKeyFile, CAFile)
	}
	return &authority{cert: cert, key: key}, nil
}

// newAuthority makes a self-signed authority for one cluster. Its serial number in the subject is random, so that two
// clusters' authorities are never mistaken for one another, by people and by chain building.
func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	now := clock.Wall()
	cert, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "ekiden cluster", SerialNumber: hex.EncodeToString(id)},
		NotBefore: now.Add(-early), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// member makes a member's pair: for both ends of a connection, since every member dials and listens.
func (a *authority) member(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := clock.Wall()
	end := now.AddDate(memberYears, 0, 0)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	cert, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		DNSNames:  []string{name},
		NotBefore: now.Add(-early), NotAfter: end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	return cert, key, err
}

// sign makes a certificate of template; parent nil means that it signs itself.
func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f // RFC 5280 §4.1.2.2: positive
	template.SerialNumber = new(big.Int).SetBytes(serial)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// writeFile writes a new file and syncs it.
func writeFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
