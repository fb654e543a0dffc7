package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// freeSpace returns the octets free for this user in dir's file system, and whether that lives in memory.
func freeSpace(dir string) (free uint64, inMemory bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return st.Bavail * uint64(st.Bsize), st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

// readAhead returns the read-ahead of the device of dir in KiB.
func readAhead(dir string) (kib int, ok bool) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, false
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, at := range []string{"queue/read_ahead_kb", "../queue/read_ahead_kb"} { // a partition's lies with its disk
		path, err := filepath.EvalSymlinks(device)
		if err != nil {
			return 0, false
		}
		if raw, err := os.ReadFile(filepath.Join(path, at)); err == nil {
			n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
			return n, err == nil
		}
	}
	return 0, false
}

func fileLimit() (uint64, bool) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, false
	}
	return l.Cur, true
}

func secretMemory() error {
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func keyring() error {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	return err
}

func swaps() (devices int, ok bool) {
	raw, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return 0, false
	}
	return max(0, strings.Count(string(raw), "\n")-1), true
}

// clockSynced asks the kernel whether something keeps the clock right.
func clockSynced() (synced, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, true
}
