package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long a process may take to end before it is killed.
const stopLimit = 30 * time.Second

// process is a child of this one.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// start starts a program whose output is appended to a log.
func start(log, program string, env []string, attr *syscall.SysProcAttr, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()                                            // the child has its own
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})} //nolint:noctx // ended by stop
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = env, file, file, attr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its log says how it ended
		close(p.ended)
	}()
	return p, nil
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", signal, err)
	}
	return nil
}

// stop sends a signal and waits for the end. It kills a process that does not end, and returns an error.
func (p *process) stop(signal syscall.Signal) error {
	if err := p.signal(signal); err != nil {
		return err
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
	}
	err := p.signal(syscall.SIGKILL)
	<-p.ended
	return errors.Join(fmt.Errorf("%s did not end within %s of %s", p.cmd.Path, stopLimit, signal), err)
}

// tail returns the end of a log.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1500):]))
}

// command runs a program and waits for its end.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	attr := childAttr()
	cmd.SysProcAttr = &attr
	return cmd
}
