package house

import (
	"os"
	"testing"
)

// TestHouse holds the tree it stands in to the rules.
func TestHouse(t *testing.T) {
	found, err := Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Errorf("%s", v)
	}
}
