package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Most of what was asked for is marked, and stays so once it is free; none of it is touched.
func TestWiden(t *testing.T) {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil {
		t.Skip("this kernel has no huge pages to give: ", err)
	}
	if bytes.Contains(mode, []byte("[never]")) {
		t.Skip("huge pages are switched off here")
	}
	before, touched := marked(t)
	widen()
	after, now := marked(t)
	if got := after - before; got < wideHeap/2 {
		t.Errorf("%d octets marked for huge pages; want %d", got, wideHeap)
	}
	if now-touched > wideHeap/4 {
		t.Errorf("%d octets touched by asking", now-touched)
	}
}

// marked returns the octets of this process that are marked for huge pages, and how many of them are in memory.
func marked(t *testing.T) (all, resident int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, rss := 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		_, _ = fmt.Sscanf(line, "Size: %d kB", &size)
		_, _ = fmt.Sscanf(line, "Rss: %d kB", &rss)
		if strings.HasPrefix(line, "VmFlags:") && strings.Contains(line+" ", " hg ") {
			all, resident = all+size<<10, resident+rss<<10
		}
	}
	return all, resident
}
