package query_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/query"
)

// A plan is made once, most often for a table without statistics, and kept until the table is first analyzed.
func TestAccountsAreLookedUpByTheirKey(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, stage := range []struct{ name, before string }{
		{"empty", `select 1`},
		{"filled, not analyzed", `insert into balances
select 1, gen_random_uuid(), 'owner', 'owner', 'EUR', 0, 0, 0, 0, 0, 'active', 1, n, n, now(), now() from generate_series(1, 5000) as n`},
		{"analyzed", `analyze balances`},
	} {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			stage.before, `set plan_cache_mode = force_generic_plan`,
			`prepare read_accounts (uuid[]) as ` + query.ReadAccountsSQL,
		} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		rows, _ := conn.Query(t.Context(), `explain (costs off) execute read_accounts (array[gen_random_uuid()])`, pgx.QueryExecModeSimpleProtocol)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(lines, "\n")
		if !strings.Contains(plan, "balances_pkey") || !strings.Contains(plan, "AND (account_id = k.account_id))") {
			t.Errorf("%s: accounts are not looked up by balances_pkey:\n%s", stage.name, plan)
		}
		conn.Hijack().Close(t.Context())
	}
}

// statements keeps the statements that a pool executes.
type statements struct {
	mu  sync.Mutex
	all []pgx.TraceQueryStartData
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, q)
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// crowdedSQL prepares a database for generations of crowdedGenerationSQL, which it never analyzes by itself.
const crowdedSQL = `
alter table balances set (autovacuum_enabled = false);
alter table transactions set (autovacuum_enabled = false);
alter table account_details set (autovacuum_enabled = false);
alter table holds set (autovacuum_enabled = false);
insert into projections (id, version, generation, position)
    values ('transactions', 1, 2, 30000), ('holds', 1, 2, 30000), ('balances', 1, 2, 30000);
insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select n, gen_random_uuid(), 1, gen_random_uuid(), 'x', 1, '{}', '{}', '2026-01-01Z'::timestamptz + make_interval(secs => n)
from generate_series(1, 30000) n;`

// crowdedGenerationSQL makes a generation of 30,000 movements, every second of them of one account, of 10,000 holds of that account, and
// of 10,000 open holds of another that expire, 100 at a time.
// Every second movement has one reference and one label, and each of the others has its own.
const crowdedGenerationSQL = `
insert into balances (generation, account_id, owner, owner_folded, currency, balance, held, overdraft_limit, deposited, withdrawn, status, version,
    position, opened_position, opened_at, updated_at)
select $1, lpad(n::text, 32, '0')::uuid, 'owner ' || n % 5000, 'owner ' || n % 5000, 'EUR', 0, 0, 0, 0, 0, 'active', 1, n, n, now(), now()
from generate_series(1, 10000) as n;
insert into account_details select $1, lpad(n::text, 32, '0')::uuid, 1, 'owner', 'EUR', 0 from generate_series(1, 10000) as n;
insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference, transfer_id,
    reversed_position, metadata)
select $1, n, n, now(), case n when 30 then 10000000 else 100 end, 0, 0,
    lpad((case n % 2 when 0 then 1 else 1 + n % 10000 end)::text, 32, '0')::uuid,
    (case n % 10 when 0 then 'r' when 1 then 'b' when 2 then 'o' when 3 then 'i' else 'd' end)::"char", 'a',
    case n % 2 when 0 then 'common' else 'reference ' || n end, case when n % 10 in (2, 3) then lpad((n / 10)::text, 32, '0')::uuid end,
    case when n % 10 < 2 then n - 5 end, case n % 2 when 0 then '{"common": "yes"}'::jsonb else jsonb_build_object('n', n::text) end
from generate_series(1, 30000) as n;
insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, status, placed_at, placed_position, ended_at,
    ended_position)
select $1, lpad(n::text, 32, '0')::uuid, lpad('1', 32, '0')::uuid, 1, 1, 'EUR', '', (case when n = 30 then 'o' else 'c' end)::"char", now(), n,
    now(), n + 1
from generate_series(1, 10000) as n;
insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, status, expires_at, placed_at, placed_position)
select $1, lpad(n::text, 32, '0')::uuid, lpad('2', 32, '0')::uuid, 1, 0, 'EUR', '', 'o', '2026-01-01Z'::timestamptz + make_interval(hours => n % 100),
    now(), n
from generate_series(10001, 20000) as n;`

const analyzeSQL = `analyze balances, transactions, account_details, holds;`

// TestPlans checks that each query reads few pages of a crowded generation, whatever statistics PostgreSQL has.
func TestPlans(t *testing.T) {
	t.Parallel()
	fill := func(generation int) string {
		return strings.ReplaceAll(crowdedGenerationSQL, "$1", strconv.Itoa(generation))
	}
	type stage struct{ name, before string }
	for _, stages := range [][]stage{
		{{"without statistics", crowdedSQL + fill(1) + fill(2)}},
		{{"with statistics of the generation before", crowdedSQL + fill(1) + analyzeSQL + fill(2)}, {"with statistics", analyzeSQL}},
	} {
		t.Run(stages[0].name, func(t *testing.T) {
			t.Parallel()
			traced := new(statements)
			pool, err := postgres.NewPool(t.Context(), pgtest.URL(t), postgres.WithTracer(traced))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			queries := crowdedQueries(query.New(pool, pool))
			for _, stage := range stages {
				if _, err := pool.Exec(t.Context(), stage.before); err != nil {
					t.Fatal(err)
				}
				for _, q := range queries {
					if stage.name == "with statistics" || !q.needsStatistics {
						traced.check(t, pool, stage.name+", "+q.name, q.ask)
					}
				}
			}
		})
	}
}

type namedQuery struct {
	name string
	ask  func(context.Context) error
	// needsStatistics says that only statistics can tell whether an index lookup or a walk through the list is better.
	needsStatistics bool
}

func crowdedQueries(svc *query.Service) []namedQuery {
	account, transfer, hold := uuid.UUID{15: 1}, uuid.UUID{14: 0x12, 15: 0x34}, uuid.UUID{14: 0x12, 15: 0x34}
	at := func(n int) *time.Time { return new(time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)) }
	search := func(f query.SearchFilter) func(context.Context) error {
		return func(ctx context.Context) error {
			f.Limit = 20
			_, _, err := svc.Search(ctx, f, query.Wait{})
			return err
		}
	}
	list := func(f query.ListFilter) func(context.Context) error {
		return func(ctx context.Context) error {
			f.Limit = 20
			_, _, err := svc.Accounts(ctx, f, query.Wait{})
			return err
		}
	}
	statement := func(f query.StatementFilter) func(context.Context) error {
		return func(ctx context.Context) error {
			f.Limit = 20
			_, _, err := svc.Statement(ctx, account, f, query.Wait{})
			return err
		}
	}
	holds := func(f query.HoldFilter) func(context.Context) error {
		return func(ctx context.Context) error {
			f.Limit = 20
			_, _, err := svc.Holds(ctx, account, f, query.Wait{})
			return err
		}
	}
	expiring := func(f query.ExpiringFilter) func(context.Context) error {
		return func(ctx context.Context) error {
			f.Limit = 20
			page, _, err := svc.ExpiringHolds(ctx, f, query.Wait{})
			if err == nil {
				f.Cursor = page.Next
				_, _, err = svc.ExpiringHolds(ctx, f, query.Wait{})
			}
			return err
		}
	}
	rare, common, none := map[string]string{"n": "12345"}, map[string]string{"common": "yes"}, map[string]string{"n": "0"}
	return []namedQuery{
		{name: "all movements", ask: search(query.SearchFilter{})},
		{name: "all movements, oldest first", ask: search(query.SearchFilter{Sort: "recorded_at"})},
		{name: "a rare reference", ask: search(query.SearchFilter{Reference: "reference 12345"})},
		{name: "no such reference", ask: search(query.SearchFilter{Reference: "none", Sort: "recorded_at"})},
		{name: "a common reference", ask: search(query.SearchFilter{Reference: "common"})},
		{name: "movements of a transfer", ask: search(query.SearchFilter{TransferID: transfer})},
		{name: "a rare label", ask: search(query.SearchFilter{Metadata: rare})},
		{name: "no such label", ask: search(query.SearchFilter{Metadata: none, Sort: "recorded_at"})},
		{name: "a common label", ask: search(query.SearchFilter{Metadata: common}), needsStatistics: true},
		{name: "a common amount", ask: search(query.SearchFilter{MinAmount: "1", MaxAmount: "1"})},
		{name: "a currency", ask: search(query.SearchFilter{Currency: "EUR"})},
		{name: "a range of time", ask: search(query.SearchFilter{From: at(100), To: at(110)})},
		{name: "a reference in a range of time", ask: search(query.SearchFilter{Reference: "reference 105", From: at(100), To: at(110)})},
		{name: "from a time on", ask: search(query.SearchFilter{From: at(29990)})},
		{name: "a rare reference, counted", ask: search(query.SearchFilter{Reference: "reference 12345", Count: true})},
		{name: "a rare label, counted", ask: search(query.SearchFilter{Metadata: rare, Count: true})},
		{name: "a transfer", ask: func(ctx context.Context) error {
			_, _, err := svc.Transfer(ctx, transfer, query.Wait{})
			return err
		}},
		{name: "a statement", ask: statement(query.StatementFilter{})},
		{name: "a statement, oldest first", ask: statement(query.StatementFilter{Sort: "recorded_at"})},
		{name: "a statement, of a kind", ask: statement(query.StatementFilter{Kind: "transfer_out"})},
		{name: "a statement, for a time", ask: statement(query.StatementFilter{From: at(100), To: at(130)})},
		{name: "a period", ask: func(ctx context.Context) error {
			p, _, err := svc.Period(ctx, account, at(100), at(130), query.Wait{})
			if err == nil {
				_, err = svc.PeriodMovements(ctx, &p, 0, 20)
			}
			return err
		}},
		{name: "a balance at a position", ask: func(ctx context.Context) error {
			_, _, err := svc.BalanceAt(ctx, account, query.AsOf{Position: 15000}, query.Wait{})
			return err
		}},
		{name: "a hold", ask: func(ctx context.Context) error {
			_, _, err := svc.Hold(ctx, account, hold, query.Wait{})
			return err
		}},
		{name: "holds of an account", ask: holds(query.HoldFilter{})},
		{name: "captured holds of an account", ask: holds(query.HoldFilter{Status: "captured"})},
		{name: "holds that expire", ask: expiring(query.ExpiringFilter{})},
		{name: "holds that expire soon", ask: expiring(query.ExpiringFilter{Before: new(at(0).Add(9 * time.Hour))})},
		{name: "accounts", ask: list(query.ListFilter{})},
		{name: "accounts by owner", ask: list(query.ListFilter{Owner: "owner 4321"})},
		{name: "accounts by owner, counted", ask: list(query.ListFilter{Owner: "owner 4321", Count: true})},
		{name: "accounts in the order of owners", ask: list(query.ListFilter{Sort: "-owner"})},
		{name: "accounts by a part of the owner's name", ask: list(query.ListFilter{OwnerContains: "owner"})},
	}
}

// maxPages is how many pages a query may read. It reads up to 21 rows, and for each of them looks up a few others.
const maxPages = 450

// check runs a query, and then checks how much the plans of its statements read.
func (s *statements) check(t *testing.T, pool *pgxpool.Pool, name string, ask func(context.Context) error) {
	t.Helper()
	s.all = nil
	if err := ask(t.Context()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, statement := range slices.Clone(s.all) {
		if !strings.HasPrefix(statement.SQL, "select") {
			continue // the limits of a transaction
		}
		pages, plan := explain(t, pool, false, statement.SQL, statement.Args)
		if pages > maxPages {
			t.Errorf("%s: reads %d pages:\n%s", name, pages, plan)
		}
		// A statement that is prepared may get a plan for all values of its arguments.
		if len(statement.Args) > 0 && statement.Args[0] == pgx.QueryExecModeCacheDescribe {
			continue
		}
		if pages, plan = explain(t, pool, true, statement.SQL, statement.Args); pages > maxPages {
			t.Errorf("%s, planned for all values: reads %d pages:\n%s", name, pages, plan)
		}
	}
}

var buffers = regexp.MustCompile(`Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?`)

// explain executes a statement, planned for its arguments or for all, and returns its plan, and how many pages it reads.
func explain(t *testing.T, pool *pgxpool.Pool, generic bool, sql string, args []any) (pages int, plan string) {
	t.Helper()
	const explain = "explain (analyze, buffers, costs off, timing off) "
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if generic {
		if _, err := tx.Exec(t.Context(), "set local plan_cache_mode = force_generic_plan; prepare generic as "+sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = tx.Exec(context.WithoutCancel(t.Context()), "deallocate generic") }()
		sql = "execute generic"
		for i := range args {
			sql += []string{"(", ", "}[min(i, 1)] + "$" + strconv.Itoa(i+1)
		}
		if len(args) > 0 {
			sql += ")"
		}
		args = append([]any{pgx.QueryExecModeSimpleProtocol}, args...)
	}
	rows, _ := tx.Query(t.Context(), explain+sql, args...)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	for _, line := range lines {
		if found := buffers.FindStringSubmatch(line); found != nil { // the first is of the whole plan
			for _, text := range found[1:] {
				n, _ := strconv.Atoi(text)
				pages += n
			}
			break
		}
	}
	return pages, strings.Join(lines, "\n")
}
