// Package nodes runs nats-server processes, alone or as a cluster, with JetStream and sync_interval: always.
package nodes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"passbook/test/internal/machines"
)

// Build builds nats-server, in the version of go.mod, into a directory, and returns its path. It runs in the module test.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "nats-server")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w: %s", err, out)
	}
	return path, nil
}

// Node is a nats-server, which may be running.
type Node struct {
	Name, URL string

	Machine *machines.Machine

	binary, dir string
	child       *machines.Child
	config      string // as New has written it
}

// Cluster is nodes that know each other; one node is not a cluster.
type Cluster []*Node

// New returns a node for each machine, with their configurations in a directory. They do not run yet.
func New(ctx context.Context, binary, dir string, on ...*machines.Machine) (Cluster, error) {
	n := len(on)
	ports, err := FreePorts(ctx, 2*n)
	if err != nil {
		return nil, err
	}
	routes := make([]string, n)
	for i := range n {
		routes[i] = fmt.Sprintf("nats://%s:%d", on[i].Addr, ports[n+i])
	}
	all := make(Cluster, n)
	for i := range n {
		node := &Node{
			Name: fmt.Sprintf("n%d", i+1), URL: fmt.Sprintf("nats://%s:%d", on[i].Addr, ports[i]), Machine: on[i], binary: binary,
			dir: filepath.Join(dir, fmt.Sprintf("n%d", i+1)),
		}
		if err := os.MkdirAll(node.dir, 0o700); err != nil {
			return nil, err
		}
		text := fmt.Sprintf("server_name: %s\nlisten: %s:%d\njetstream { store_dir: %q, sync_interval: always }\n",
			node.Name, on[i].Addr, ports[i], filepath.Join(node.dir, "data"))
		if n > 1 {
			text += fmt.Sprintf("cluster { name: passbook, listen: %s:%d, routes: [%s] }\n", on[i].Addr, ports[n+i], strings.Join(routes, ", "))
		}
		node.config = text
		if err := node.Configure(""); err != nil {
			return nil, err
		}
		all[i] = node
	}
	return all, nil
}

// URLs returns the URLs of all nodes, separated by commas.
func (c Cluster) URLs() string {
	urls := make([]string, len(c))
	for i, node := range c {
		urls[i] = node.URL
	}
	return strings.Join(urls, ",")
}

// Start starts all nodes.
func (c Cluster) Start() error {
	var errs []error
	for _, node := range c {
		errs = append(errs, node.Start())
	}
	return errors.Join(errs...)
}

// Kill kills all nodes.
func (c Cluster) Kill() {
	for _, node := range c {
		node.Kill()
	}
}

// Configure adds lines to the configuration that the node has from its next start, in place of those added before.
func (n *Node) Configure(more string) error {
	return os.WriteFile(filepath.Join(n.dir, "nats.conf"), []byte(n.config+more), 0o600)
}

// Log returns what the node has logged so far.
func (n *Node) Log() string {
	text, err := os.ReadFile(filepath.Join(n.dir, "nats.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Start starts the node; its log is appended to nats.log in its directory.
func (n *Node) Start() error {
	log, err := os.OpenFile(filepath.Join(n.dir, "nats.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := n.Machine.Command(context.Background(), n.binary, "-c", filepath.Join(n.dir, "nats.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	n.child, err = machines.Spawn(cmd)
	return err
}

// Kill kills the node, if it runs, and waits for its end.
func (n *Node) Kill() {
	if n.child != nil {
		n.child.End(syscall.SIGKILL)
		n.child = nil
	}
}

// Pause stops the node's process without ending it, and Resume continues it.
func (n *Node) Pause() error { return n.child.Signal(syscall.SIGSTOP) }

// Resume continues a paused node.
func (n *Node) Resume() error { return n.child.Signal(syscall.SIGCONT) }

// PID returns the id of the node's process.
func (n *Node) PID() int { return n.child.PID() }

// Dir returns the directory of the node's messages.
func (n *Node) Dir() string { return filepath.Join(n.dir, "data") }

// FreePorts returns ports that nothing listens on.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// Await calls ready every 50 ms until it returns true, for a limit.
func Await(ctx context.Context, limit time.Duration, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %s", limit, what)
		case <-tick.C:
		}
	}
	return nil
}
