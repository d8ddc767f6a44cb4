package readmodel_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/pgtest"
	"passbook/internal/readmodel"
)

// line is a row of transactions.
type line struct {
	ID                                 uuid.UUID
	Position, Version, Amount, Balance int64
	RecordedAt                         time.Time
	Counterparty, TransferID           *uuid.UUID
	Kind, Status, Reference            string
}

func lines(t failer, pool *pgxpool.Pool) []line {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select account_id, position, version, amount, balance, recorded_at, counterparty,
transfer_id, kind::text, status::text, reference from transactions where generation = 1 order by position`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[line])
	if err != nil {
		t.Fatalf("lines: %v", err)
	}
	return all
}

// fold returns the expected rows of a history, by the domain's Evolve.
func fold(t failer, all []accountEvent, at time.Time) []line {
	states, versions := make(map[uuid.UUID]account.State), make(map[uuid.UUID]int64)
	var want []line
	for i, h := range all {
		next, err := account.Evolve(states[h.id], h.event)
		if err != nil {
			t.Fatalf("evolve: %v", err)
		}
		states[h.id] = next
		versions[h.id]++
		l := line{ID: h.id, Position: int64(i + 1), Version: versions[h.id], Balance: next.Balance, RecordedAt: at, Status: next.Status.String()[:1]}
		switch e := h.event.(type) {
		case account.AccountCreated:
			l.Kind = "O"
		case account.MoneyDeposited:
			l.Kind, l.Amount, l.Reference = "d", e.Amount.Minor(), e.Reference
		case account.MoneyWithdrawn:
			l.Kind, l.Amount, l.Reference = "w", e.Amount.Minor(), e.Reference
		case account.TransferReceived:
			l.Kind, l.Amount, l.Reference, l.Counterparty, l.TransferID = "i", e.Amount.Minor(), e.Reference, &e.From, &e.TransferID
		case account.TransferSent:
			l.Kind, l.Amount, l.Reference, l.Counterparty, l.TransferID = "o", e.Amount.Minor(), e.Reference, &e.To, &e.TransferID
		case account.AccountSuspended:
			l.Kind = "S"
		case account.AccountReactivated:
			l.Kind = "R"
		case account.AccountClosed:
			l.Kind = "C"
		}
		want = append(want, l)
	}
	return want
}

// TestTransactionsAreTheFold checks every running balance of random histories, whatever the size of the batches.
func TestTransactionsAreTheFold(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, states := history(t, 40)
		want := fold(t, all, appendAll(t, pool, all))
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			if st := project(t, pool, readmodel.Transactions(), batch); st.State != "running" || st.Position != int64(len(all)) {
				t.Fatalf("batches of %d: %+v", batch, st)
			}
			if diff := cmp.Diff(want, lines(t, pool)); diff != "" {
				t.Fatalf("batches of %d (-want +got):\n%s", batch, diff)
			}
		}
		opened, _ := pool.Query(t.Context(), `select account_id, owner, currency, overdraft_limit from account_details where generation = 1`)
		accounts, err := pgx.CollectRows(opened, pgx.RowToStructByPos[struct {
			ID              uuid.UUID
			Owner, Currency string
			Limit           int64
		}])
		if err != nil || len(accounts) != len(states) {
			t.Fatalf("%d accounts of %d, %v", len(accounts), len(states), err)
		}
		for _, a := range accounts {
			if s := states[a.ID]; s.Owner != a.Owner || s.Currency.Code() != a.Currency || s.OverdraftLimit != a.Limit {
				t.Errorf("opened as %+v and not as %+v", a, s)
			}
		}
	})
}

// TestTransactionsAtTheEndsOfTheRange moves more within a batch than 64 bits hold, while each balance fits.
func TestTransactionsAtTheEndsOfTheRange(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const half = 1 << 62
	var all []accountEvent
	for _, e := range []account.Event{
		account.AccountCreated{Owner: "a", Currency: eur, OverdraftLimit: half},
		account.MoneyWithdrawn{Amount: cents(half)},
		account.MoneyDeposited{Amount: cents(math.MaxInt64)},
		account.MoneyWithdrawn{Amount: cents(math.MaxInt64)},
		account.MoneyDeposited{Amount: cents(half)},
		account.MoneyDeposited{Amount: cents(half - 1)},
	} {
		all = append(all, accountEvent{first, e})
	}
	want := fold(t, all, appendAll(t, pool, all))
	for batch := 1; batch <= len(all); batch++ {
		project(t, pool, readmodel.Transactions(), batch)
		if diff := cmp.Diff(want, lines(t, pool)); diff != "" {
			t.Errorf("batches of %d (-want +got):\n%s", batch, diff)
		}
	}
}

// TestTransactionsRefuse applies impossible histories: whatever the batch, all events before the impossible one are applied,
// and it is reported.
func TestTransactionsRefuse(t *testing.T) {
	t.Parallel()
	open := account.AccountCreated{Owner: "a", Currency: eur}
	for _, tt := range []struct {
		name   string
		events []account.Event
		damage string // done to the log, by hand
		at     int64
		says   string
	}{
		{"never opened", []account.Event{account.MoneyDeposited{Amount: cents(1)}}, "", 1, "have no row"},
		{"opened again", []account.Event{open, account.MoneyDeposited{Amount: cents(1)}, open}, "", 3, "opened by its event 3"},
		{
			"a version left out",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1)}, account.MoneyDeposited{Amount: cents(1)}},
			`update events set version = 7 where position = 3`, 3, "version",
		},
		{
			"a version given twice",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1)}, account.MoneyDeposited{Amount: cents(1)}},
			`alter table events drop constraint events_stream_version; update events set version = 2 where position = 3`, 3, "version",
		},
		{
			"a balance beyond 64 bits",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(math.MaxInt64)}, account.MoneyDeposited{Amount: cents(1)}},
			"", 3, "out of range",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			all := make([]accountEvent, len(tt.events))
			for i, e := range tt.events {
				all[i] = accountEvent{first, e}
			}
			appendAll(t, pool, all)
			if _, err := pool.Exec(t.Context(), tt.damage); err != nil {
				t.Fatal(err)
			}
			for batch := 1; batch <= len(all); batch++ {
				st := project(t, pool, readmodel.Transactions(), batch)
				if at, why := refused(t, pool, st); at != tt.at || !strings.Contains(why, tt.says) {
					t.Errorf("batches of %d: at %d, %s", batch, at, why)
				}
				if n := len(lines(t, pool)); int64(n) != tt.at-1 {
					t.Errorf("batches of %d: %d rows", batch, n)
				}
			}
		})
	}
}
