package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a served node as a supervisor sees it: a process, its lines, its signals.
type process struct {
	cmd   *exec.Cmd
	lines []string // standard output up to the ready line
	log   bytes.Buffer
	smtp  string
	url   string
	state string
}

var readyForm = regexp.MustCompile(`^ekiden ready name=(\S+) smtp=(\S+) http=(\S+) state=(unsealed|sealed)$`)

func mustServe(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("ekiden", append([]string{"serve"}, args...)...)}
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // a no-op once it has been waited for
	tooLate := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer tooLate.Stop()
	s := bufio.NewScanner(out)
	for s.Scan() {
		p.lines = append(p.lines, s.Text())
		if m := readyForm.FindStringSubmatch(s.Text()); m != nil {
			p.smtp, p.url, p.state = m[2], "http://"+m[3], m[4]
			return p
		}
	}
	err = p.cmd.Wait()
	t.Fatalf("it never became ready: %v\n%s%s", err, strings.Join(p.lines, "\n"), p.log.String())
	return nil
}

// mustEnd sends SIGTERM and checks that the process ends well and in time.
func (p *process) mustEnd(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	tooLate := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer tooLate.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit 0 within 10 s", err)
	}
	for _, line := range lines(p.log.String()) {
		if line != "" && !json.Valid([]byte(line)) {
			t.Errorf("standard error holds a line that is no JSON: %s", line)
		}
	}
}

// command runs one operator command against p.
func (p *process) command(t *testing.T, stdin string, args ...string) (code int, output string) {
	t.Helper()
	cmd := exec.Command("ekiden", args...)
	cmd.Env = append(os.Environ(), "EKIDEN_SERVER="+p.url)
	cmd.Stdin = strings.NewReader(stdin)
	raw, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(raw)
}

func (p *process) readyz(t *testing.T) int {
	t.Helper()
	resp, err := http.Get(p.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestARebootedNodeIsSealedUntilItsCodeIsGiven(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "node.yaml")
	text := "node: {name: n7, data: data}\n" +
		"smtp: {listeners: [{address: '127.0.0.1:0'}, {address: '127.0.0.1:0', role: submission}]}\n" +
		"http: {address: '127.0.0.1:0'}\n" +
		"keys: {unseal: [recovery-code]}\n" // as after a reboot: no keyring holds the key
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	first := mustServe(t, "-c", file)
	if len(first.lines) != 2 || first.state != "unsealed" || !strings.Contains(first.lines[1], "name=n7") ||
		strings.Count(first.lines[1], "127.0.0.1:") != 3 {
		t.Fatalf("first start printed %q", first.lines)
	}
	code, found := strings.CutPrefix(first.lines[0], "recovery code: ")
	if !found || !regexp.MustCompile(`^[0-9A-Z]{4,}(-[0-9A-Z]{4,})+$`).MatchString(code) {
		t.Fatalf("the code has an odd form: %q", first.lines[0])
	}
	if st := first.readyz(t); st != 200 {
		t.Errorf("readyz: %d", st)
	}
	if exit, out := first.command(t, "", "queue", "--data", data); exit != 0 || !strings.Contains(out, "undelivered") {
		t.Errorf("queue: exit %d\n%s", exit, out)
	}
	if exit, out := first.command(t, "", "queue"); exit != 3 {
		t.Errorf("queue without a token: exit %d\n%s", exit, out)
	}
	first.mustEnd(t)
	if strings.Contains(first.log.String(), code) {
		t.Error("the recovery code stands in the log")
	}

	second := mustServe(t, "-c", file)
	if len(second.lines) != 1 || second.state != "sealed" {
		t.Fatalf("second start printed %q", second.lines)
	}
	if st := second.readyz(t); st != 503 {
		t.Errorf("sealed: readyz %d, want 503", st)
	}
	if exit, out := second.command(t, "", "queue", "--data", data); exit != 3 {
		t.Errorf("sealed: queue exits %d\n%s", exit, out)
	}
	if exit, out := second.command(t, "", "top", "--data", data); exit != 0 || !strings.Contains(out, "not ready: sealed") {
		t.Errorf("sealed: top exits %d\n%s", exit, out)
	}
	if exit, out := second.command(t, "AAAA-BBBB-CCCC-DDDD\n", "unseal", "--data", data); exit != 3 {
		t.Errorf("wrong code: exit %d\n%s", exit, out)
	}
	if exit, out := second.command(t, first.lines[0]+"\n", "unseal", "--data", data); exit != 0 || !strings.Contains(out, "unsealed; 0 deliveries waiting") {
		t.Errorf("right code: exit %d\n%s", exit, out)
	}
	if st := second.readyz(t); st != 200 {
		t.Errorf("unsealed: readyz %d, want 200", st)
	}
	second.mustEnd(t)
}

func TestServeRefusesABadFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, []byte("http: {address: '0.0.0.0:0'}\ntesting: {enabled: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := exec.Command("ekiden", "serve", "-c", file).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(string(raw), "node.yaml:2: testing.enabled: refused") {
		t.Errorf("got %v\n%s", err, raw)
	}
}

func TestSettingsAndListsOutliveTheirFile(t *testing.T) {
	dir := t.TempDir()
	data, file, begin := filepath.Join(dir, "data"), filepath.Join(dir, "node.yaml"), filepath.Join(dir, "settings.yaml")
	const settingsForm = "tenants: [{name: shop, retention_days: %, compositions: [{name: main, networks: [127.0.0.1]}]}]\n"
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "node: {name: n7, data: "+data+"}\nsmtp: {listeners: [{address: '127.0.0.1:0'}]}\nhttp: {address: '127.0.0.1:0'}\nsettings: settings.yaml\n"+
		"keys: {unseal: [recovery-code]}\n")
	write(begin, strings.Replace(settingsForm, "%", "10", 1))
	other := filepath.Join(dir, "other.yaml")
	write(other, strings.Replace(settingsForm, "%", "20", 1))

	p := mustServe(t, "-c", file)
	code := p.lines[0]
	if exit, out := p.command(t, "", "apply", "-f", other, "--data", data); exit != 0 || !strings.Contains(out, "retention_days: 10 -> 20") {
		t.Errorf("apply: exit %d\n%s", exit, out)
	}
	if exit, out := p.command(t, "a@example.jp\nb@example.jp\n", "suppress", "import", "-f", "-", "--tenant", "shop", "--data", data); exit != 0 ||
		!strings.Contains(out, "2 added") {
		t.Errorf("import: exit %d\n%s", exit, out)
	}
	p.mustEnd(t)

	p = mustServe(t, "-c", file) // whose settings file still says 10
	if exit, out := p.command(t, code+"\n", "unseal", "--data", data); exit != 0 {
		t.Fatalf("unseal: exit %d\n%s", exit, out)
	}
	if exit, out := p.command(t, "", "settings", "export", "--data", data); exit != 0 || !strings.Contains(out, "retention_days: 20") {
		t.Errorf("after a restart: exit %d\n%s", exit, out)
	}
	if exit, out := p.command(t, "", "suppress", "list", "B@example", "--data", data); exit != 0 || !strings.Contains(out, "b@example.jp") {
		t.Errorf("list: exit %d\n%s", exit, out)
	}
	if exit, out := p.command(t, "", "cluster", "members", "--data", data); exit != 0 || !strings.Contains(out, "n7 ") {
		t.Errorf("members: exit %d\n%s", exit, out)
	}
	if exit, out := p.command(t, "", "cluster", "audit", "--data", data); exit != 0 || !strings.Contains(out, "operator") {
		t.Errorf("audit: exit %d\n%s", exit, out)
	}
	p.mustEnd(t)
}
