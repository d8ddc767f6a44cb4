package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"passbook/test/faults/internal/load"
	"passbook/test/faults/internal/oracle"
	"passbook/test/faults/internal/world"
)

// fight runs clients of two instances of one database, which compete for the same few accounts while instances are killed.
type fight struct {
	name string
	// clients is how many each instance has, and lines how many deposits a client sends at a time.
	clients, lines int
	// between is how many commands must be acknowledged between two kills.
	between int64
	// mixed has them send commands of all kinds, holds, captures and reversals among them, and not deposits alone.
	mixed bool
}

var fights = []fight{
	{name: "streams-at-both", clients: 3, lines: 1000, between: 6_000},
	{name: "singles-at-both", clients: 400, lines: 1, between: 2_000},
	{name: "ledgers-at-both", clients: 40, lines: 1, between: 1_500, mixed: true},
}

const (
	fightAccounts = 20
	// fightTime is how long a fight lasts; shortFightTime is for the short form.
	fightTime      = 30 * time.Second
	shortFightTime = 6 * time.Second
	// answerLimit and commandLimit are limits of a Crowd: eight hundred clients share a processor with the instances.
	answerLimit  = 20 * time.Second
	commandLimit = 60 * time.Second
)

// fightAll runs the fights one after another, each in its own world.
func (s *suite) fightAll(ctx context.Context) error {
	var chosen []fight
	for _, f := range fights {
		if s.only == "" || slices.Contains(strings.Split(s.only, ","), f.name) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	c, err := s.cluster(ctx, "fights")
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop(syscall.SIGQUIT) }()
	for i, f := range chosen {
		w, err := world.New(ctx, c, world.Options{
			Server: s.server, Dir: filepath.Dir(c.Data), Name: fmt.Sprintf("fight%d", i), Seed: s.seed,
			Load: load.Config{Accounts: fightAccounts},
		})
		if err != nil {
			return err
		}
		err = s.fight(ctx, w, f)
		w.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return ctx.Err()
}

// fight starts the clients, kills instances, and calls the oracle once every command is settled.
func (s *suite) fight(ctx context.Context, w *world.World, f fight) error {
	crowd := load.Crowd{Clients: f.clients, Lines: f.lines, AnswerLimit: answerLimit, CommandLimit: commandLimit, Mixed: f.mixed}
	for _, server := range w.Servers {
		crowd.Bases = append(crowd.Bases, server.Direct())
	}
	began := time.Now()
	w.Load.StartCrowd(crowd)
	kills, err := s.killDuring(ctx, w, f)
	if err != nil {
		return err
	}
	longer := commandLimit + answerLimit
	if len(w.Violations()) > 0 {
		longer = time.Second
	}
	finish, cancel := context.WithTimeout(ctx, longer)
	w.Load.Finish(finish)
	cancel()
	took := time.Since(began)
	if err := w.Heal(ctx); err != nil {
		return err
	}
	events, err := w.Check(ctx)
	if err != nil {
		return err
	}
	violations := w.Violations()
	s.sayViolations(violations)
	s.say("%-60s %4.1f s, %5d kills, %6d commands acknowledged, %6d events, violations: %d", f.name, took.Seconds(), kills,
		w.Load.Acknowledged(), events, len(violations))
	if len(violations) > 0 {
		s.failed = append(s.failed, fmt.Sprintf("violations in %s: %d (seed %d)", f.name, len(violations), s.seed))
	}
	return nil
}

// killDuring repeatedly kills one instance or both, each time after enough commands were acknowledged since the last kill.
func (s *suite) killDuring(ctx context.Context, w *world.World, f fight) (kills int, err error) {
	rng := rand.New(rand.NewPCG(s.seed, 1<<33))
	lasts := fightTime
	if s.short {
		lasts = shortFightTime
	}
	for end := time.Now().Add(lasts); ; {
		enough := w.Load.Acknowledged() + f.between
		err := eventually(ctx, fmt.Sprintf("%d more commands are acknowledged", f.between), func() (bool, error) {
			return w.Load.Acknowledged() >= enough || len(w.Violations()) > 0 || time.Now().After(end), nil
		})
		if err != nil {
			return kills, err
		}
		if time.Now().After(end) || len(w.Violations()) > 0 {
			return kills, nil
		}
		victims := w.Servers
		if rng.IntN(4) > 0 {
			victims = []*world.Server{some(rng, w)}
		}
		for _, v := range victims {
			if err := v.Stop(syscall.SIGKILL); err != nil {
				return kills, err
			}
			kills++
		}
		for _, v := range victims {
			if err := v.Start(); err != nil {
				return kills, err
			}
		}
		for _, v := range victims {
			ready, cancel := context.WithTimeout(ctx, waitLimit)
			err := v.Ready(ready)
			cancel()
			if err != nil {
				w.Report(oracle.Violation{Invariant: "healing", Detail: err.Error()})
			}
		}
	}
}
