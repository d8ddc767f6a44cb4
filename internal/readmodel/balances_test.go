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
	ID                                                          uuid.UUID
	Owner, Folded, Currency, Status, Deposited, Withdrawn       string
	Balance, Held, Overdraft, Version, Position, OpenedPosition int64
	OpenedAt, UpdatedAt                                         time.Time
	ClosedAt                                                    *time.Time
	Metadata                                                    map[string]string
}

func rows(t failer, pool *pgxpool.Pool) []row {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select account_id, owner, owner_folded, currency, status, deposited::text, withdrawn::text, balance,
held, overdraft_limit, version, position, opened_position, opened_at, updated_at, closed_at, metadata from balances where generation = 1 order by account_id`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatalf("rows: %v", err)
	}
	return all
}

func TestBalances(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	open := account.AccountCreated{Owner: "Zoe | \"Ω\"", Currency: eur, OverdraftLimit: 0}
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
			"a deposit reversed",
			[]account.Event{
				open,
				account.MoneyDeposited{Amount: cents(5)},
				account.MoneyDeposited{Amount: cents(7)},
				account.CreditReversed{Reversal: account.Reversal{ReversedPosition: 2, Amount: cents(5), Forced: true}},
			},
			row{Status: "active", Balance: 7, Deposited: "7", Withdrawn: "0"},
		},
		{
			"a withdrawal reversed",
			[]account.Event{
				open,
				account.MoneyDeposited{Amount: cents(5)},
				account.MoneyWithdrawn{Amount: cents(5)},
				account.DebitReversed{Reversal: account.Reversal{ReversedPosition: 3, Amount: cents(2)}},
			},
			row{Status: "active", Balance: 2, Deposited: "5", Withdrawn: "3"},
		},
		{
			"held",
			[]account.Event{
				open,
				account.MoneyDeposited{Amount: cents(50)},
				account.HoldPlaced{HoldID: first, Amount: cents(20)},
				account.HoldPlaced{HoldID: second, Amount: cents(7)},
				account.HoldPlaced{HoldID: third, Amount: cents(1)},
				account.HoldReleased{HoldID: third, Amount: cents(1)},
			},
			row{Status: "active", Balance: 50, Held: 27, Deposited: "50", Withdrawn: "0"},
		},
		{
			"captured and expired",
			[]account.Event{
				open,
				account.MoneyDeposited{Amount: cents(50)},
				account.HoldPlaced{HoldID: first, Amount: cents(20)},
				account.HoldCaptured{HoldID: first, Amount: cents(12), Released: 8},
				account.MoneyWithdrawn{Amount: cents(12)},
				account.HoldPlaced{HoldID: second, Amount: cents(7)},
				account.HoldExpired{HoldID: second, Amount: cents(7)},
			},
			row{Status: "active", Balance: 38, Deposited: "50", Withdrawn: "12"},
		},
		{
			"changed",
			[]account.Event{
				account.AccountCreated{Owner: "a", Currency: eur, Metadata: account.NewMetadata(map[string]string{"k": "v"})},
				account.MetadataChanged{},
				account.OwnerChanged{Owner: "b"},
				account.OwnerChanged{Owner: "Ö"},
				account.OverdraftLimitChanged{OverdraftLimit: 9, Currency: eur},
				account.MetadataChanged{Metadata: account.NewMetadata(map[string]string{"k": "w", "<": "ü"})},
			},
			row{
				Owner: "Ö", Folded: "o", Status: "active", Overdraft: 9, Deposited: "0", Withdrawn: "0",
				Metadata: map[string]string{"k": "w", "<": "ü"},
			},
		},
		{
			"metadata taken away",
			[]account.Event{
				account.AccountCreated{Owner: "a", Currency: eur, Metadata: account.NewMetadata(map[string]string{"k": "v"})},
				account.AccountSuspended{},
				account.MetadataChanged{},
				account.AccountReactivated{},
			},
			row{Owner: "a", Status: "active", Deposited: "0", Withdrawn: "0"},
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
			if want.Folded == "" {
				want.Folded = strings.ToLower(want.Owner)
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

// TestBalancesRefuse applies impossible histories. Whatever the batch size, it expects all events before the impossible one to be
// applied, and that one to be reported.
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

// TestBatchOfManyAccounts applies batches that touch more accounts than one statement takes.
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

// TestBalancesWhateverTheBatch checks random histories of several accounts against the domain's Evolve, for several batch sizes.
func TestBalancesWhateverTheBatch(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, states := history(t, 30)
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
			got := account.State{
				Status: statuses[r.Status], Owner: r.Owner, Currency: s.Currency, Balance: r.Balance, OverdraftLimit: r.Overdraft, Held: r.Held,
				Metadata: account.NewMetadata(r.Metadata),
			}
			s.Holds = nil
			if diff := cmp.Diff(fmt.Sprintf("%+v", s), fmt.Sprintf("%+v", got)); diff != "" {
				t.Fatalf("account %s (-state +row):\n%s", r.ID, diff)
			}
		}
	})
}

var statuses = map[string]account.Status{"active": account.Active, "suspended": account.Suspended, "closed": account.Closed}

// TestMovementsAreHeapOnlyUpdates expects that movements of money update rows without changing an index, so that the rows stay on
// their page.
func TestMovementsAreHeapOnlyUpdates(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const accounts, movements = 3, 8 // all versions of all rows fit on a page, so that none need be pruned
	var all []accountEvent
	for i := range accounts * (movements + 1) {
		if i < accounts {
			all = append(all, accountEvent{uuid.New(), account.AccountCreated{
				Owner: "Ada", Currency: eur, Metadata: account.NewMetadata(map[string]string{"k": "v"}),
			}})
		} else {
			all = append(all, accountEvent{all[i%accounts].id, account.MoneyDeposited{Amount: cents(1)}})
		}
	}
	appendAll(t, pool, all)
	if _, err := pool.Exec(t.Context(), `update events set recorded_at = recorded_at + position * interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	project(t, pool, readmodel.Balances(), accounts)
	pool.Reset() // sessions report what they have counted when they end
	var updates, hot int64
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for updates < accounts*movements {
		err := pool.QueryRow(t.Context(), `select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'balances'`).Scan(&updates, &hot)
		if err != nil {
			t.Fatal(err)
		}
		<-ticker.C
	}
	if hot != updates {
		t.Errorf("%d of %d updates are heap-only", hot, updates)
	}
}
