// Package demo demonstrates over HTTP what Passbook does, on a real server with a private PostgreSQL in a temporary
// directory. It prints each step and compares every response with the expected one.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Config configures the demonstration. All fields but Out and Binary may be empty.
type Config struct {
	// Binary is the server to run, also for its command verify.
	Binary string
	// PgBin is the directory of initdb and postgres; if empty, they are searched for.
	PgBin string
	// Out gets the output: text, or with JSON one object per step.
	Out          io.Writer
	JSON, Colour bool
	// Pause is how long to stop before each step, for a reader.
	Pause time.Duration
	// Deposits is how many deposits to make before the replays, so that they have work to do.
	Deposits int
	// Keep leaves the database in its directory afterwards.
	Keep bool
}

// ErrExpectation means that a response was not as expected.
var ErrExpectation = errors.New("not as expected")

// Run runs all steps, and stops with an error at the first that fails or meets something unexpected. It leaves nothing
// running, and the directory only with Keep.
func Run(ctx context.Context, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "passbook-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	out := &reader{w: cfg.Out, left: leave}
	defer func() {
		if out.err != nil { // the cause of any other error
			err = fmt.Errorf("demo: the output was closed: %w", out.err)
		}
	}()
	stage := &stage{dir: dir, binary: cfg.Binary, pgBin: cfg.PgBin}
	show := &presenter{out: out, json: cfg.JSON, colour: cfg.Colour}
	defer func() {
		err = errors.Join(err, stage.close())
		if cfg.Keep {
			show.kept(dir, cfg.Binary)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	// As root, PostgreSQL runs as another user, who must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the database in it has its own directory
		return fmt.Errorf("demo: %w", err)
	}
	w := &walk{stage: stage, deposits: cfg.Deposits}
	defer w.close()
	for i, one := range w.steps() {
		if i > 0 && cfg.Pause > 0 {
			if err := pause(ctx, cfg.Pause); err != nil {
				return err
			}
		}
		s := &step{Step: i + 1, Title: one.title, About: one.about}
		show.begin(s)
		began := time.Now()
		err := one.do(ctx, s, show)
		s.Seconds = time.Since(began).Seconds()
		s.OK = err == nil && s.held()
		if err != nil {
			s.Error = err.Error()
		}
		show.end(s)
		switch {
		case err != nil:
			return fmt.Errorf("demo: step %d, %s: %w", s.Step, s.Title, err)
		case !s.OK:
			return fmt.Errorf("demo: step %d, %s: %w", s.Step, s.Title, ErrExpectation)
		}
	}
	show.over(len(w.steps()))
	return nil
}

// reader is the writer of the output. When the output is closed, the demonstration ends.
type reader struct {
	w    io.Writer
	left func()
	err  error
}

func (r *reader) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
		r.left()
	}
	return n, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until polls a condition until it is true, and fails at a limit that only a bug reaches.
func until(ctx context.Context, what string, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		yes, err := so(ctx)
		if err != nil || yes {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
	}
}
