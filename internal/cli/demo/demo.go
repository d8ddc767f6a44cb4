// Package demo walks through what Passbook does, on a real server with a private PostgreSQL in a temporary directory,
// over HTTP. It says what it does and compares every response with what it should be.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Config says how the walk is shown. All fields but Out and Binary may be left empty.
type Config struct {
	// Binary is the server to run. Its command verify is run too.
	Binary string
	// PgBin is where initdb and postgres are; when empty they are looked for.
	PgBin string
	// Out is where the walk is told: as text, or with JSON as one object a step.
	Out          io.Writer
	JSON, Colour bool
	// Pause is how long to stop before each step, for a reader.
	Pause time.Duration
	// Deposits is how many to write before the replays, so that they have something to do.
	Deposits int
	// Keep leaves the database in its directory when the walk is over.
	Keep bool
}

// ErrExpectation says that a response was not what it should be.
var ErrExpectation = errors.New("not as expected")

// Run walks through all steps, stopping at the first that is not as it should be. Nothing is left running; the directory
// is left with Keep only.
func Run(ctx context.Context, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "passbook-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	out := &reader{w: cfg.Out, left: leave}
	defer func() {
		if out.err != nil { // all else has gone wrong for that reason
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
	// As root, PostgreSQL runs as another user, who has to get there.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the database in it has a directory of its own
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

// reader is who reads what is told, and may leave: then the walk is over.
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

// until asks again and again, until it is so, with a bound that only something broken reaches.
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
