package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/node"
)

// TestTakenAddressAtFirstStart: a first start that cannot listen makes no keys, so that the corrected one prints the code.
func TestTakenAddressAtFirstStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ name, smtp, http string }{
		{"smtp", taken.Addr().String(), "127.0.0.1:0"},
		{"http", "127.0.0.1:0", taken.Addr().String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, codes := t.TempDir(), 0
			start := func(smtp, http string) (*node.Node, error) {
				cfg := node.DefaultConfig().Override(node.Overrides{Name: "n1", Data: data, SMTP: smtp, HTTP: http})
				cfg.Keys.Unseal = []node.UnsealConfig{{Kind: node.UnsealRecovery}}
				n, err := node.New(t.Context(), cfg, node.Options{Code: func(string) { codes++ }})
				if err != nil {
					t.Fatal(err)
				}
				return n, n.Start(t.Context())
			}
			n, err := start(tt.smtp, tt.http)
			if err == nil || codes != 0 {
				t.Fatalf("on a taken address: %v, %d recovery codes", err, codes)
			}
			_ = n.Stop(context.Background())
			n, err = start("127.0.0.1:0", "127.0.0.1:0")
			if err != nil || codes != 1 {
				t.Errorf("the corrected start: %v, %d recovery codes", err, codes)
			}
			if err := n.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMalformedKeyAtFirstStart: such a file is refused where it stands, before there is a code that nobody would keep.
func TestMalformedKeyAtFirstStart(t *testing.T) {
	for _, tt := range []struct{ name, keys, at string }{
		{"list", "keys:\n  unseal:\n  - keyring\n  - file: k.bin\n", "node.yaml:7: keys.unseal[1]: "},
		{"short form", "keys:\n  file: k.bin\n", "node.yaml:5: keys.file: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			key := filepath.Join(dir, "k.bin")
			if err := os.WriteFile(key, make([]byte, 31), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := node.DecodeConfig(filepath.Join(dir, "node.yaml"), []byte("node: {name: n1, data: data}\n"+
				"smtp: {listeners: [{address: '127.0.0.1:0'}]}\nhttp: {address: '127.0.0.1:0'}\n"+tt.keys))
			if err != nil {
				t.Fatal(err)
			}
			n, err := node.New(t.Context(), cfg, node.Options{Code: func(string) { t.Error("a recovery code was made") }})
			if err != nil {
				t.Fatal(err)
			}
			err = n.Start(t.Context())
			t.Cleanup(func() { _ = n.Stop(context.Background()) })
			want := tt.at + "key file " + key + " has 31 bytes: must be a regular file of exactly 32 bytes"
			var bad *node.ConfigError
			if !errors.As(err, &bad) || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "data")); err != nil || len(left) != 1 || left[0].Name() != admin.TokenFile {
				t.Errorf("left behind: %v, %v; want the admin token alone", left, err)
			}
		})
	}
}
