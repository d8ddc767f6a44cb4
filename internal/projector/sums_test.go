package projector_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/projector"
)

// moved is how often and by how much the balance of an account has changed in a day.
type moved struct {
	Account   uuid.UUID `key:"account_id"`
	Day       time.Time `key:"day"`
	Movements int64     `sum:"movements"`
	Net       int64     `sum:"net"`
}

const createMovedSQL = `create table moved (generation bigint, account_id uuid, day date, movements bigint, net numeric,
    primary key (generation, account_id, day))`

func movedByDay() *projector.Projection {
	p := projector.DefineSums[moved]("moved", 1, "moved")
	projector.On(p, func(s *projector.Sums[moved], at projector.Event, e account.MoneyDeposited) error {
		s.Add(moved{Account: at.StreamID, Day: at.RecordedAt, Movements: 1, Net: e.Amount.Minor()})
		return nil
	})
	projector.On(p, func(s *projector.Sums[moved], at projector.Event, e account.MoneyWithdrawn) error {
		s.Add(moved{Account: at.StreamID, Day: at.RecordedAt.UTC(), Movements: 1, Net: -e.Amount.Minor()})
		return nil
	})
	return p
}

const movedByHandSQL = `select concat_ws(' ', stream_id, (recorded_at at time zone 'UTC')::date, count(*),
    sum(case type when 'MoneyDeposited' then 1 else -1 end * (payload->>'amount')::numeric))
from events where type in ('MoneyDeposited', 'MoneyWithdrawn') group by stream_id, (recorded_at at time zone 'UTC')::date order by 1`

const movedRowsSQL = `select concat_ws(' ', account_id, day, movements, net) from moved
where generation = (select generation from projections where id = 'moved') order by 1`

// TestSums sees the same rows whatever the batches are, also by a replay: those that SQL makes of the log.
func TestSums(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 90, 5).append(t, 60)
	f.exec(t, createMovedSQL)
	lines := func(sql string) []string {
		rows, _ := f.pool.Query(t.Context(), sql)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	want := fmt.Sprint(lines(movedByHandSQL))
	for _, batch := range []int{1, 7, 60} {
		f.exec(t, `truncate moved`)
		f.exec(t, `delete from projection_replays`)
		f.exec(t, `delete from projections where id = 'moved'`)
		cfg := f.config(fmt.Sprint(batch))
		cfg.Batch, cfg.ReplayBatch = batch, batch+1
		e := newEngine(t, cfg, movedByDay())
		stop := start(t, e)
		eventually(t, "it is applied", func() bool {
			st, err := e.Projection(t.Context(), "moved")
			return err == nil && st.Position == 60
		})
		if got := fmt.Sprint(lines(movedRowsSQL)); got != want {
			t.Errorf("batches of %d:\n%s\nwant\n%s", batch, got, want)
		}
		r, err := e.StartReplay(t.Context(), "moved")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is replayed", func() bool {
			r, err = e.Replay(t.Context(), "moved", r.ID)
			return err == nil && r.State == "completed"
		})
		if got := fmt.Sprint(lines(movedRowsSQL)); got != want {
			t.Errorf("replayed by %d:\n%s\nwant\n%s", batch+1, got, want)
		}
		stop()
	}
}

// TestSumsOfAnySize sees a batch add up to more than 64 bits hold, and times that are one date to one row.
func TestSumsOfAnySize(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, createMovedSQL)
	day := time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)
	s := projector.FoldOf(movedByDay()).(*projector.Sums[moved])
	for _, net := range []int64{math.MaxInt64, math.MaxInt64, math.MinInt64, math.MaxInt64} {
		day = day.Add(time.Minute)
		s.Add(moved{Day: day, Movements: 1, Net: net})
	}
	if s.Rows() != 4 {
		t.Errorf("%d rows are told, and 4 held", s.Rows())
	}
	var got string
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if err := s.Flush(t.Context(), tx, 3); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), `select concat_ws(' ', generation, day, movements, net) from moved`).Scan(&got)
	})
	if want := "3 2026-03-01 4 18446744073709551613"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestSumsThatCannotWork sees rows refused that no table holds.
func TestSumsThatCannotWork(t *testing.T) {
	t.Parallel()
	define := func(f func(id string, version int, table string) *projector.Projection) func() {
		return func() { f("p", 1, "p") }
	}
	for want, f := range map[string]func(){
		"a row is a struct, and not a string": define(projector.DefineSums[string]),
		"struct { A string \"key:\\\"a\\\"\" } has no key, or nothing to sum": define(projector.DefineSums[struct {
			A string `key:"a"`
		}]),
		"struct { A int64 \"sum:\\\"a\\\"\" } has no key, or nothing to sum": define(projector.DefineSums[struct {
			A int64 `sum:"a"`
		}]),
		`the field A of struct { A string } is neither key:"column" nor sum:"column"`: define(projector.DefineSums[struct{ A string }]),
		"the field A of struct { A int \"sum:\\\"a\\\"\" } is a sum, and so an int64, and not a int": define(projector.DefineSums[struct {
			A int `sum:"a"`
		}]),
		"the column generation of the field A of struct { A int64 \"key:\\\"generation\\\"\" } is taken": define(projector.DefineSums[struct {
			A int64 `key:"generation"`
		}]),
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); got != `projector: projection "p": `+want {
					t.Errorf("panic: %s\nwant   %s", got, want)
				}
			}()
			f()
		}()
	}
}
