package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

func name16(i int) [16]byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return [16]byte(sum[:16])
}

// The filter finds all that was added, through several layers, and takes few others for known.
func TestFilter(t *testing.T) {
	f := newFilter(0)
	const n = 10 * firstLayer
	for i := range n {
		name := name16(i)
		f.add(&name)
	}
	if name := name16(n); f.absent(&name) {
		t.Error("sure before it was built")
	}
	f.ready.Store(true)
	wrong := 0
	for i := range n {
		if name := name16(i); f.absent(&name) {
			t.Fatalf("%d was added and is not found", i)
		}
		if name := name16(n + i); !f.absent(&name) {
			wrong++
		}
	}
	layers := *f.layers.Load()
	words := 0
	for _, l := range layers {
		words += len(l.words)
	}
	if share := float64(wrong) / n; share > 0.005 {
		t.Errorf("%.2f %% of strangers look known", 100*share)
	}
	if perName := float64(words*64) / n; len(layers) < 3 || perName > 3*bitsPerName {
		t.Errorf("%d layers, %.0f bits per name", len(layers), perName)
	}
}
