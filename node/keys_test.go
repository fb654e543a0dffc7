package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/node"
)

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
			_, err = node.New(t.Context(), cfg, node.Options{Code: func(string) { t.Error("a recovery code was made") }})
			want := tt.at + "key file " + key + " has 31 bytes: must be a regular file of exactly 32 bytes"
			var bad *node.ConfigError
			if !errors.As(err, &bad) || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "data")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
