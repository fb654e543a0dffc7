package process

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// CPU returns the user and system time pid has used, good to 10 ms.
func CPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read cpu: %w", err)
	}
	// The name in parentheses may hold anything: fields are counted behind it.
	f := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("read cpu of %d: short line", pid)
	}
	user, err1 := strconv.ParseInt(string(f[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(f[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("read cpu of %d: no numbers", pid)
	}
	return time.Duration(user+system) * tick, nil
}

// Memory is what a process holds, in octets.
type Memory struct {
	RSS  int64 // everything resident, mapped files included
	Anon int64 // beyond the page cache: what cannot be given back
	Peak int64 // of RSS
}

// MemoryOf reads the memory of pid.
func MemoryOf(pid int) (Memory, error) {
	var m Memory
	err := fields(fmt.Sprintf("/proc/%d/status", pid), map[string]*int64{"VmRSS": &m.RSS, "RssAnon": &m.Anon, "VmHWM": &m.Peak})
	m.RSS, m.Anon, m.Peak = m.RSS<<10, m.Anon<<10, m.Peak<<10
	return m, err
}

// Written returns the octets pid sent to the disk so far (pages made dirty count when they are made dirty).
func Written(pid int) (int64, error) {
	var n int64
	err := fields(fmt.Sprintf("/proc/%d/io", pid), map[string]*int64{"write_bytes": &n})
	return n, err
}

// fields reads "name: number" lines.
func fields(path string, into map[string]*int64) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		if target := into[name]; target != nil {
			words := strings.Fields(rest)
			if len(words) == 0 {
				continue
			}
			if *target, err = strconv.ParseInt(words[0], 10, 64); err != nil {
				return fmt.Errorf("measure: %s: %w", path, err)
			}
		}
	}
	return nil
}

// Disk returns the octets dir takes on the disk: blocks, so that holes do not count.
func Disk(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // a store deletes files while we look
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure disk: %w", err)
	}
	return sum, nil
}
