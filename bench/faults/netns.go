package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
)

// ipTool is the one tool that networks are made with.
const ipTool = "ip"

// cutPref is the first preference of the rules that cut; the kernel's own are 0 and from 32766 on.
const cutPref = 100

// network is a router and hosts around it, each in a network namespace of its own. Nothing of it is seen outside: hosts
// have addresses of 10.231.0.0/16 there, and no way out. A cut drops packets silently in the router, as a broken path does,
// in one direction.
type network struct {
	name string // the router's; host i is name-i
	made []string
}

// canDivide tells what is missing for network namespaces, before anything is tried.
func canDivide() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: network namespaces need root", ErrMissing)
	}
	if _, err := exec.LookPath(ipTool); err != nil {
		return fmt.Errorf("%w: no ip (Debian: iproute2)", ErrMissing)
	}
	return nil
}

// newNetwork makes a router and n hosts, 1 to 250. The random suffix keeps two series on one machine apart.
func newNetwork(ctx context.Context, n int) (*network, error) {
	if err := canDivide(); err != nil {
		return nil, err
	}
	net := &network{name: "ekf" + strconv.FormatUint(uint64(rand.Uint32()), 36)}
	if err := net.add(ctx, net.name); err != nil {
		return nil, fmt.Errorf("%w: network namespaces: %w", ErrMissing, err)
	}
	err := command(ctx, ipTool, "netns", "exec", net.name, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	for i := range n {
		err = errors.Join(err, net.host(ctx, i))
	}
	if err != nil {
		net.close()
		return nil, fmt.Errorf("faults: network: %w", err)
	}
	return net, nil
}

func (n *network) add(ctx context.Context, name string) error {
	if err := command(ctx, ipTool, "netns", "add", name); err != nil {
		return err
	}
	n.made = append(n.made, name)
	return command(ctx, ipTool, "-n", name, "link", "set", "lo", "up")
}

// host makes host i and its line to the router.
func (n *network) host(ctx context.Context, i int) error {
	name, port := n.space(i), "h"+strconv.Itoa(i)
	if err := n.add(ctx, name); err != nil {
		return err
	}
	gate := fmt.Sprintf("10.231.%d.254", i+1)
	for _, args := range [][]string{
		{"link", "add", "up0", "netns", name, "type", "veth", "peer", "name", port, "netns", n.name},
		{"-n", n.name, "addr", "add", gate + "/24", "dev", port},
		{"-n", n.name, "link", "set", port, "up"},
		{"-n", name, "addr", "add", hostAddr(i) + "/24", "dev", "up0"},
		{"-n", name, "link", "set", "up0", "up"},
		{"-n", name, "route", "add", "default", "via", gate},
	} {
		if err := command(ctx, ipTool, args...); err != nil {
			return err
		}
	}
	return nil
}

// hostAddr is host i's.
func hostAddr(i int) string { return fmt.Sprintf("10.231.%d.1", i+1) }

// space is the name of host i's namespace.
func (n *network) space(i int) string { return n.name + "-" + strconv.Itoa(i) }

// within is what goes in front of a command to run it on host i.
func (n *network) within(i int) []string { return []string{ipTool, "netns", "exec", n.space(i)} }

// way is one direction between two hosts.
type way struct{ from, to int }

func (w way) pref() string { return strconv.Itoa(cutPref + w.from*250 + w.to) }

// cut drops what goes these ways from now on.
func (n *network) cut(ctx context.Context, ways []way) error {
	var err error
	for _, w := range ways {
		err = errors.Join(err, command(ctx, ipTool, "-n", n.name, "rule", "add", "pref", w.pref(), "from", hostAddr(w.from), "to", hostAddr(w.to), "blackhole"))
	}
	return err
}

// heal undoes cut.
func (n *network) heal(ctx context.Context, ways []way) error {
	var err error
	for _, w := range ways {
		err = errors.Join(err, command(ctx, ipTool, "-n", n.name, "rule", "del", "pref", w.pref()))
	}
	return err
}

// close takes the namespaces away, and with them every line, whatever became of the caller's context.
func (n *network) close() {
	for _, name := range slices.Backward(n.made) {
		_ = command(context.Background(), ipTool, "netns", "del", name)
	}
}
