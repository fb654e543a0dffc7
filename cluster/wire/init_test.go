package wire_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/cluster/wire/wiretest"
)

// files returns every file of dir with its text.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func names(files map[string]string) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestInitWritesAClusterAndAddsToIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := wire.Init(dir, []string{"n1", "n2.example"}); err != nil {
		t.Fatal(err)
	}
	first := files(t, dir)
	if got, want := names(first), []string{"ca.crt", "ca.key", "n1.crt", "n1.key", "n2.example.crt", "n2.example.key"}; !slices.Equal(got, want) {
		t.Fatalf("wrote %v, want %v", got, want)
	}
	for name := range first {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".key") && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, st.Mode().Perm())
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "n1.crt"), filepath.Join(dir, "n1.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() || pair.Leaf.IsCA || !slices.Equal(pair.Leaf.DNSNames, []string{"n1"}) ||
		!slices.Equal(pair.Leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
		t.Fatalf("certificate of n1: %+v", pair.Leaf)
	}

	// A third member, later.
	if err := wire.Init(dir, []string{"n3"}); err != nil {
		t.Fatal(err)
	}
	second := files(t, dir)
	for name, text := range first {
		if second[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
	a, b := wiretest.Listen(t, wiretest.Config(dir, "n1")), wiretest.Listen(t, wiretest.Config(dir, "n3"))
	a.Handle(wire.Raft, echo(wire.Raft))
	a.Start()
	mustDial(t, b, a, wire.Raft)
	if a.ClusterID() != b.ClusterID() || len(a.ClusterID()) != 32 {
		t.Fatalf("cluster ids %q and %q", a.ClusterID(), b.ClusterID())
	}
	if other := wiretest.Listen(t, wiretest.Config(wiretest.Dir(t, "n1"), "n1")); other.ClusterID() == a.ClusterID() {
		t.Fatal("two clusters of one id")
	}
}

// What Init refuses leaves the directory as it was.
func TestInitRefuses(t *testing.T) {
	rows := []struct {
		name    string
		prepare func(t *testing.T, dir string) // dir has a cluster of n1
		names   []string
		want    error // nil: any
	}{
		{"nobody", nil, nil, nil},
		{"the same again", nil, []string{"n1"}, wire.ErrExists},
		{"a new one and the same again", nil, []string{"n2", "n1"}, wire.ErrExists},
		{"twice", nil, []string{"n2", "n2"}, nil},
		{"twice, but for case", nil, []string{"n2", "N2"}, nil},
		{"the authority's name", nil, []string{"ca"}, nil},
		{"the authority's name in capitals", nil, []string{"CA"}, nil},
		{"a path", nil, []string{"../n2"}, nil},
		{"a hidden file", nil, []string{".n2"}, nil},
		{"empty", nil, []string{""}, nil},
		{"too long", nil, []string{strings.Repeat("n", 64)}, nil},
		{"a line", nil, []string{"n2\n"}, nil},
		{"authority's key moved away", func(t *testing.T, dir string) {
			mustRename(t, filepath.Join(dir, wire.CAKeyFile), filepath.Join(t.TempDir(), "x"))
		}, []string{"n2"}, wire.ErrNoAuthority},
		{"authority's certificate moved away", func(t *testing.T, dir string) {
			mustRename(t, filepath.Join(dir, wire.CAFile), filepath.Join(t.TempDir(), "x"))
		}, []string{"n2"}, nil},
		{"key of another authority", func(t *testing.T, dir string) {
			mustRename(t, filepath.Join(wiretest.Dir(t, "n1"), wire.CAKeyFile), filepath.Join(dir, wire.CAKeyFile))
		}, []string{"n2"}, nil},
		{"half a pair in the way", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "n3.key"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"n2", "n3"}, wire.ErrExists},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := wiretest.Dir(t, "n1")
			if row.prepare != nil {
				row.prepare(t, dir)
			}
			before := files(t, dir)
			err := wire.Init(dir, row.names)
			if err == nil || row.want != nil && !errors.Is(err, row.want) {
				t.Fatalf("error %v, want %v", err, row.want)
			}
			after := files(t, dir)
			if !slices.Equal(names(before), names(after)) {
				t.Fatalf("files %v became %v", names(before), names(after))
			}
			for name, text := range before {
				if after[name] != text {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}
