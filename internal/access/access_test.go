package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/access"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// service returns a pool of the service's role, which may do less than the owner's.
func service(t *testing.T, owners string) *pgxpool.Pool {
	t.Helper()
	return open(t, pgtest.ServiceURL(t, owners))
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func newRecorder(pool *pgxpool.Pool, rate float64, buffer int64) *access.Recorder {
	return access.New(access.Config{
		Pool: pool, Rate: rate, Logger: slog.New(slog.DiscardHandler), Ready: func() bool { return true }, Buffer: buffer,
	})
}

// start runs a recorder until the returned function is called.
func start(t *testing.T, r *access.Recorder) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = func() {
		if cancel(); done != nil {
			if err := <-done; err != nil {
				t.Error(err)
			}
			done = nil
		}
	}
	t.Cleanup(stop)
	return stop
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 seconds:", what)
		}
	}
}

// list returns the records of a filter, page by page.
func list(t *testing.T, pool *pgxpool.Pool, f access.Filter) (all []access.Stored) {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 2
	}
	for {
		page, err := access.NewStore(pool).List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Records...)
		if f.Cursor = page.Next; f.Cursor == "" {
			return all
		}
	}
}

func read(caller string, accounts ...uuid.UUID) access.Record {
	return access.Record{
		At: time.Now(), Kind: access.Read, Caller: caller, CallerName: caller + "'s", Method: "GET", Route: "/accounts", Accounts: accounts, Status: 200,
		RequestID: "r", Address: netip.MustParseAddr("192.0.2.7"), Position: 42,
	}
}

// told shows records as "kind caller accounts".
func told(all []access.Stored) string {
	var lines []string
	for i := range all {
		lines = append(lines, strings.TrimSpace(fmt.Sprint(all[i].Kind, " ", all[i].Caller, " ", all[i].Detail, " ", len(all[i].Accounts))))
	}
	slices.Reverse(lines)
	return strings.Join(lines, ", ")
}

// TestRecords writes records of two runs and lists them: in pages, by account, caller and time; what may be about any account is in
// every list.
func TestRecords(t *testing.T) {
	t.Parallel()
	pool := service(t, pgtest.URL(t))
	a, b := uuid.New(), uuid.New()
	for range 2 {
		r := newRecorder(pool, 1, 0)
		stop := start(t, r)
		r.Add(read("ada", a))
		r.Add(read("bob", a, b))
		r.Add(read("eve\x00", b)) // a caller with a name that cannot be stored must not keep the others waiting
		r.Add(access.Record{At: time.Now(), Kind: access.Opened, AnyAccount: true, Caller: "bob"})
		until(t, "written", func() bool { return r.Counts().Written >= 5 })
		stop()
	}
	const run = "started  all 0, read ada  1, read bob  2, read eve\uFFFD  1, opened bob  0, stopped  all 0"
	all := list(t, pool, access.Filter{})
	if got := told(all); got != run+", "+run {
		t.Errorf("all: %s", got)
	}
	for i := range all {
		if want := int64(6 - i%6); all[i].Number != want {
			t.Errorf("record %d of its run has the number %d", want, all[i].Number)
		}
	}
	got := all[4]
	got.At, got.Run, got.Number = time.Time{}, uuid.Nil, 0
	want := read("ada", a)
	want.At = time.Time{}
	if fmt.Sprint(got.Record) != fmt.Sprint(want) {
		t.Errorf("stored %+v, want %+v", got.Record, want)
	}
	middle := all[6].At
	for name, test := range map[string]struct {
		f    access.Filter
		want string
	}{
		"of an account":    {access.Filter{Account: a, To: &middle}, "started  all 0, read ada  1, read bob  2, opened bob  0"},
		"of a caller":      {access.Filter{Caller: "ada", To: &middle}, "started  all 0, read ada  1"},
		"of a key by name": {access.Filter{Caller: "bob's", From: &all[5].At}, "started  all 0, read bob  2, stopped  all 0"},
		"in one page":      {access.Filter{Limit: 100, From: &all[5].At}, run},
	} {
		if got := told(list(t, pool, test.f)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	if _, err := access.NewStore(pool).List(t.Context(), access.Filter{Limit: 1, Cursor: "nonsense"}); !errors.Is(err, access.ErrBadCursor) {
		t.Error(err)
	}
}

// TestNothingIsLostWithoutATrace locks the table and fills the buffer: with all, reads are refused before anything is lost, and what
// was taken is written once the table is back; what finds no room even so is counted, and the records tell how many.
func TestNothingIsLostWithoutATrace(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{1, 0.999999999} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			owners := pgtest.URL(t)
			pool, owner := service(t, owners), open(t, owners)
			tx, err := owner.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.WithoutCancel(t.Context()))
			if _, err := tx.Exec(t.Context(), "lock table access_records"); err != nil {
				t.Fatal(err)
			}
			r := newRecorder(pool, rate, 10_000)
			stop := start(t, r)
			var taken, refused int
			for range 100 {
				switch _, err := r.Begin(); {
				case err == nil:
					taken++
					r.Add(read("ada", uuid.New()))
				case errors.Is(err, access.ErrFull):
					refused++
				default:
					t.Fatal(err)
				}
			}
			late := 200
			for range late { // of requests that had begun, or commands
				r.Add(read("late", uuid.New()))
			}
			counts := r.Counts()
			if all := rate == 1; all != (refused > 0) || int(counts.Refused) != refused || counts.Dropped == 0 || all && taken != 100-refused {
				t.Errorf("taken %d, refused %d, %+v", taken, refused, counts)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			until(t, "the buffer is empty", func() bool { return r.Counts().Waiting == 0 })
			if _, err := r.Begin(); err != nil {
				t.Error("reads are refused although the table is back:", err)
			}
			stop()
			var reads, dropped int
			for _, one := range list(t, pool, access.Filter{Limit: 500}) {
				switch one.Kind {
				case access.Read:
					reads++
				case access.Dropped:
					_, _ = fmt.Sscan(one.Detail, &dropped)
				}
			}
			if reads+dropped != taken+late || dropped != int(counts.Dropped) || rate == 1 && reads < taken {
				t.Errorf("%d records, %d told as dropped, of %d taken and %d late; %+v", reads, dropped, taken, late, counts)
			}
		})
	}
}

// TestABatchIsWrittenOnce sends a batch again, as after an outcome that is unknown.
func TestABatchIsWrittenOnce(t *testing.T) {
	t.Parallel()
	pool := service(t, pgtest.URL(t))
	run, batch := uuid.New(), []access.Record{read("ada"), read("bob")}
	for range 2 {
		if err := access.Write(t.Context(), pool, run, 1, batch); err != nil {
			t.Fatal(err)
		}
	}
	if got := told(list(t, pool, access.Filter{})); got != "read ada  0, read bob  0" {
		t.Error(got)
	}
}

// TestSampling checks that a share is about that share.
func TestSampling(t *testing.T) {
	t.Parallel()
	r, n := newRecorder(nil, 0.25, 0), 0
	for range 10_000 {
		if recorded, err := r.Begin(); err != nil {
			t.Fatal(err)
		} else if recorded {
			n++
		}
	}
	if n < 2000 || n > 3000 { // more than ten standard deviations
		t.Errorf("%d of 10,000 at a rate of 0.25", n)
	}
}

// TestRetention deletes old records in batches, and as the service's role tries to delete others.
func TestRetention(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	pool, owner := service(t, owners), open(t, owners)
	if _, err := owner.Exec(t.Context(), `insert into access_records (at, run, number, kind)
select now() - n * interval '1 minute', gen_random_uuid(), 1, 'read' from generate_series(0, 20000) as n`); err != nil {
		t.Fatal(err)
	}
	store := access.NewStore(pool)
	holder, err := owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.WithoutCancel(t.Context()))
	if _, err := holder.Exec(t.Context(), "select pg_advisory_xact_lock(7018230190)"); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Expire(t.Context(), 48*time.Hour); n != 0 || err != nil {
		t.Errorf("%d, %v while another instance deletes", n, err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	const day = 24 * 60
	for _, step := range []struct {
		keep    time.Duration
		deleted int64
	}{{2 * day * time.Minute, 20000 - 2*day}, {2 * day * time.Minute, 0}, {0, day}} {
		if n, err := store.Expire(t.Context(), step.keep); err != nil || n < step.deleted || n > step.deleted+2 {
			t.Errorf("keeping %s: deleted %d, %v, want %d", step.keep, n, err, step.deleted)
		}
	}
	for _, attack := range []string{
		"delete from access_records", "update access_records set caller = 'eve'", "truncate access_records", "drop table access_records",
		"create or replace function expire_access(keep interval) returns bigint language sql as 'select 1'",
		"alter function expire_access security invoker", "alter table access_records disable trigger all",
	} {
		_, err := pool.Exec(t.Context(), attack)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
			t.Errorf("%s: %v", attack, err)
		}
	}
	// The function runs as its owner, and must not take a table of the caller's.
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "create temp table access_records (at timestamptz, run uuid, number bigint)"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "set local search_path = pg_temp, public")
		if err == nil {
			_, err = tx.Exec(t.Context(), "insert into pg_temp.access_records select '-infinity', gen_random_uuid(), 1")
		}
		var n int64
		if err == nil {
			err = tx.QueryRow(t.Context(), "select expire_access('1 day')").Scan(&n)
		}
		if n > 2 {
			t.Errorf("deleted %d", n)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestReadsStopWithTheAudit expects that no read begins whose record could not be written any more.
func TestReadsStopWithTheAudit(t *testing.T) {
	t.Parallel()
	r := newRecorder(service(t, pgtest.URL(t)), 1, 0)
	start(t, r)()
	if _, err := r.Begin(); !errors.Is(err, access.ErrFull) {
		t.Errorf("after the end of the audit a read got %v, want ErrFull", err)
	}
}

// TestARejectedRecordIsDropped writes a record that the table never takes, between others.
func TestARejectedRecordIsDropped(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	if _, err := open(t, owners).Exec(t.Context(), "alter table access_records add check (request_id <> 'bad')"); err != nil {
		t.Fatal(err)
	}
	pool := service(t, owners)
	r := newRecorder(pool, 1, 0)
	bad := read("eve")
	bad.RequestID = "bad"
	for _, record := range []access.Record{read("ada"), bad, read("bob")} {
		r.Add(record)
	}
	stop := start(t, r)
	until(t, "the others are written", func() bool { return r.Counts().Written >= 4 })
	stop()
	all := list(t, pool, access.Filter{})
	if got := told(all); got != "started  all 0, read ada  0, read bob  0, dropped  1 0, stopped  all 0" || all[0].Number != 5 {
		t.Errorf("%s, the last with the number %d", got, all[0].Number)
	}
	if c := r.Counts(); c.Dropped != 1 || c.Written != 5 || c.Waiting != 0 {
		t.Errorf("%+v", c)
	}
}
