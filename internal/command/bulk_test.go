package command_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestTwoInstancesUnderBulkLoad has three callers at each of two instances send thousands of deposits into the same few accounts,
// beside hundreds of single commands: all of them are answered, and each is in the log once.
func TestTwoInstancesUnderBulkLoad(t *testing.T) {
	t.Parallel()
	const bulks, chunk, singles = 3, 1000, 100
	url := pgtest.URL(t)
	pool := newPool(t, url)
	services := []*command.Service{start(t, pool), second(t, url)}
	ids := make([]uuid.UUID, 20)
	for i := range ids {
		ids[i] = open(t, services[i%2], "0")
	}
	var group errgroup.Group
	for _, s := range services {
		for b := range bulks {
			group.Go(func() error {
				for range 3 {
					requests := make([]command.Request, chunk)
					for i := range requests {
						requests[i] = deposit(ids[(i+b)%len(ids)], "0.01")
					}
					for _, outcome := range s.DoEach(t.Context(), requests) {
						if outcome.Err != nil {
							return outcome.Err
						}
					}
				}
				return nil
			})
		}
		for i := range singles {
			group.Go(func() error {
				for range 5 {
					if _, err := s.Do(t.Context(), keyed(deposit(ids[i%len(ids)], "0.01"))); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if log := checkLog(t, pool); len(log.events) != 20+2*(bulks*3*chunk+singles*5) {
		t.Errorf("the log has %d events", len(log.events))
	}
}

// TestSingleCommandsGoFirst queues a single command behind thousands of bulk ones while an append is blocked.
func TestSingleCommandsGoFirst(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "0")
	release := holdLock(t, pool)
	plug := blockAppend(t, pool, s)
	var bulks []<-chan []command.Outcome
	for range 3 {
		requests := make([]command.Request, 2000)
		for i := range requests {
			requests[i] = deposit(a, "0.01")
		}
		outcomes := make(chan []command.Outcome, 1)
		go func() { outcomes <- s.DoEach(context.Background(), requests) }()
		bulks = append(bulks, outcomes)
	}
	waitFor(t, "the bulk calls queue", func() bool { return s.Queued() == 6000 })
	single := async(t.Context(), s, withdraw(a, "0.01"))
	waitFor(t, "the single one queues", func() bool { return s.Queued() == 6001 })
	release()
	<-plug
	if got := <-single; codeOf(got.err) != account.CodeInsufficientFunds {
		t.Errorf("decided behind bulk commands: %+v", got)
	}
	last := make([]int64, 0, len(bulks))
	for _, outcomes := range bulks {
		position := int64(0)
		for i, outcome := range <-outcomes {
			if outcome.Err != nil || outcome.Result.Events[0].Position <= position {
				t.Fatalf("bulk command %d after position %d: %+v", i, position, outcome)
			}
			position = outcome.Result.Events[0].Position
		}
		last = append(last, position)
	}
	// Bulk calls take turns, so that none has to wait for all of another.
	for _, position := range last {
		if position < 6000-2000+4 {
			t.Errorf("one call was done at position %d of 6003: %v", position, last)
		}
	}
	checkLog(t, pool)
}

// TestPanicEndsTheProcess runs itself in another process, whose batcher panics while a caller waits.
func TestPanicEndsTheProcess(t *testing.T) {
	t.Parallel()
	const url = "COMMAND_PANIC_URL"
	if at := os.Getenv(url); at != "" {
		s := start(t, newPool(t, at), func(c *command.Config) { c.Settled = func(account.Command, bool, error) { panic("on purpose") } })
		_, err := s.Do(t.Context(), request(uuid.New(), account.Open{Owner: "Ada", Currency: eur}))
		t.Fatalf("the caller got an answer: %v", err)
	}
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanicEndsTheProcess$", "-test.timeout=1m")
	run.Env = append(os.Environ(), fmt.Sprintf("%s=%s", url, pgtest.URL(t)))
	out, err := run.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); !ended || !strings.Contains(string(out), "panic: on purpose") ||
		strings.Contains(string(out), "test timed out") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStalled calls Stalled on a service that starts, runs, and has stopped.
func TestStalled(t *testing.T) {
	t.Parallel()
	s, stop := startStoppable(t, pgtest.New(t))
	waitFor(t, "the service to run", func() bool { return s.Stalled() == nil })
	open(t, s, "1")
	if err := s.Stalled(); err != nil {
		t.Errorf("while running: %v", err)
	}
	stop()
	if s.Stalled() == nil {
		t.Error("a stopped service is not stalled")
	}
}
