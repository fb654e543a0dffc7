package members

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ekiden-mta/ekiden/bench/sink"
)

// devPorts are the ports of the first member of Dev: n1 has 2521 for SMTP, 8021 for HTTP and 7951 for the cluster, n2 the next ones.
var devPorts = [3]int{7951, 2521, 8021}

// Dev runs three members and a sink that takes everything, prints where they are, and leaves them running until ctx
// ends. Data is in dir, which is kept and continued.
func Dev(ctx context.Context, engine, dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	s, err := sink.Start(sink.Config{Listen: []string{"127.0.0.1:2599"}, Record: filepath.Join(dir, "arrived.jsonl")})
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	var addresses [][3]string
	for i := range 3 {
		var at [3]string
		for j, port := range devPorts {
			at[j] = net.JoinHostPort("127.0.0.1", fmt.Sprint(port+i))
		}
		addresses = append(addresses, at)
	}
	c, err := Form(ctx, Config{Engine: engine, Dir: dir, Count: 3, Routes: map[string]string{"*": "127.0.0.1:2599"}, At: addresses, Testing: true})
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	for _, m := range c.Members {
		fmt.Fprintf(out, "%s  smtp %s  http http://%s  cluster %s  data %s  log %s\n", m.Name, m.SMTP, m.HTTP, m.Address,
			filepath.Join(m.config.Dir, "data"), m.Log())
		for _, line := range m.Said() {
			fmt.Fprintln(out, "   ", line)
		}
	}
	fmt.Fprintf(out, "sink  smtp %s  record %s\n", s.Addrs()[0], filepath.Join(dir, "arrived.jsonl"))
	fmt.Fprintf(out, `
try:   bin/ekiden cluster members --server http://%s --token "$(cat %s)"
       bin/ekiden-bench load --target %s --messages 1000
Ctrl-C ends all of it.
`, c.Members[0].HTTP, filepath.Join(c.Members[0].config.Dir, "data", "admin.token"), c.Members[0].SMTP)
	gone := make(chan string, len(c.Members))
	for _, m := range c.Members {
		go func() {
			<-m.Ended()
			gone <- m.Name
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-gone:
			fmt.Fprintf(out, "%s %s ended\n", time.Now().Format(time.TimeOnly), name)
		}
	}
}
