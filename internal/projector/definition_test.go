package projector_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/projector"
	"passbook/internal/projector/memory"
)

type countFold struct{ events map[string]int } // nil, so that writing to it panics

func (*countFold) Flush(context.Context, pgx.Tx, int64) error { return nil }

type tally map[string]int

// Apply implements memory.Fold.
func (tally) Apply(map[string]int) {}

type otherFold struct{ countFold }

func counts() *projector.Projection {
	return projector.Define("counts", 1, []string{"counts"}, func() projector.Fold { return new(countFold) })
}

// TestDefinitionsThatCannotWork sees each of them refused where it is written, and not at the first event.
func TestDefinitionsThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		define func()
		want   string
	}{
		"a handler for a pointer": {func() {
			projector.On(counts(), func(*countFold, projector.Event, *account.MoneyDeposited) error { return nil })
		}, `projection "counts": no event is a *account.MoneyDeposited: events are values, such as account.MoneyDeposited`},
		"a handler for an interface": {func() {
			projector.On(counts(), func(*countFold, projector.Event, account.Event) error { return nil })
		}, `projection "counts": no event is an account.Event: each type of event takes a handler of its own`},
		"a handler for another fold": {func() {
			projector.On(counts(), func(*otherFold, projector.Event, account.MoneyDeposited) error { return nil })
		}, `projection "counts": the handler of account.MoneyDeposited takes a *projector_test.otherFold, and is given a *projector_test.countFold`},
		"a handler for another fold of a store": {func() {
			p := memory.Define(memory.New(func() map[string]int { return nil }), "tally", 1, func() tally { return nil })
			projector.On(p, func(map[string]int, projector.Event, account.MoneyDeposited) error { return nil })
		}, `projection "tally": the handler of account.MoneyDeposited takes a map[string]int, and is given a projector_test.tally`},
		"no store": {func() {
			projector.DefineIn(nil, "tally", 1, func() any { return tally{} })
		}, `projection "tally": it takes a store, and a function that makes a fold`},
		"two handlers for one type": {func() {
			p := counts()
			for range 2 {
				projector.On(p, func(*countFold, projector.Event, account.MoneyDeposited) error { return nil })
			}
		}, `projection "counts": account.MoneyDeposited has two handlers`},
		"no handler": {func() {
			projector.On[account.MoneyDeposited, *countFold](counts(), nil)
		}, `projection "counts": the handler of account.MoneyDeposited is nil`},
		"no id": {func() {
			projector.Define("", 1, []string{"counts"}, func() projector.Fold { return new(countFold) })
		}, `projection "": an id has lower-case letters, digits and _`},
		"an id that no URL has": {func() {
			projector.Define("a/b", 1, []string{"counts"}, func() projector.Fold { return new(countFold) })
		}, `projection "a/b": an id has lower-case letters, digits and _`},
		"no version": {func() {
			projector.Define("counts", 0, []string{"counts"}, func() projector.Fold { return new(countFold) })
		}, `projection "counts": versions count from 1`},
		"no fold": {func() {
			projector.Define("counts", 1, []string{"counts"}, nil)
		}, `projection "counts": it takes a function that makes a fold`},
		"a nil fold": {func() {
			projector.Define("counts", 1, []string{"counts"}, func() projector.Fold { return nil })
		}, `projection "counts": it takes a function that makes a fold`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				got, _ := recover().(string)
				if got != "projector: "+c.want {
					t.Errorf("panic: %q\nwant   %q", got, "projector: "+c.want)
				}
			}()
			c.define()
		})
	}
}

// TestHandlerForAnInterfaceOfFolds sees a handler take whatever its fold can be used as.
func TestHandlerForAnInterfaceOfFolds(t *testing.T) {
	t.Parallel()
	projector.On(counts(), func(projector.Fold, projector.Event, account.MoneyDeposited) error { return nil })
}

// TestPanicIsReportedInOneLine sees a handler's panic become an error that says where it was, without a page of frames.
func TestPanicIsReportedInOneLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 77, 1).append(t, 3)
	p := projector.Define("counts", 1, nil, func() projector.Fold { return new(countFold) })
	projector.On(p, func(f *countFold, _ projector.Event, _ account.AccountCreated) error {
		f.events["opened"]++
		return nil
	})
	e := newEngine(t, f.config("one"), p)
	start(t, e)
	var all []projector.Failure
	eventually(t, "its stream is parked", func() bool {
		all, _ = e.Failures(t.Context(), "counts", 0, 10)
		return len(all) == 1
	})
	const want = "counts: panic: assignment to entry in nil map, at definition_test.go:"
	if got := all[0].Error; !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
		t.Errorf("the failure: %q, want %q and a line", got, want)
	}
}
