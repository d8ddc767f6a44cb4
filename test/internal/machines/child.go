package machines

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Child is a running process, which is killed when this program ends.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Spawn starts a process.
func Spawn(cmd *exec.Cmd) (*Child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c := &Child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread ends; the runtime ends it with this goroutine
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Signal sends a signal.
func (c *Child) Signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

// End sends a signal and waits until the process has ended.
func (c *Child) End(s syscall.Signal) {
	_ = c.Signal(s)
	<-c.done
}

// PID returns the process's id.
func (c *Child) PID() int { return c.cmd.Process.Pid }
