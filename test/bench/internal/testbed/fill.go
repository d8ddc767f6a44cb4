package testbed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"passbook/internal/postgres"
)

// Log describes a filled log.
type Log struct {
	// Events is the number of all events, over Accounts accounts numbered from 1.
	Events, Accounts int
	// Hot is how many of the events belong to account 1.
	Hot int
}

// The log as the server would have written it, with the account ids of load.AccountID: every account is opened first; then account 1 has its deposits, then
// the others in turn. $-arguments cannot be used in a statement that pgx does not prepare, so they are formatted in; all
// of them are numbers.
const fillSQL = `insert into events_%[6]d (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select g, ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, v, md5(g::text)::uuid,
       case when v = 1 then 'AccountCreated' else 'MoneyDeposited' end, case when v = 1 then 2 else 1 end,
       case when v = 1 then '{"owner":"Ada Lovelace","currency":"EUR","overdraft_limit":0,"decimals":2}'::jsonb
            else '{"amount":100,"currency":"EUR"}'::jsonb end,
       jsonb_build_object('correlation_id', md5(g::text)),
       timestamptz '%[1]s' + g * interval '1 microsecond'
from generate_series(%[2]d::bigint, %[3]d::bigint) as g,
lateral (select case when g <= %[4]d then g when g <= %[5]d then 1 else 2 + (g - %[5]d - 1) %% (%[4]d - 1) end as n,
                case when g <= %[4]d then 1 when g <= %[5]d then g - %[4]d + 1 else 2 + (g - %[5]d - 1) / (%[4]d - 1) end as v) as e
order by g`

// partitionSize is the default of PASSBOOK_PARTITION_SIZE, and a multiple of the steps in which the partitions are filled.
const partitionSize = 10_000_000

const (
	// A new log has one empty partition.
	dropPartitions  = `drop table events_1`
	barePartition   = `create table events_%d (like events including constraints)`
	attachPartition = `alter table events_%[1]d add primary key (position), add constraint events_%[1]d_stream_version unique (stream_id, version),
    add constraint bounds check (position >= %[1]d and position < %[2]d);
alter table events attach partition events_%[1]d for values from (%[1]d) to (%[2]d);
alter table events_%[1]d drop constraint bounds`
)

// partitionOf returns the first position of the partition that has a position.
func partitionOf(position int) int { return position - (position-1)%partitionSize }

// fillStep is how many events are written by one statement.
const fillStep = 500_000

// Fill migrates an empty database and writes a log into it, past the server: SQL is some hundred times as fast. The
// read models are left empty; the server catches up when it is started.
func (s *Testbed) Fill(ctx context.Context, d Database, log Log, progress func(done int)) error {
	if log.Accounts < 2 || log.Events < log.Accounts+log.Hot {
		return fmt.Errorf("a log of %d events has no room for %d accounts and %d events of one", log.Events, log.Accounts, log.Hot)
	}
	if err := postgres.Migrate(ctx, d.URL, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	// The indexes are made afterwards, which takes a fraction of the time.
	if err := s.Exec(ctx, d, dropPartitions); err != nil {
		return err
	}
	for first := 1; first <= log.Events; first += partitionSize {
		if err := s.Exec(ctx, d, fmt.Sprintf(barePartition, first)); err != nil {
			return err
		}
	}
	since := time.Now().UTC().Add(-time.Duration(log.Events) * time.Microsecond).Format(time.RFC3339)
	for done := 0; done < log.Events; {
		next := min(done+fillStep, log.Events)
		if err := s.Exec(ctx, d, fmt.Sprintf(fillSQL, since, done+1, next, log.Accounts, log.Accounts+log.Hot, partitionOf(done+1))); err != nil {
			return err
		}
		done = next
		progress(done)
	}
	for first := 1; first <= log.Events; first += partitionSize {
		if err := s.Exec(ctx, d, fmt.Sprintf(attachPartition, first, first+partitionSize)); err != nil {
			return err
		}
	}
	// Like an older log: no reader has to set hint bits.
	return s.Exec(ctx, d, `vacuum (freeze, analyze) events`)
}
