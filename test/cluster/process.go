package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"passbook/test/internal/nodes"
)

// process is a server.
type process struct {
	name, url string

	binary, log string
	args, env   []string
	cmd         *exec.Cmd
	done        chan struct{}
	client      http.Client
}

// newProcess returns a server that does not run yet.
func newProcess(ctx context.Context, name, dir, binary string, args []string, env ...string) (*process, error) {
	ports, err := nodes.FreePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(ports[0])
	return &process{
		name: name, url: "http://" + addr, binary: binary, log: filepath.Join(dir, name+".log"), args: args,
		env:    append(env, "PASSBOOK_ADDR="+addr, "PASSBOOK_LOG_FORMAT=json", "HOME=/nonexistent", "PATH="+os.Getenv("PATH")),
		client: http.Client{Timeout: 10 * time.Second},
	}, nil
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.Background(), p.binary, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done
	return nil
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }
func (p *process) stop() { p.signal(syscall.SIGTERM) }

func (p *process) signal(s syscall.Signal) {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
		<-p.done
		p.cmd = nil
	}
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
