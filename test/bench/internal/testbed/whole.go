package testbed

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// Whole describes a log that is filled with its read models: Accounts accounts numbered from 1, opened in turn, and then
// deposits of 1.00 into each in turn, PerAccount events per account in total.
type Whole struct{ Accounts, PerAccount int }

// Events is how many there are.
func (w Whole) Events() int { return w.Accounts * w.PerAccount }

// wholeEpoch is when position 0 would have been recorded; each event comes a microsecond after the one before.
var wholeEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// RecordedAt is when an event of a Whole was recorded.
func (Whole) RecordedAt(position int64) time.Time {
	return wholeEpoch.Add(time.Duration(position) * time.Microsecond)
}

// The numbers of an event: n of its account, v its version. $-arguments cannot be used in a statement that pgx does not
// prepare, so they are formatted in; all of them are numbers.
const wholeEvents = ` from generate_series(%[1]d::bigint, %[2]d::bigint) as g,
lateral (select 1 + (g - 1) %% %[3]d as n, 1 + (g - 1) / %[3]d as v, timestamptz '2026-01-01Z' + g * interval '1 microsecond' as t) as e
order by g`

const (
	wholeAccountID = `('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid`

	wholeEventsSQL = `insert into events_%[4]d (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select g, ` + wholeAccountID + `, v, md5(g::text)::uuid,
       case when v = 1 then 'AccountCreated' else 'MoneyDeposited' end, case when v = 1 then 2 else 1 end,
       case when v = 1 then '{"owner":"Ada Lovelace","currency":"EUR","overdraft_limit":0,"decimals":2}'::jsonb
            else '{"amount":100,"currency":"EUR"}'::jsonb end, '{"correlation_id":"scale"}', t` + wholeEvents

	wholeTransactionsSQL = `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference)
select 1, g, v, t, case when v = 1 then 0 else 100 end, (v - 1) * 100, 0, ` + wholeAccountID + `,
       case when v = 1 then 'O' else 'd' end, 'a', ''` + wholeEvents
)

// What is left once both long tables are there. %[1]d is the accounts, %[2]d the events of each.
var wholeRest = []string{
	`insert into account_details select 1, ` + wholeAccountID + `, n, 'Ada Lovelace', 'EUR', 0 from generate_series(1, %[1]d) n`,
	`insert into balances select 1, ` + wholeAccountID + `, 'Ada Lovelace', 'ada lovelace', 'EUR', (%[2]d - 1) * 100, 0, 0, (%[2]d - 1) * 100, 0, 'active',
    %[2]d, (%[2]d - 1)::bigint * %[1]d + n, n, timestamptz '2026-01-01Z' + n * interval '1 microsecond',
    timestamptz '2026-01-01Z' + ((%[2]d - 1)::bigint * %[1]d + n) * interval '1 microsecond', null from generate_series(1, %[1]d) n`,
	`insert into totals (generation, currency, accounts, deposited, withdrawn, sent, received, balance)
select 1, 'EUR', %[1]d, d, 0, 0, 0, d from (values ((%[2]d - 1)::numeric * 100 * %[1]d)) as x(d)`,
	`insert into stats_accounts (generation, opened, suspended, closed) values (1, %[1]d, 0, 0)`,
	`insert into stats_seconds (generation, slot, currency, second, events, movements, amount)
select distinct on (second %% 64, currency) 1, second %% 64, currency, second, events, movements, movements * 100
from (select floor(extract(epoch from recorded_at))::bigint as second, case when version = 1 then '' else 'EUR' end as currency,
          count(*) as events, count(*) filter (where version > 1) as movements
      from events group by 1, 2) as s
order by second %% 64, currency, second desc -- of %[1]d accounts`,
}

const (
	// wholeStep is how many events are written by one statement.
	wholeStep = 500_000

	wholeBeginSQL = `create table if not exists whole (what text primary key, done bigint not null)`
	wholeDoneSQL  = `insert into whole values ($1, $2) on conflict (what) do update set done = excluded.done`
)

// FillWhole writes a log and its read models by SQL, as the server would have left them: `server verify` finds no
// difference. If it was interrupted, another call resumes it.
func (s *Testbed) FillWhole(ctx context.Context, d Database, w Whole, progress func(what string, done int64)) error {
	if err := postgres.Migrate(ctx, d.URL, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := s.Exec(ctx, d, wholeBeginSQL); err != nil {
		return err
	}
	var group errgroup.Group
	for _, table := range []struct {
		name, fill string
		bare, keys string
	}{
		{
			"events", wholeEventsSQL, bareEvents(w.Events()), eventKeys(w.Events()),
		},
		{
			"transactions", wholeTransactionsSQL, `alter table transactions drop constraint transactions_pkey`,
			`alter table transactions add constraint transactions_pkey primary key (generation, account_id, position)`,
		},
	} {
		group.Go(func() error {
			return s.admin(ctx, d.Name, func(conn *pgx.Conn) error {
				f := filler{conn: conn, name: table.name, progress: progress}
				f.once(ctx, "bare", table.bare)
				f.steps(ctx, table.fill, w)
				f.once(ctx, "memory", `set maintenance_work_mem = '1GB'`)
				f.once(ctx, "keys", table.keys)
				f.alone(ctx, "vacuum", `vacuum (freeze, analyze) `+table.name)
				return f.err
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.admin(ctx, d.Name, func(conn *pgx.Conn) error {
		f := filler{conn: conn, name: "rest", progress: progress}
		for i, statement := range wholeRest {
			f.once(ctx, fmt.Sprint(i), fmt.Sprintf(statement, w.Accounts, w.PerAccount))
		}
		for _, p := range []*projector.Projection{readmodel.Balances(), readmodel.Transactions(), readmodel.Totals(), readmodel.Holds(), readmodel.Stats()} {
			f.once(ctx, p.ID, fmt.Sprintf(`insert into projections (id, version, generation, position, last_event_id)
values ('%s', %d, 1, %[3]d, md5('%[3]d')::uuid)`, p.ID, p.Version, w.Events()))
		}
		f.alone(ctx, "vacuum", `vacuum (freeze, analyze)`)
		return f.err
	})
}

// bareEvents makes the partitions of a log without their indexes, and eventKeys adds those and attaches the partitions.
func bareEvents(events int) string {
	statements := []string{dropPartitions}
	for first := 1; first <= events; first += partitionSize {
		statements = append(statements, fmt.Sprintf(barePartition, first))
	}
	return strings.Join(statements, ";\n")
}

func eventKeys(events int) string {
	var statements []string
	for first := 1; first <= events; first += partitionSize {
		statements = append(statements, fmt.Sprintf(attachPartition, first, first+partitionSize))
	}
	return strings.Join(statements, ";\n")
}

// filler runs steps, each once per database, and records which have run, and the first error.
type filler struct {
	conn     *pgx.Conn
	name     string
	progress func(what string, done int64)
	err      error
}

// done returns how far a step has come, and begins it if necessary.
func (f *filler) done(ctx context.Context, what string) (done int64) {
	if f.err == nil {
		f.err = f.conn.QueryRow(ctx, `select coalesce((select done from whole where what = $1), 0)`, what).Scan(&done)
	}
	return done
}

// to advances a step to a target, in one transaction.
func (f *filler) to(ctx context.Context, what, statement string, mark int64) {
	if f.err != nil {
		return
	}
	f.err = pgx.BeginFunc(ctx, f.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		_, err := tx.Exec(ctx, wholeDoneSQL, what, mark)
		return err
	})
	if f.err == nil {
		f.progress(what, mark)
	}
}

func (f *filler) once(ctx context.Context, step, statement string) {
	if what := f.name + " " + step; step == "memory" || f.done(ctx, what) == 0 {
		f.to(ctx, what, statement, 1)
	}
}

// alone is once for a statement that cannot run in a transaction.
func (f *filler) alone(ctx context.Context, step, statement string) {
	what := f.name + " " + step
	if f.done(ctx, what) > 0 || f.err != nil {
		return
	}
	if _, f.err = f.conn.Exec(ctx, statement); f.err == nil {
		f.to(ctx, what, `select 1`, 1)
	}
}

func (f *filler) steps(ctx context.Context, statement string, w Whole) {
	at := f.done(ctx, f.name)
	for last := int64(w.Events()); at < last && f.err == nil; {
		next := min(at+wholeStep, last)
		f.to(ctx, f.name, fmt.Sprintf(statement, at+1, next, w.Accounts, partitionOf(int(at+1))), next)
		at = next
	}
}
