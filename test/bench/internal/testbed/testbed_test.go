package testbed

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"passbook/test/bench/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFilledLogIsSound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(ctx, Options{PGBin: os.Getenv("PG_BIN"), Path: os.Getenv("PATH")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	db, err := s.CreateDatabase(ctx, "filled")
	if err != nil {
		t.Fatal(err)
	}
	log := Log{Events: 3_210, Accounts: 17, Hot: 500}
	last := 0
	if err := s.Fill(ctx, db, log, func(done int) { last = done }); err != nil {
		t.Fatal(err)
	}
	if last != log.Events {
		t.Errorf("%d events reported, want %d", last, log.Events)
	}
	const check = `select count(*), max(position), count(*) filter (where stream_id = $1), count(distinct stream_id),
    count(*) filter (where (version = 1) <> (type = 'AccountCreated')),
    (select count(*) from (select stream_id from events group by stream_id having max(version) <> count(*)) as s),
    max(recorded_at) <= clock_timestamp()
from events`
	var (
		events, head, hot, accounts, badTypes, badVersions int
		past                                               bool
	)
	err = s.admin(ctx, db.Name, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, check, load.AccountID(1)).Scan(&events, &head, &hot, &accounts, &badTypes, &badVersions, &past)
	})
	if err != nil {
		t.Fatal(err)
	}
	if events != log.Events || head != log.Events || hot != log.Hot+1 || accounts != log.Accounts || badTypes != 0 || badVersions != 0 || !past {
		t.Errorf("%d events up to %d, %d of account 1, %d accounts, %d wrong types, %d streams with a gap, in the past: %v",
			events, head, hot, accounts, badTypes, badVersions, past)
	}
	r, err := s.Pgbench(ctx, db, "select 1;\n", 1, time.Second)
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		t.Log("pgbench is not installed")
	case err != nil || r.TPS <= 0 || r.LatencyMS <= 0:
		t.Errorf("pgbench: %+v, %v", r, err)
	}
	if err := s.DropDatabase(ctx, db); err != nil {
		t.Error(err)
	}
}

func TestFillNeedsRoom(t *testing.T) {
	t.Parallel()
	s := &Testbed{}
	for _, log := range []Log{{Events: 10, Accounts: 1}, {Events: 10, Accounts: 5, Hot: 6}} {
		if s.Fill(t.Context(), Database{}, log, nil) == nil {
			t.Errorf("%+v was filled", log)
		}
	}
}
