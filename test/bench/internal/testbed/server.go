package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout bounds the start of a server, migrations included.
	startTimeout = time.Minute
	// stopGrace is how long a server may take to stop before it is killed.
	stopGrace = 30 * time.Second
	// pollEvery is how often a condition is checked.
	pollEvery = 20 * time.Millisecond
)

// Process is a server under measurement.
type Process struct {
	// Addr is its host:port.
	Addr string
	PID  int

	cmd     *exec.Cmd
	ended   chan struct{}
	logFile string
	client  http.Client
	started time.Time
}

// StartServer starts the server on a database, with settings of the form NAME=value, and returns when it is ready. The caller stops it.
func (s *Testbed) StartServer(ctx context.Context, d Database, settings ...string) (*Process, error) {
	p, err := s.launch(ctx, nil, append(settings, "DATABASE_URL="+d.URL)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.await(ctx, pollEvery, func() bool { return p.status(ctx, "/readyz") == http.StatusOK }); err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not become ready: %w: %s", err, p.logTail()), p.Stop())
	}
	return p, nil
}

// StartRelay starts the server's relay, to the NATS servers at the URLs, and returns when it responds. The caller stops it.
func (s *Testbed) StartRelay(ctx context.Context, d Database, urls string) (*Process, error) {
	p, err := s.launch(ctx, []string{"relay"}, "DATABASE_URL="+d.URL, "PASSBOOK_RELAY_NATS_URL="+urls)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.await(ctx, pollEvery, func() bool { return p.status(ctx, "/livez") == http.StatusOK }); err != nil {
		return nil, errors.Join(fmt.Errorf("the relay did not start: %w: %s", err, p.logTail()), p.Stop())
	}
	return p, nil
}

// launch starts the server with the given arguments and settings, and does not wait for it.
func (s *Testbed) launch(ctx context.Context, args []string, settings ...string) (*Process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	settings = append(settings, "PASSBOOK_ADDR="+addr, "PASSBOOK_LOG_LEVEL=warn", "PASSBOOK_LOG_FORMAT=json",
		"PG_BIN="+s.bin, "PATH="+s.opts.Path, "HOME="+s.dir)
	return s.start(addr, s.opts.Server, args, settings)
}

// StartProgram starts another program that listens on the address of its flag -addr, and waits until it responds.
func (s *Testbed) StartProgram(ctx context.Context, program string, args ...string) (*Process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.start(addr, program, append(args, "-addr", addr), []string{"PATH=" + s.opts.Path})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.await(ctx, pollEvery, func() bool { return p.status(ctx, "/livez") == http.StatusOK }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not answer: %w: %s", program, err, p.logTail()), p.Stop())
	}
	return p, nil
}

func (s *Testbed) start(addr, program string, args, env []string) (*Process, error) {
	p := &Process{
		Addr: addr, ended: make(chan struct{}), logFile: s.next("server") + ".log",
		client: http.Client{Timeout: stopGrace, Transport: &http.Transport{}},
	}
	log, err := os.Create(p.logFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()     // the child has its own
	p.cmd = exec.Command(program, args...) //nolint:noctx // ended by Stop, with time to shut down
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, log, log
	p.cmd.SysProcAttr = childAttr()
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		_ = p.cmd.Wait() // its log says how it ended
		close(p.ended)
	}()
	return p, nil
}

// freeAddr returns an unused address.
func freeAddr(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// Stop shuts the server down, and kills it if that takes too long.
func (p *Process) Stop() error {
	p.client.CloseIdleConnections()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
	}
	err := p.cmd.Process.Kill()
	<-p.ended
	return errors.Join(errors.New("the server did not stop and was killed"), err)
}

// await polls until done returns true, the process ends, or ctx does.
func (p *Process) await(ctx context.Context, every time.Duration, done func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// status returns the status of a GET, 0 if there is no response.
func (p *Process) status(ctx context.Context, path string) int {
	status, _, err := p.do(ctx, http.MethodGet, path, "")
	if err != nil {
		return 0
	}
	return status
}

func (p *Process) do(ctx context.Context, method, path, body string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.Addr+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := p.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, answer, err
}

// Call makes a request, expects a status, and reads the JSON response into target unless that is nil.
func (p *Process) Call(ctx context.Context, method, path, body string, want int, target any) error {
	status, answer, err := p.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("%s %s: status %d: %s", method, path, status, bytes.TrimSpace(answer))
	}
	if target == nil {
		return nil
	}
	if err := json.Unmarshal(answer, target); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// logTail returns the end of the process's log.
func (p *Process) logTail() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}
