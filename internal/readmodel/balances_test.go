package readmodel_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
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

// row is a row of the read model as text, without the columns that depend on the clock.
type row struct {
	ID                                                    uuid.UUID
	Owner, Currency, Status, Deposited, Withdrawn         string
	Balance, Overdraft, Version, Position, OpenedPosition int64
	OpenedAt, UpdatedAt                                   time.Time
	ClosedAt                                              *time.Time
}

func rows(t failer, pool *pgxpool.Pool) []row {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select account_id, owner, currency, status, deposited::text, withdrawn::text, balance,
overdraft_limit, version, position, opened_position, opened_at, updated_at, closed_at from balances where generation = 1 order by account_id`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatalf("rows: %v", err)
	}
	return all
}

func TestBalances(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	open := account.AccountCreated{Owner: "Zoë | \"Ω\"", Currency: eur, OverdraftLimit: 0}
	beyond := new(big.Int).Mul(big.NewInt(most), big.NewInt(3)).String()
	twice := new(big.Int).Mul(big.NewInt(most), big.NewInt(2)).String()
	in, out := account.MoneyDeposited{Amount: cents(most)}, account.MoneyWithdrawn{Amount: cents(most)}
	tests := []struct {
		name   string
		events []account.Event
		want   row
	}{
		{
			"opened",
			[]account.Event{account.AccountCreated{Owner: "a", Currency: eur, OverdraftLimit: 700}},
			row{Owner: "a", Status: "active", Overdraft: 700, Deposited: "0", Withdrawn: "0"},
		},
		{
			"deposited",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1234)}},
			row{Status: "active", Balance: 1234, Deposited: "1234", Withdrawn: "0"},
		},
		{
			"withdrawn",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1234)}, account.MoneyWithdrawn{Amount: cents(34)}},
			row{Status: "active", Balance: 1200, Deposited: "1234", Withdrawn: "34"},
		},
		{
			"overdrawn",
			[]account.Event{account.AccountCreated{Owner: "a", Currency: eur, OverdraftLimit: 700}, account.MoneyWithdrawn{Amount: cents(700)}},
			row{Owner: "a", Status: "active", Overdraft: 700, Balance: -700, Deposited: "0", Withdrawn: "700"},
		},
		{
			"received",
			[]account.Event{open, account.TransferReceived{TransferID: first, From: second, Amount: cents(5)}},
			row{Status: "active", Balance: 5, Deposited: "5", Withdrawn: "0"},
		},
		{
			"sent",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(5)}, account.TransferSent{TransferID: first, To: second, Amount: cents(5)}},
			row{Status: "active", Balance: 0, Deposited: "5", Withdrawn: "5"},
		},
		{
			"suspended",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(5)}, account.AccountSuspended{Reason: "r"}},
			row{Status: "suspended", Balance: 5, Deposited: "5", Withdrawn: "0"},
		},
		{
			"reactivated",
			[]account.Event{open, account.AccountSuspended{}, account.AccountReactivated{}, account.MoneyDeposited{Amount: cents(5)}},
			row{Status: "active", Balance: 5, Deposited: "5", Withdrawn: "0"},
		},
		{
			"closed",
			[]account.Event{open, account.AccountSuspended{}, account.AccountClosed{Reason: "r"}},
			row{Status: "closed", Deposited: "0", Withdrawn: "0", ClosedAt: new(time.Time)},
		},
		{
			"sums beyond 64 bits",
			[]account.Event{open, in, out, in, out, in},
			row{Status: "active", Balance: most, Deposited: beyond, Withdrawn: twice},
		},
		{
			"a change beyond 64 bits",
			[]account.Event{
				account.AccountCreated{Owner: "a", Currency: eur, OverdraftLimit: most},
				out,
				account.MoneyDeposited{Amount: cents(most)},
				account.MoneyWithdrawn{Amount: cents(1)},
			},
			row{Owner: "a", Status: "active", Overdraft: most, Balance: -1, Deposited: fmt.Sprint(int64(most)), Withdrawn: "9223372036854775808"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			all := make([]accountEvent, len(tt.events))
			for i, e := range tt.events {
				all[i] = accountEvent{first, e}
			}
			at := appendAll(t, pool, all)
			want := tt.want
			want.ID, want.Currency, want.OpenedPosition, want.OpenedAt, want.UpdatedAt = first, "EUR", 1, at, at
			want.Version, want.Position = int64(len(all)), int64(len(all))
			if want.Owner == "" {
				want.Owner = open.Owner
			}
			if want.ClosedAt != nil {
				want.ClosedAt = &at
			}
			for batch := 1; batch <= len(all); batch++ {
				if st := project(t, pool, readmodel.Balances(), batch); st.State != "running" || st.Position != int64(len(all)) {
					t.Fatalf("batches of %d: %+v", batch, st)
				}
				if diff := cmp.Diff([]row{want}, rows(t, pool)); diff != "" {
					t.Errorf("batches of %d (-want +got):\n%s", batch, diff)
				}
			}
		})
	}
}

// TestBalancesRefuse applies impossible histories: whatever the batch, all events before the impossible one are applied, and
// it is reported.
func TestBalancesRefuse(t *testing.T) {
	t.Parallel()
	open := account.AccountCreated{Owner: "a", Currency: eur}
	tests := []struct {
		name   string
		events []account.Event
		damage string // done to the log, by hand
		at     int64
		says   string
	}{
		{"never opened", []account.Event{account.MoneyDeposited{Amount: cents(1)}}, "", 1, "not at the version"},
		{"opened again", []account.Event{open, account.MoneyDeposited{Amount: cents(1)}, open}, "", 3, "opened by its event 3"},
		{
			"a version left out",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1)}, account.MoneyDeposited{Amount: cents(1)}},
			`update events set version = 7 where position = 3`, 3, "version",
		},
		{
			"a balance beyond 64 bits",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(math.MaxInt64)}, account.MoneyDeposited{Amount: cents(1)}},
			"", 3, "out of range",
		},
		{
			"a payload that is damaged",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(5)}},
			`update events set payload = '{"amount": "5", "currency": "EUR"}' where position = 2`, 2, "amount",
		},
		{
			"a newer schema",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(5)}},
			`update events set schema_version = 99 where position = 2`, 2, "unknown schema version 99",
		},
	}
	for _, tt := range tests {
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
				st := project(t, pool, readmodel.Balances(), batch)
				if at, why := refused(t, pool, st); at != tt.at || !strings.Contains(why, tt.says) {
					t.Errorf("batches of %d: at %d, %s", batch, at, why)
				}
				if got := rows(t, pool); len(got) != int(min(tt.at-1, 1)) || len(got) == 1 && got[0].Version != tt.at-1 {
					t.Errorf("batches of %d: %+v", batch, got)
				}
			}
		})
	}
}

// TestBatchOfManyAccounts has batches touch more accounts than a statement takes.
func TestBatchOfManyAccounts(t *testing.T) {
	t.Parallel()
	const accounts = 4_500
	pool := pgtest.New(t)
	var all []accountEvent
	for range accounts {
		all = append(all, accountEvent{uuid.New(), account.AccountCreated{Owner: "a", Currency: eur}})
	}
	for i := range accounts {
		all = append(all, accountEvent{all[i].id, account.MoneyDeposited{Amount: cents(int64(i) + 1)}})
	}
	appendAll(t, pool, all)
	for _, batch := range []int{2 * accounts, accounts} {
		if st := project(t, pool, readmodel.Balances(), batch); st.State != "running" {
			t.Fatalf("batches of %d: %+v", batch, st)
		}
		balances := make(map[uuid.UUID]int64)
		for _, r := range rows(t, pool) {
			balances[r.ID] = r.Balance
		}
		for i := range accounts {
			if got := balances[all[i].id]; got != int64(i)+1 {
				t.Fatalf("batches of %d: account %d has %d", batch, i, got)
			}
		}
	}
}

// TestBalancesWhateverTheBatch checks random histories of several accounts against the domain's Evolve: the rows do not
// depend on the size of the batches.
func TestBalancesWhateverTheBatch(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ids := []uuid.UUID{first, second, uuid.MustParse("00000000-0000-4000-8000-000000000003")}
	rapid.Check(t, func(t *rapid.T) {
		if _, err := pool.Exec(t.Context(), `truncate events, idempotency_keys`); err != nil {
			t.Fatalf("truncate: %v", err)
		}
		states := make(map[uuid.UUID]account.State)
		var all []accountEvent
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			id := rapid.SampledFrom(ids).Draw(t, "account")
			e := anyEvent(t, states[id])
			next, err := account.Evolve(states[id], e)
			if err != nil {
				continue // the domain would not have let it happen
			}
			states[id] = next
			all = append(all, accountEvent{id, e})
		}
		appendAll(t, pool, all)
		var want []row
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			if st := project(t, pool, readmodel.Balances(), batch); st.State != "running" {
				t.Fatalf("batches of %d: %+v", batch, st)
			}
			got := rows(t, pool)
			if want == nil {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("batches of %d (-one by one +got):\n%s", batch, diff)
			}
		}
		if len(want) != len(states) {
			t.Fatalf("%d rows for %d accounts", len(want), len(states))
		}
		for _, r := range want {
			s := states[r.ID]
			if r.Balance != s.Balance || r.Status != s.Status.String() || r.Owner != s.Owner || r.Overdraft != s.OverdraftLimit {
				t.Fatalf("row %+v, state %+v", r, s)
			}
		}
	})
}

// anyEvent draws an event for an account, which may be impossible in its state.
func anyEvent(t *rapid.T, s account.State) account.Event {
	if !s.Exists() {
		return account.AccountCreated{
			Owner: rapid.SampledFrom([]string{"a", "ö|", "'; --"}).Draw(t, "owner"), Currency: eur,
			OverdraftLimit: rapid.Int64Range(0, 100).Draw(t, "limit"),
		}
	}
	amount := cents(rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Just(int64(math.MaxInt64-100))).Draw(t, "amount"))
	return rapid.SampledFrom([]account.Event{
		account.MoneyDeposited{Amount: amount},
		account.MoneyWithdrawn{Amount: amount},
		account.TransferSent{TransferID: first, To: second, Amount: amount},
		account.TransferReceived{TransferID: first, From: second, Amount: amount},
		account.AccountSuspended{},
		account.AccountReactivated{},
		account.AccountClosed{},
	}).Draw(t, "event")
}
