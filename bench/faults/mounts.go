package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mounts are the file systems a fault made. They lie in files, so that they can be small, break and be copied.
type mounts struct{ points []string }

// canMount tells what is missing for mounting images, before anything is tried.
func canMount(tools ...string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: mounting needs root", ErrMissing)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("%w: no loop devices (/dev/loop-control)", ErrMissing)
	}
	for _, tool := range append(tools, "mount", "umount") {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: no %s (Debian: e2fsprogs, xfsprogs, mount)", ErrMissing, tool)
		}
	}
	return nil
}

// command runs a tool to its end.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, first(string(out), 3))
	}
	return nil
}

// image makes a sparse file of size octets with a file system made by the tool mkfs.
func image(ctx context.Context, path string, size int64, mkfs ...string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	return command(ctx, mkfs[0], append(mkfs[1:], path)...)
}

// loop mounts an image. The kernel lets go of its loop device with the mount.
func (m *mounts) loop(ctx context.Context, image, dir string) error {
	return m.mount(ctx, dir, "-o", "loop,noatime", image)
}

// single has the loop device under dir write one page at a time. Linux takes a write that its file took the first part
// of for a whole one (6.18, drivers/block/loop.c): when that file system fills up, a write of several pages is reported
// done though the last of them are nowhere, and neither ext4 nor XFS nor whoever waits for fsync can know. A page is
// taken whole or not at all. Of 120 disks that filled up under a writer 10 lost what had been synced; of 100 that wrote
// single pages none did.
func single(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("find the device of %s: %w", dir, err)
	}
	limit := fmt.Sprintf("/sys/dev/block/%d:%d/queue/max_sectors_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(limit, []byte("4"), 0o600); err != nil {
		return fmt.Errorf("%w: single pages to a loop device: %w", ErrMissing, err)
	}
	return nil
}

// memory mounts a file system of size octets in memory.
func (m *mounts) memory(ctx context.Context, size int64, dir string) error {
	return m.mount(ctx, dir, "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs")
}

func (m *mounts) mount(ctx context.Context, dir string, args ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := command(ctx, "mount", append(args, dir)...); err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	m.points = append(m.points, dir)
	return nil
}

// unmount takes one away, trying for 20 s: a process that was just killed may still hold it.
func (m *mounts) unmount(dir string) error {
	var err error
	for range 100 {
		if err = unix.Unmount(dir, 0); err == nil {
			m.points = slices.DeleteFunc(m.points, func(p string) bool { return p == dir })
			return nil
		}
		t := time.NewTimer(200 * time.Millisecond)
		<-t.C
	}
	return fmt.Errorf("unmount %s: %w", dir, err)
}

// close takes all away, the last first, and insists.
func (m *mounts) close() {
	for _, dir := range slices.Backward(slices.Clone(m.points)) {
		if m.unmount(dir) != nil {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
}

// fill takes all free space of the file system that holds path by a file there, and returns how much it took.
func fill(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	var size int64
	for step := int64(64 << 20); step >= 4096; {
		if err = unix.Fallocate(int(f.Fd()), 0, size, step); err == nil {
			size += step
		} else if step /= 2; !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return size, err
		}
	}
	return size, f.Close()
}
