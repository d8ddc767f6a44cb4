package readmodel_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/pgtest"
	"passbook/internal/readmodel"
)

// countedAccounts is the number of accounts by status, with the ids of the suspended ones.
type countedAccounts struct {
	Opened, Suspended, Closed int64
	IDs                       []uuid.UUID
}

func statsAccounts(t failer, pool *pgxpool.Pool) (got countedAccounts) {
	t.Helper()
	err := pool.QueryRow(context.Background(), `select coalesce(sum(opened), 0)::bigint, coalesce(sum(suspended), 0)::bigint,
coalesce(sum(closed), 0)::bigint, (select coalesce(array_agg(account_id order by account_id), '{}') from stats_suspended where generation = 1)
from stats_accounts where generation = 1`).Scan(&got.Opened, &got.Suspended, &got.Closed, &got.IDs)
	if err != nil {
		t.Fatalf("stats of accounts: %v", err)
	}
	return got
}

// TestStatsCountsAccounts folds random histories in batches of several sizes.
func TestStatsCountsAccounts(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, states := history(t, 40)
		appendAll(t, pool, all)
		want := countedAccounts{IDs: []uuid.UUID{}}
		for _, id := range []uuid.UUID{first, second, third, fourth} { // in order
			switch states[id].Status {
			case account.Suspended:
				want.Suspended++
				want.IDs = append(want.IDs, id)
			case account.Closed:
				want.Closed++
			}
			if states[id].Exists() {
				want.Opened++
			}
		}
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			project(t, pool, readmodel.Stats(), batch)
			if diff := cmp.Diff(want, statsAccounts(t, pool)); diff != "" {
				t.Fatalf("batches of %d (-want +got):\n%s", batch, diff)
			}
		}
	})
}

// countedSecond is a row of stats_seconds.
type countedSecond struct {
	Slot                      int16
	Currency                  string
	Second, Events, Movements int64
	Amount                    string
}

// TestStatsKeepsRecentSeconds records two movements a second for two minutes. Whatever the batch size, each slot must have only its
// newest second.
func TestStatsKeepsRecentSeconds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const (
		begin   = 1_800_000_000
		seconds = 120
		most    = "9223372036854775807"
	)
	_, err := pool.Exec(t.Context(), `insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select 1, $1::uuid, 1, gen_random_uuid(), 'AccountCreated', 1, '{"owner": "o", "currency": "EUR", "overdraft_limit": 0}'::jsonb, '{}'::jsonb, to_timestamp($2::int)
union all
select n + 1, $1::uuid, n + 1, gen_random_uuid(), case n % 2 when 0 then 'MoneyDeposited' else 'MoneyWithdrawn' end, 1,
    '{"amount": `+most+`, "currency": "EUR"}'::jsonb, '{}'::jsonb, to_timestamp($2::int + n / 2)
from generate_series(1, $3) as n`, first, begin, 2*seconds)
	if err != nil {
		t.Fatal(err)
	}
	var want []countedSecond
	for slot := range int64(64) {
		one := countedSecond{Slot: int16(slot), Currency: "EUR", Events: 2, Movements: 2, Amount: "18446744073709551614"}
		for one.Second = begin + seconds; one.Second%64 != slot; {
			one.Second--
		}
		if one.Second == begin+seconds { // it has only begun
			one.Events, one.Movements, one.Amount = 1, 1, most
		}
		want = append(want, one)
		if slot == begin%64 {
			want = append(want[:len(want)-1], countedSecond{Slot: int16(slot), Second: begin, Events: 1, Amount: "0"}, one)
		}
	}
	for _, batch := range []int{1, 2, 7, 1000} {
		project(t, pool, readmodel.Stats(), batch)
		rows, _ := pool.Query(t.Context(), `select slot, currency, second, events, movements, amount::text from stats_seconds
where generation = 1 order by slot, currency`)
		got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[countedSecond])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("batches of %d (-want +got):\n%s", batch, diff)
		}
	}
}

// TestStatsCountsReversalsOnce records each kind of reversal in one second. The money of a reversed transfer must count once.
func TestStatsCountsReversalsOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	back := func(position, minor int64, transfer uuid.UUID) account.Reversal {
		return account.Reversal{ReversedPosition: position, Amount: cents(minor), TransferID: transfer}
	}
	appendAll(t, pool, []accountEvent{
		{first, account.AccountCreated{Owner: "a", Currency: eur}},                             // 1
		{fourth, account.AccountCreated{Owner: "b", Currency: eur}},                            // 2
		{first, account.MoneyDeposited{Amount: cents(1)}},                                      // 3
		{first, account.MoneyWithdrawn{Amount: cents(10)}},                                     // 4
		{first, account.TransferSent{TransferID: third, To: fourth, Amount: cents(100)}},       // 5
		{fourth, account.TransferReceived{TransferID: third, From: first, Amount: cents(100)}}, // 6
		{first, account.CreditReversed{Reversal: back(3, 1_000, uuid.Nil)}},
		{first, account.DebitReversed{Reversal: back(4, 10_000, uuid.Nil)}},
		{first, account.DebitReversed{Reversal: back(5, 100_000, third)}},
		{fourth, account.CreditReversed{Reversal: back(6, 100_000, third)}},
		{first, account.HoldPlaced{HoldID: third, Amount: cents(1)}},
		{first, account.OwnerChanged{Owner: "c"}},
	})
	project(t, pool, readmodel.Stats(), 5)
	got := make(map[string]countedSecond)
	rows, _ := pool.Query(t.Context(), `select 0::smallint, currency, 0::bigint, events, movements, amount::text from stats_seconds where generation = 1`)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[countedSecond])
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		got[one.Currency] = one
	}
	want := map[string]countedSecond{
		"": {Events: 6, Amount: "0"}, "EUR": {Currency: "EUR", Events: 6, Movements: 6, Amount: "111111"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
