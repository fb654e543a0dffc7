package remnant

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestClear(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"00001.mem": "", "00002.mem": "x", "000003.vlog": "", "000004.vlog": "x", "MANIFEST": "", "00005.sst": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.mem"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Clear(dir, ".mem", ".vlog"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"000004.vlog", "00002.mem", "00005.sst", "MANIFEST", "dir.mem"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if err := Clear(filepath.Join(dir, "none"), ".mem"); err != nil {
		t.Errorf("no directory: %v", err)
	}
}
