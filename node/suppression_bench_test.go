package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// goalLookups is how many absent addresses one core looks up in a second (issue 5).
const goalLookups = 500_000

// BenchmarkSuppressed looks addresses up that are on no list, as intake does for each recipient and a source before each
// dot, while 100,000 are: go test ./node -run xxx -bench Suppressed -cpu 1
func BenchmarkSuppressed(b *testing.B) {
	dir := b.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
		b.Fatal(err)
	}
	cfg, err := DecodeConfig(filepath.Join(dir, "node.yaml"), []byte("node: {name: n1, data: data}\n"+
		"smtp: {listeners: [{address: '127.0.0.1:0'}]}\nhttp: {address: '127.0.0.1:0'}\nkeys: {unseal: [{file: "+key+"}]}\n"))
	if err != nil {
		b.Fatal(err)
	}
	n, err := New(b.Context(), cfg, Options{Version: "test", Log: slog.New(slog.DiscardHandler), Code: func(string) {}})
	if err != nil {
		b.Fatal(err)
	}
	if err := n.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			b.Error(err)
		}
	}()
	const listed = 100_000
	list := make([]service.Suppression, listed)
	for i := range list {
		list[i] = service.Suppression{Place: service.Place{List: service.BlockList, Tenant: "default"}, Since: n.clock.Now(),
			Address: mail.Address(fmt.Sprintf("user.%d@mail%d.example.jp", i, i%5000)), Author: "bench"}
	}
	if added, err := (suppressionService{n}).Import(b.Context(), list); err != nil || added != listed {
		b.Fatal(added, err)
	}
	if _, hit := n.suppressed("default", "", list[7].Address); !hit {
		b.Fatal("an address on the list is not found")
	}
	absent := make([]mail.Address, 4096)
	for i := range absent {
		absent[i] = mail.Address(fmt.Sprintf("nobody.%d@docomo.ne.jp", i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, hit := n.suppressed("default", "", absent[i%len(absent)]); hit {
			b.Fatal("an address on no list is found")
		}
	}
	b.StopTimer() // the node's end is not measured
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
	b.ReportMetric(goalLookups, "goal-lookups/s")
}
