package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// postfixSink is smtp-sink of Debian's postfix package. Its counter goes to a file, so that counting costs little.
type postfixSink struct {
	cmd    *exec.Cmd
	addr   string
	counts *os.File
}

func startPostfixSink(ctx context.Context, notes string) (*postfixSink, error) {
	path, err := exec.LookPath("smtp-sink")
	if err != nil {
		return nil, fmt.Errorf("relay: Debian's package postfix is not installed: %w", err)
	}
	addr, err := engine.FreeAddr("127.0.0.1", rand.IntN)
	if err != nil {
		return nil, err
	}
	counts, err := os.CreateTemp(notes, "smtp-sink-")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	args := []string{"-c"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	s := &postfixSink{cmd: exec.Command(path, append(args, addr, "1000")...), addr: addr, counts: counts}
	s.cmd.Stdout, s.cmd.Stderr = counts, os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if err = listens(ctx, addr, listenWait); err != nil {
		s.kill()
	}
	return s, err
}

// count reads the last "mesg=N" that smtp-sink wrote.
func (s *postfixSink) count() (int64, error) {
	size, err := s.counts.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("relay: %w", err)
	}
	end := make([]byte, min(size, 200))
	if _, err := s.counts.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return 0, fmt.Errorf("relay: %w", err)
	}
	if i := bytes.LastIndexByte(end, '\r'); i >= 0 { // what stands behind may be half a line
		end = end[:i]
	}
	_, number, found := bytes.Cut(end[max(0, bytes.LastIndex(end, []byte("mesg="))):], []byte("="))
	if !found {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("relay: smtp-sink's counter: %w", err)
	}
	return n, nil
}

func (s *postfixSink) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.counts.Close()
}

// source runs smtp-source to its end and returns when it started, how long it took and what CPU it used.
func (c Config) source(ctx context.Context, target string, messages int) (began time.Time, took, cpu time.Duration, err error) {
	path, err := exec.LookPath("smtp-source")
	if err != nil {
		return began, 0, 0, fmt.Errorf("relay: Debian's package postfix is not installed: %w", err)
	}
	args := []string{"-s", strconv.Itoa(c.Sessions), "-m", strconv.Itoa(messages), "-l", strconv.Itoa(c.Size),
		"-f", "bench@load.example", "-t", "u0@d0.example", "-M", "load.example"}
	if c.PerConnection == 0 {
		args = append(args, "-d")
	}
	cmd := exec.CommandContext(ctx, path, append(args, target)...)
	cmd.Stderr = os.Stderr
	began = clock.Wall()
	if err := cmd.Run(); err != nil {
		return began, 0, 0, fmt.Errorf("relay: smtp-source: %w", err)
	}
	return began, clock.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// postfix measures with smtp-source and smtp-sink. They tell no message from another: loss and duplicates come from
// the sink's counter beside what the engine says it accepted.
func (c Config) postfix(ctx context.Context, data, notes string) (Result, error) {
	r := Result{Size: c.Size, Messages: c.Messages}
	s, err := startPostfixSink(ctx, notes)
	if err != nil {
		return r, err
	}
	defer func() { s.kill() }()
	c.say("smtp-source straight into smtp-sink …")
	n := min(c.Messages, 50000)
	began, _, _, err := c.source(ctx, s.addr, n)
	if err != nil {
		return r, err
	}
	if _, err := await(ctx, int64(n), c.Quiet, s.count, func() {}); err != nil {
		return r, err
	}
	r.Direct = perSecond(n, clock.Since(began))
	s.kill()
	if s, err = startPostfixSink(ctx, notes); err != nil {
		return r, err
	}
	c.say("direct %.0f/s; now through the engine …", r.Direct)
	e, err := c.startEngine(ctx, data, s.addr)
	if err != nil {
		return r, err
	}
	defer e.Crash() // its data goes with it
	err = c.profiled(ctx, e, func() error {
		return c.postfixThrough(ctx, &r, s, e.SMTP, e.PID(), func() (int64, error) {
			m, err := e.Metrics(ctx)
			return int64(m.Sum("ekiden_accepted_total")), err
		})
	})
	return r, err
}

// postfixThrough measures smtp-source -> target -> s. accepted tells what the target says it took.
func (c Config) postfixThrough(ctx context.Context, r *Result, s *postfixSink, target string, pid int, accepted func() (int64, error)) error {
	w, err := newWatch(pid)
	if err != nil {
		return err
	}
	sinkBefore, err := process.CPU(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began, took, cpu, err := c.source(ctx, target, c.Messages)
	if err != nil {
		return err
	}
	// The sink's probe at its start and its own sessions do not count as messages.
	n, err := await(ctx, int64(c.Messages), c.Quiet, s.count, w.look)
	if err != nil {
		return err
	}
	r.Rate = perSecond(int(n), clock.Since(began))
	if r.AcceptRate = perSecond(c.Messages, took); r.Direct > 0 {
		r.Ratio = r.Rate / r.Direct
	}
	r.SourceCPU = perMessage(cpu, c.Messages)
	sinkAfter, err := process.CPU(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.SinkCPU = perMessage(sinkAfter-sinkBefore, c.Messages)
	if err := w.fill(r); err != nil {
		return err
	}
	if n, err = await(ctx, 2*int64(c.Messages), 6*poll, s.count, func() {}); err != nil {
		return err
	}
	took250, err := accepted()
	if err != nil {
		return err
	}
	r.Lost, r.Duplicates = int(max(0, took250-n)), int(max(0, n-took250))
	if took250 < int64(c.Messages) {
		r.Lost += c.Messages - int(took250) // smtp-source ends in peace only when all have their 250
	}
	return nil
}
