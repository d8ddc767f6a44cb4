package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"passbook/test/internal/machines"
	"passbook/test/internal/nodes"
)

// process is a server.
type process struct {
	name, url string
	machine   *machines.Machine

	binary, log string
	args, env   []string
	child       *machines.Child
	client      http.Client
}

// newProcess returns a server that does not run yet.
func newProcess(ctx context.Context, on *machines.Machine, name, dir, binary string, args []string, env ...string) (*process, error) {
	ports, err := nodes.FreePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := on.Admin + ":" + strconv.Itoa(ports[0])
	return &process{
		name: name, url: "http://" + addr, machine: on, binary: binary, log: filepath.Join(dir, name+".log"), args: args,
		env: append(env, "PASSBOOK_ADDR="+addr, "PASSBOOK_HOSTS="+on.Admin, "PASSBOOK_INSECURE=true", "PASSBOOK_LOG_FORMAT=json",
			"HOME=/nonexistent", "PATH="+os.Getenv("PATH")),
		client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}, nil
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := p.machine.Command(context.Background(), p.binary, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, log, log
	p.child, err = machines.Spawn(cmd)
	return err
}

func (p *process) kill() { p.end(syscall.SIGKILL) }
func (p *process) stop() { p.end(syscall.SIGTERM) }

func (p *process) end(s syscall.Signal) {
	if p.child != nil {
		p.child.End(s)
		p.child = nil
	}
}

// set changes a variable of the environment that the server starts with.
func (p *process) set(name, value string) {
	p.env = slices.DeleteFunc(p.env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	p.env = append(p.env, name+"="+value)
}

// runServer runs a command of the server's binary on the private PostgreSQL in a directory, and returns what it prints.
func (w *world) runServer(ctx context.Context, dataDir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.server, args...)
	cmd.Env = []string{"PASSBOOK_DATA_DIR=" + dataDir, "HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("server %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// get returns the body and the headers of a response with status 200, or nil.
func (p *process) get(ctx context.Context, path string) ([]byte, http.Header) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, nil
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, nil
	}
	return body, resp.Header
}

func (p *process) ready(ctx context.Context) bool {
	body, _ := p.get(ctx, "/readyz")
	return body != nil
}

// position returns the position up to which the totals are, 0 if the server does not respond.
func (p *process) position(ctx context.Context) int64 {
	_, header := p.get(ctx, "/totals")
	n, _ := strconv.ParseInt(header.Get("Passbook-Position"), 10, 64)
	return n
}

// metric returns a metric, -1 if the server does not respond or does not have it.
func (p *process) metric(ctx context.Context, name string) float64 {
	body, _ := p.get(ctx, "/metrics")
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return n
			}
		}
	}
	return -1
}
