package archive_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/archive"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/postgres"
)

// TestDetachUnderLoad has two instances pay into the same accounts while partitions are exported, detached and attached again: nothing is
// lost, and every account has what was paid in.
func TestDetachUnderLoad(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	eur, _ := money.LookupCurrency("EUR")
	first, _ := serve(t, b.log)
	second, _ := serve(t, eventstore.New(newPool(t, b.url)))
	for range 5 {
		id := uuid.New()
		b.accounts = append(b.accounts, id)
		if _, err := first.Do(t.Context(), command.Request{AccountID: id, Command: account.Open{Owner: "Ada", Currency: eur}}); err != nil {
			t.Fatal(err)
		}
	}
	var paid atomic.Int64
	var payers sync.WaitGroup
	// Each turn is a batch of ten. The work on the archive gives turns as it goes on, so that it has company and does not fall behind.
	turns := make(chan struct{}, 1000)
	for _, s := range []*command.Service{first, second} {
		payers.Go(func() {
			for range turns {
				requests := make([]command.Request, 10)
				for i := range requests {
					requests[i] = command.Request{AccountID: b.accounts[i%5], Command: account.Deposit{Amount: amount(1)}}
				}
				for _, o := range s.DoEach(t.Context(), requests) {
					if o.Err == nil {
						paid.Add(1)
					} else if !postgres.IsUnavailable(o.Err) {
						t.Error(o.Err)
					}
				}
				if _, err := b.pool.Exec(t.Context(), "select extend_log(100)"); err != nil {
					t.Log(err) // it waits for locks for 5 s at most, and may be repeated
				}
			}
		})
	}
	o, steps := options, 0
	o.Progress = func(string, archive.Partition, int64) {
		if steps++; steps%50 == 0 {
			turns <- struct{}{}
		}
	}
	detached, loaded := 0, 0
	for round := range 3 {
		for range 20 {
			turns <- struct{}{}
		}
		waitFor(t, "the turns are taken", func() bool { return len(turns) == 0 })
		b.applied(t)
		if _, err := archive.Export(t.Context(), b.pool, dir, o.Progress); err != nil {
			t.Fatal(err)
		}
		o.Drop, o.To = round%2 == 0, 0
		detached += len(b.detach(t, dir, o))
		if round%2 == 0 {
			o.To = 101
		}
		for _, a := range b.attach(t, dir, o) {
			if a.Loaded {
				loaded++
			}
		}
	}
	close(turns)
	payers.Wait()
	b.attach(t, dir, options)
	var events, last, deposits int64
	if err := b.pool.QueryRow(t.Context(), `select count(*), max(position), count(*) filter (where type = 'MoneyDeposited') from events`).Scan(&events, &last, &deposits); err != nil {
		t.Fatal(err)
	}
	if events != last || deposits < paid.Load() || detached < 6 || loaded == 0 {
		t.Errorf("%d events up to position %d; %d deposits, %d acknowledged; %d times detached, %d loaded", events, last, deposits, paid.Load(), detached, loaded)
	}
	b.addUp(t, deposits)
	b.begins(t, 1)
}

// addUp asserts that the accounts have so many cents: a withdrawal of all is possible, and not of a cent more.
func (b *books) addUp(t *testing.T, cents int64) {
	t.Helper()
	s, _ := serve(t, b.log)
	sum := int64(0)
	for _, id := range b.accounts {
		result, err := s.Do(t.Context(), command.Request{AccountID: id, Command: account.Deposit{Amount: amount(1)}, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		sum += result.After.Balance - 1
	}
	if sum != cents {
		t.Errorf("the accounts have %d cents, %d were paid in", sum, cents)
	}
}

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}
