package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/bench/engine"
)

// Peer measures Postfix itself, as Debian's package brings it, between the same smtp-source and smtp-sink. It runs an
// instance of its own, with its own directories and port, and needs root as Postfix does.
func Peer(ctx context.Context, cfg Config) (Result, error) {
	cfg.Tool = "postfix"
	cfg, err := cfg.withDefaults()
	r := Result{Size: cfg.Size, Messages: cfg.Messages}
	if err != nil {
		return r, err
	}
	if os.Geteuid() != 0 {
		return r, fmt.Errorf("relay: Postfix starts as root only")
	}
	data, notes, remove, err := cfg.workDir()
	if err != nil {
		return r, err
	}
	defer remove()
	s, err := startPostfixSink(ctx, notes)
	if err != nil {
		return r, err
	}
	defer s.kill()
	target, stop, err := startPostfix(ctx, data, s.addr)
	if err != nil {
		return r, err
	}
	defer stop()
	cfg.say("smtp-source through Postfix into smtp-sink …")
	err = cfg.postfixThrough(ctx, &r, s, target, 0, func() (int64, error) { return int64(cfg.Messages), nil })
	return r, err
}

// startPostfix sets an instance up under dir and starts it. Everything of it is below dir.
func startPostfix(ctx context.Context, dir, sinkAddr string) (addr string, stop func(), err error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("relay: %w", err)
	}
	if addr, err = engine.FreeAddr("127.0.0.1", rand.IntN); err != nil {
		return "", nil, err
	}
	host, port, _ := net.SplitHostPort(sinkAddr)
	config := filepath.Join(dir, "postfix")
	text := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
multi_instance_enable = no
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [%[2]s]:%[3]s
default_process_limit = 200
smtpd_client_connection_count_limit = 0
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtp_connection_cache_on_demand = yes
alias_maps =
alias_database =
`, dir, host, port)
	for _, d := range []string{config, filepath.Join(dir, "queue"), filepath.Join(dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", nil, fmt.Errorf("relay: %w", err)
		}
	}
	if err := giveToPostfix(filepath.Join(dir, "data")); err != nil {
		return "", nil, err
	}
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return "", nil, fmt.Errorf("relay: Debian's package postfix is not installed: %w", err)
	}
	lines := strings.Split(string(master), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "smtp ") && strings.Contains(l, "inet") {
			lines[i] = addr + " inet n - n - - smtpd"
		}
	}
	_ = os.WriteFile(filepath.Join(config, "main.cf"), []byte(text), 0o644)
	if err := os.WriteFile(filepath.Join(config, "master.cf"), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		return "", nil, fmt.Errorf("relay: %w", err)
	}
	command := func(word string) error {
		out, err := exec.CommandContext(context.WithoutCancel(ctx), "postfix", "-c", config, word).CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("relay: postfix %s: %w: %s%s", word, err, out, log)
		}
		return nil
	}
	if err := command("start"); err != nil {
		return "", nil, err
	}
	stop = func() { _ = command("stop") }
	if err = listens(ctx, addr, listenWait); err != nil {
		stop()
	}
	return addr, stop, err
}

// giveToPostfix makes the user of Debian's package the owner of a directory.
func giveToPostfix(dir string) error {
	u, err := user.Lookup("postfix")
	if err != nil {
		return fmt.Errorf("relay: Debian's package postfix is not installed: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}
