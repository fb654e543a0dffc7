package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	stopWait  = 15 * time.Second // from SIGTERM to SIGKILL
	maxLine   = 1 << 20
	keptLines = 200
)

// ErrEnded is reported when a child ended before it said what was waited for.
var ErrEnded = errors.New("process ended")

// Process is a running child.
type Process struct {
	cmd   *exec.Cmd
	name  string
	lines chan string
	ended chan struct{}
	err   error // of Wait, once ended is closed
	said  []string
}

// Start runs path with args. Its standard error goes to stderr (nil: nowhere); its standard output is read by Line.
func Start(name, path string, args []string, stderr io.Writer) (*Process, error) {
	cmd := exec.Command(path, args...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{cmd: cmd, name: name, lines: make(chan string, keptLines), ended: make(chan struct{})}
	go p.read(out)
	return p, nil
}

// read passes lines on; when nobody takes them the oldest go, so that the child never blocks.
func (p *Process) read(out io.Reader) {
	sc := bufio.NewScanner(out)
	sc.Buffer(make([]byte, 4096), maxLine)
	for sc.Scan() {
		for sent := false; !sent; {
			select {
			case p.lines <- sc.Text():
				sent = true
			default:
				select {
				case <-p.lines:
				default:
				}
			}
		}
	}
	_, _ = io.Copy(io.Discard, out)
	close(p.lines)
	p.err = p.cmd.Wait()
	close(p.ended)
}

// Line returns the next line of standard output that starts with prefix, waiting at most d.
func (p *Process) Line(ctx context.Context, prefix string, d time.Duration) (string, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.ended
				return "", fmt.Errorf("%s: %w before it said %q: %w", p.name, ErrEnded, prefix, errOr(p.err, io.EOF))
			}
			if strings.HasPrefix(line, prefix) {
				return line, nil
			}
			if len(p.said) < keptLines {
				p.said = append(p.said, line)
			}
		case <-t.C:
			return "", fmt.Errorf("%s: said no %q within %s", p.name, prefix, d)
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w", p.name, ctx.Err())
		}
	}
}

// Words returns the KEY=VALUE words of a ready line; others are passed over.
func Words(line string) map[string]string {
	words := map[string]string{}
	for _, w := range strings.Fields(line) {
		if key, value, ok := strings.Cut(w, "="); ok {
			words[key] = value
		}
	}
	return words
}

// Said returns the lines that calls of Line passed over. For the goroutine that calls Line.
func (p *Process) Said() []string { return p.said }

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the end by itself; the error tells how it ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.name, p.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", p.name, ctx.Err())
	}
}

// Rest returns what standard output still held after the end.
func (p *Process) Rest() []string {
	var out []string
	for line := range p.lines {
		out = append(out, line)
	}
	return out
}

// Used returns the CPU of a child that has ended.
func (p *Process) Used() time.Duration {
	if p.cmd.ProcessState == nil {
		return 0
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Signal sends a signal; a child that has ended is none of its business.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Stop asks with SIGTERM and insists after 15 s. It tells how the child ended.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(stopWait)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		p.Kill()
		return fmt.Errorf("%s: did not end within %s of SIGTERM", p.name, stopWait)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// Kill ends the child as a crash would, with SIGKILL, and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}
