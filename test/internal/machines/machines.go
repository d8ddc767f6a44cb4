// Package machines puts processes into network namespaces that stand for machines, and cuts one off from the others: its packets are
// lost, and no connection to or from it is closed. Everything happens in a network namespace and a mount namespace of this program's
// own, so the kernel removes all of it when the program and its processes have ended, however they end.
package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// inside is the variable that tells the program that Isolate has started it.
const inside = "CLUSTER_IN_NAMESPACE"

// Inside reports whether Isolate has started this program.
func Inside() bool { return os.Getenv(inside) != "" }

// errNone means that there are no network namespaces for this program.
var errNone = errors.New("no network namespaces")

// IsNone reports whether an error means that this program may not make network namespaces; its text says why.
func IsNone(err error) bool { return errors.Is(err, errNone) }

// Isolate runs this program again, with its arguments, in a network namespace and a mount namespace of its own, and returns its exit
// code. An error means that it did not run.
func Isolate() (int, error) {
	for _, name := range []string{"ip", "mount"} {
		if _, err := exec.LookPath(name); err != nil {
			return 0, fmt.Errorf("%w: %w", errNone, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // Pdeathsig is sent when the thread ends
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(context.Background(), self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", errNone, err)
	}
	if _, ended := errors.AsType[*exec.ExitError](cmd.Wait()); ended {
		return max(cmd.ProcessState.ExitCode(), 1), nil
	}
	return 0, nil
}

// Machine is where a process runs. Addr is its address among the machines. Admin is another, by which this program reaches it also
// while it is cut off.
type Machine struct {
	Name, Addr, Admin string

	net *Network
}

// Local is this machine, which cannot be cut off.
var Local = &Machine{Name: "localhost", Addr: "127.0.0.1", Admin: "127.0.0.1"}

// Network is a bridge to which machines are connected. This program has an address on it, too.
type Network struct {
	machines int
	drop     bool // iptables works
}

// NewNetwork makes a network. The program must have been started by Isolate.
func NewNetwork(ctx context.Context) (*Network, error) {
	if !Inside() {
		return nil, fmt.Errorf("%w: not started by Isolate", errNone)
	}
	// Names of namespaces are files; a file system of this program's own for them leaves none behind.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return nil, err
	}
	n := &Network{}
	for _, line := range []string{
		"mount -t tmpfs passbook-cluster /run/netns",
		"ip link set dev lo up",
		"ip link add dev bridge type bridge",
		"ip address add 10.0.0.1/24 dev bridge",
		"ip link set dev bridge up",
	} {
		if err := command(ctx, line); err != nil {
			return nil, fmt.Errorf("%w: %w", errNone, err)
		}
	}
	n.drop = command(ctx, "iptables -L -n") == nil
	return n, nil
}

// Silent reports whether packets of a machine that is cut off are dropped by a rule. Otherwise its link is down, which peers on
// the same network notice after some seconds, when they do not find its address any more.
func (n *Network) Silent() bool { return n.drop }

// Add makes a machine.
func (n *Network) Add(ctx context.Context, name string) (*Machine, error) {
	n.machines++
	id := n.machines
	m := &Machine{Name: name, Addr: fmt.Sprintf("10.0.0.%d", id+1), Admin: fmt.Sprintf("10.0.%d.2", id), net: n}
	for _, line := range []string{
		"ip netns add " + name,
		"ip -n " + name + " link set dev lo up",
		"ip link add dev " + name + " type veth peer name data netns " + name,
		"ip link set dev " + name + " master bridge up",
		"ip -n " + name + " address add " + m.Addr + "/24 dev data",
		"ip -n " + name + " link set dev data up",
		"ip link add dev a-" + name + " type veth peer name admin netns " + name,
		fmt.Sprintf("ip address add 10.0.%d.1/24 dev a-%s", id, name),
		"ip link set dev a-" + name + " up",
		"ip -n " + name + " address add " + m.Admin + "/24 dev admin",
		"ip -n " + name + " link set dev admin up",
	} {
		if err := command(ctx, line); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Command returns a command that runs on the machine.
func (m *Machine) Command(ctx context.Context, path string, args ...string) *exec.Cmd {
	if m.net == nil {
		return exec.CommandContext(ctx, path, args...)
	}
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.Name, path}, args...)...)
}

// CutOff has all packets between the machine and the others lost, until Heal.
func (m *Machine) CutOff(ctx context.Context) error { return m.cut(ctx, "-A", "down") }

// Heal connects the machine again.
func (m *Machine) Heal(ctx context.Context) error { return m.cut(ctx, "-D", "up") }

func (m *Machine) cut(ctx context.Context, rule, link string) error {
	if !m.net.drop {
		return command(ctx, "ip link set dev "+m.Name+" "+link)
	}
	return errors.Join(command(ctx, "ip netns exec "+m.Name+" iptables "+rule+" INPUT -i data -j DROP"),
		command(ctx, "ip netns exec "+m.Name+" iptables "+rule+" OUTPUT -o data -j DROP"))
}

func command(ctx context.Context, line string) error {
	fields := strings.Fields(line)
	if out, err := exec.CommandContext(ctx, fields[0], fields[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}
