package localpg

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that ends when this process does, however that ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // what Wait returned; read only after done
}

// startProcess starts cmd, to be sent deathSignal when this process ends without having stopped it. That signal is
// bound to the thread that started the child and not to the process (prctl(2), PR_SET_PDEATHSIG), so one goroutine
// holds its thread from before the start until the child is gone.
func startProcess(cmd *exec.Cmd, deathSignal syscall.Signal) (*process, error) {
	setDeathSignal(cmd.SysProcAttr, deathSignal)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run owns the thread. It never unlocks it: the runtime ends a locked thread together with its goroutine.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
