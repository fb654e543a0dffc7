package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	minFree      = 1 << 30  // octets: below this a store soon refuses mail
	goodFree     = 10 << 30 // octets
	slowSync     = 20 * time.Millisecond
	hopelessSync = 200 * time.Millisecond
	syncs        = 32
	minFiles     = 4096
	goodFiles    = 65536
	bigReadAhead = 1024 // KiB
)

// disk looks at the data directory, or at the nearest directory above it that exists already.
func (d *doctor) disk() {
	dir, err := filepath.Abs(d.config.Node.Data)
	if err != nil {
		d.say(fail, "disk", "", "%v", err)
		return
	}
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			break
		} else if err == nil {
			d.say(fail, "disk", "", "%s is no directory", dir)
			return
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	d.space(dir)
	d.fsync(dir)
	if kib, ok := readAhead(dir); ok && kib > bigReadAhead {
		d.say(warn, "read-ahead", "set read_ahead_kb of the device to 128: large read-ahead makes mapped writes larger than they need be",
			"%d KiB on the device of %s", kib, dir)
	} else if ok {
		d.say(pass, "read-ahead", "", "%d KiB", kib)
	}
}

func (d *doctor) space(dir string) {
	free, inMemory, err := freeSpace(dir)
	gib := float64(free) / (1 << 30)
	switch {
	case err != nil:
		d.say(warn, "disk", "", "the free space of %s cannot be told: %v", dir, err)
	case inMemory:
		d.say(fail, "disk", "put the data directory on a disk: mail accepted here is lost at a power cut", "%s is in memory (tmpfs)", dir)
	case free < minFree:
		d.say(fail, "disk", "free some space: a full disk refuses mail", "%.1f GiB free in %s", gib, dir)
	case free < goodFree:
		d.say(warn, "disk", "a million waiting messages of a few KB need several GiB", "%.1f GiB free in %s", gib, dir)
	default:
		d.say(pass, "disk", "", "%.0f GiB free in %s", gib, dir)
	}
}

// fsync measures how long a small write takes to reach the disk, with a real file.
func (d *doctor) fsync(dir string) {
	median, worst, err := measureSync(dir)
	const advice = "every 250 waits for one sync: use a local SSD, not a network or USB disk"
	switch {
	case errors.Is(err, os.ErrPermission):
		d.say(warn, "fsync", "run the doctor as the user of the node", "cannot write to %s", dir)
	case err != nil:
		d.say(fail, "fsync", "the store needs a disk that can sync", "%v", err)
	case median > hopelessSync:
		d.say(fail, "fsync", advice, "median %v, worst %v", median, worst)
	case median > slowSync:
		d.say(warn, "fsync", advice, "median %v, worst %v", median, worst)
	default:
		d.say(pass, "fsync", "", "median %v, worst %v of %d", median, worst, syncs)
	}
}

func measureSync(dir string) (median, worst time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".ekiden-doctor-*")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	took := make([]time.Duration, syncs)
	for i := range took {
		start := clock.Wall()
		if _, err := f.Write(block); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took[i] = clock.Since(start).Round(10 * time.Microsecond)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1], nil
}

// limits looks at what the system allows a process.
func (d *doctor) limits() {
	n, ok := fileLimit()
	const advice = "raise LimitNOFILE (systemd) or ulimit -n to 65536 or more"
	switch {
	case !ok:
		d.say(warn, "files", advice, "the limit of open files cannot be told here")
	case n < minFiles:
		d.say(fail, "files", advice, "at most %d open files", n)
	case n < goodFiles:
		d.say(warn, "files", advice, "at most %d open files", n)
	default:
		d.say(pass, "files", "", "at most %d open files", n)
	}
}

// memory looks at what keeps the root key in memory only.
func (d *doctor) memory() {
	if err := secretMemory(); err != nil {
		d.say(warn, "secret memory", "boot with secretmem.enable=1; without, the key lies in locked memory that root can read",
			"memfd_secret: %v", err)
	} else {
		d.say(pass, "secret memory", "", "memfd_secret works")
	}
	if err := keyring(); err != nil {
		d.say(warn, "keyring", "allow keyctl in the container, or keep another provider under keys.unseal",
			"the kernel's keyring cannot be used (%v): after a restart of the process the recovery code is needed", err)
	} else {
		d.say(pass, "keyring", "", "the kernel's keyring keeps the key over a restart of the process")
	}
	if devices, ok := swaps(); ok && devices > 0 {
		d.say(warn, "swap", "turn swap off or encrypt it: mail in memory may be written to it", "%d swap devices in use", devices)
	}
}
