// Command faults attacks a running Passbook: real processes, a real PostgreSQL, clients that retry until every command is
// settled, and many failures at once. After each fault an oracle that shares no code with the service checks the
// invariants of the design. Before that, the command breaks the service on purpose, in every way that an invariant guards
// against, and checks that the oracle notices. docs/faults.md explains it; `make faults` builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"passbook/test/faults/internal/load"
	"passbook/test/faults/internal/oracle"
	"passbook/test/faults/internal/world"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	seed     uint64
	duration time.Duration
	short    bool
	controls bool
	only     string
	server   string
	pgBin    string
	keep     bool
}

func parse(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	o := options{pgBin: getenv("PG_BIN")}
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", 0, "random seed; 0 picks one and prints it")
	flags.DurationVar(&o.duration, "duration", 3*time.Minute, "how long to inject random faults, after each fault once")
	flags.BoolVar(&o.short, "short", false, "run for a minute: all controls, and some faults")
	flags.BoolVar(&o.controls, "controls", true, "break the service on purpose first")
	flags.StringVar(&o.only, "only", "", "faults to choose from, or with -duration 0 to run once, such as kill-server,replay")
	flags.StringVar(&o.server, "server", "bin/server", "the server's binary")
	flags.BoolVar(&o.keep, "keep", false, "keep the directory with the logs")
	err := flags.Parse(args)
	if err == nil && o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	if err == nil {
		o.server, err = filepath.Abs(o.server)
	}
	return o, err
}

// suite is one run of the command.
type suite struct {
	options
	out      io.Writer
	dir      string
	programs world.Programs
	failed   []string
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	s := &suite{options: o, out: stdout}
	if s.programs, err = world.FindPrograms(o.pgBin); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "passbook-faults-"); err != nil {
		return err
	}
	defer func() {
		if err == nil && !o.keep {
			_ = os.RemoveAll(s.dir)
		} else {
			s.say("the logs are in %s", s.dir)
		}
	}()
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return err
	}
	s.say("seed %d", o.seed)
	began := time.Now()
	if o.controls {
		if err := s.playAll(ctx); err != nil {
			return err
		}
	}
	if err := s.fightAll(ctx); err != nil {
		return err
	}
	if err := s.attack(ctx); err != nil {
		return err
	}
	s.say("took %s", time.Since(began).Round(time.Second))
	if len(s.failed) > 0 {
		return errors.New(strings.Join(s.failed, "\n"))
	}
	return nil
}

func (s *suite) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *suite) cluster(ctx context.Context, name string) (*world.Cluster, error) {
	dir := filepath.Join(s.dir, name)
	if err := errors.Join(os.Mkdir(dir, 0o711), os.Chmod(dir, 0o711)); err != nil {
		return nil, err
	}
	return world.NewCluster(ctx, s.programs, dir)
}

// playAll runs every control, a few at a time.
func (s *suite) playAll(ctx context.Context) error {
	c, err := s.cluster(ctx, "controls")
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop(syscall.SIGQUIT) }()
	all := controls()
	broken, whole := make([]verdict, len(all)), make([]verdict, len(all))
	places := make(chan struct{}, 3)
	var playing sync.WaitGroup
	place := func(v *verdict, name string, k control) {
		places <- struct{}{}
		defer func() { <-places }()
		*v = play(ctx, c, world.Options{Server: s.server, Dir: filepath.Dir(c.Data), Name: name, Seed: s.seed}, k)
	}
	for i, k := range all {
		playing.Go(func() { place(&broken[i], fmt.Sprintf("broken%d", i), k) })
		if k.rules != nil { // the others need only the load, which the faults have too
			playing.Go(func() { place(&whole[i], fmt.Sprintf("whole%d", i), k.intact()) })
		}
	}
	playing.Wait()
	caught := 0
	for i, v := range broken {
		switch {
		case v.err != nil:
			s.say("control NOT CAUGHT: %s: %v", v.name, v.err)
			s.failed = append(s.failed, "a control was not caught: "+v.name)
		case whole[i].err != nil:
			s.say("control: %s: caught, but: %v", v.name, whole[i].err)
			s.failed = append(s.failed, "a control is also caught in an unbroken service: "+v.name)
		default:
			caught++
			s.say("control caught after %4.1f s: %s (%s)", v.after.Seconds(), v.name, clip(v.caught.String()))
		}
	}
	s.say("controls caught: %d of %d", caught, len(all))
	return ctx.Err()
}

func clip(text string) string {
	if len(text) > 150 {
		return text[:150] + "…"
	}
	return text
}

// attack injects the faults into one world, one after another, and calls the oracle after each.
func (s *suite) attack(ctx context.Context) error {
	c, err := s.cluster(ctx, "main")
	if err != nil {
		return err
	}
	w, err := world.New(ctx, c, world.Options{
		Server: s.server, Dir: filepath.Dir(c.Data), Name: "passbook", Seed: s.seed,
		Load: load.Config{Accounts: 12, Clients: 8, Readers: 3, Pause: 15 * time.Millisecond, Resend: 0.05, Bulk: 0.05},
	})
	if err != nil {
		return err
	}
	defer func() {
		w.Close()
		_ = w.Cluster().Stop(syscall.SIGQUIT)
	}()
	w.Load.Start()
	rng := rand.New(rand.NewPCG(s.seed, 1<<32))
	injected := 0
	plan := s.plan(rng)
	for next := plan(); next != nil && len(w.Violations()) == 0; next = plan() {
		n, err := s.inject(ctx, w, rng, next)
		injected += n
		if err != nil {
			return err
		}
	}
	finish, cancel := context.WithTimeout(ctx, time.Minute)
	w.Load.Finish(finish)
	cancel()
	events, err := w.Check(ctx)
	if err != nil {
		return err
	}
	steps, err := w.CheckLinear(ctx)
	if err != nil {
		return err
	}
	violations := w.Violations()
	s.sayViolations(violations)
	s.say("faults injected: %d; commands acknowledged: %d; events: %d; operations checked for linearizability: %d; violations: %d",
		injected, w.Load.Acknowledged(), events, steps, len(violations))
	if len(violations) > 0 {
		s.failed = append(s.failed, fmt.Sprintf("violations: %d (seed %d)", len(violations), s.seed))
	}
	return ctx.Err()
}

// sayViolations prints the first violations.
func (s *suite) sayViolations(all []oracle.Violation) {
	for i, v := range all {
		if i < 20 {
			s.say("VIOLATION %s", v)
		}
	}
}

// plan returns the next faults: first each alone, then random pairs until the time is over. The short form has two faults
// alone, and then random ones.
func (s *suite) plan(rng *rand.Rand) func() []fault {
	var queue [][]fault
	var together []fault
	for _, f := range faults {
		if s.only != "" && !slices.Contains(strings.Split(s.only, ","), f.name) {
			continue
		}
		if !f.alone {
			together = append(together, f)
		}
		queue = append(queue, []fault{f})
	}
	rng.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
	duration := s.duration
	if s.short {
		queue = slices.DeleteFunc(queue, func(f []fault) bool { return !f[0].alone || f[0].packages })
		queue = queue[:min(2, len(queue))]
		duration = 25 * time.Second
	}
	var end time.Time
	return func() []fault {
		if len(queue) > 0 {
			next := queue[0]
			queue = queue[1:]
			return next
		}
		if end.IsZero() {
			end = time.Now().Add(duration)
		}
		if time.Now().After(end) || len(together) == 0 {
			return nil
		}
		n := 1 + rng.IntN(3)
		rng.Shuffle(len(together), func(i, j int) { together[i], together[j] = together[j], together[i] })
		return slices.Clone(together[:min(n, len(together))])
	}
}

// inject injects faults simultaneously, waits until everything works again, and calls the oracle.
func (s *suite) inject(ctx context.Context, w *world.World, rng *rand.Rand, all []fault) (int, error) {
	names := make([]string, len(all))
	errs := make([]error, len(all))
	var happening sync.WaitGroup
	before, began := w.Load.Acknowledged(), time.Now()
	for i, f := range all {
		names[i] = f.name
		own := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
		happening.Go(func() { errs[i] = f.do(ctx, w, own) })
	}
	happening.Wait()
	what := strings.Join(names, " + ")
	var skip skipped
	switch err := errors.Join(errs...); {
	case errors.As(err, &skip):
		s.say("SKIPPED %s: %v", what, skip)
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	over := time.Now()
	if err := w.Heal(ctx); err != nil {
		return 0, fmt.Errorf("after %s: %w", what, err)
	}
	healed := time.Now()
	events, err := w.Check(ctx)
	if err != nil {
		return 0, fmt.Errorf("after %s: %w", what, err)
	}
	s.say("%-60s %4.1f s, healed in %4.1f s, %5d commands meanwhile, %6d events, violations: %d", what,
		over.Sub(began).Seconds(), healed.Sub(over).Seconds(), w.Load.Acknowledged()-before, events, len(w.Violations()))
	return len(all), nil
}
