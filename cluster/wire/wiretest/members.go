// Package wiretest makes small clusters of wires on loopback for the tests of whoever speaks over them. It must never be
// imported but from tests.
package wiretest

import (
	"path/filepath"
	"testing"

	"github.com/ekiden-mta/ekiden/cluster/wire"
)

// Dir makes an authority and its members' certificates in a directory that goes with the test.
func Dir(t testing.TB, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := wire.Init(dir, names); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Config is a member's on a free port of loopback, with the certificates of dir.
func Config(dir, name string) wire.Config {
	return wire.Config{Name: name, Address: "127.0.0.1:0", CA: filepath.Join(dir, wire.CAFile),
		Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

// Listen opens a member that is closed with the test. It is not started.
func Listen(t testing.TB, cfg wire.Config) *wire.Wire {
	t.Helper()
	w, err := wire.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// Members starts one wire per name, all of one new cluster.
func Members(t testing.TB, names ...string) []*wire.Wire {
	t.Helper()
	dir := Dir(t, names...)
	members := make([]*wire.Wire, len(names))
	for i, name := range names {
		members[i] = Listen(t, Config(dir, name))
		members[i].Start()
	}
	return members
}
