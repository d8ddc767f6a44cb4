package archive_test

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/archive"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// TestServiceNeedsNothingNew detaches and attaches partitions where new tables are granted to the service by default: its role still can
// only read the log and append to it, whichever table is a part of it, and new partitions are made.
func TestServiceNeedsNothingNew(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	b.live(t, 260)
	b.export(t, dir)
	exec(t, b.pool, "alter default privileges grant all on tables to passbook_service")
	service := newPool(t, pgtest.ServiceURL(t, b.url))
	check := func(when string) {
		t.Helper()
		if err := postgres.Migrate(t.Context(), b.url, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		var writers int
		if err := b.pool.QueryRow(t.Context(), `select count(*) from pg_class c cross join aclexplode(c.relacl) a
where c.relname like 'events\_%' and c.relkind = 'r' and a.grantee = 'passbook_service'::regrole`).Scan(&writers); err != nil || writers > 0 {
			t.Errorf("%s: the service has %d rights on single tables, %v", when, writers, err)
		}
		if role, err := postgres.RoleOf(t.Context(), service); err != nil || !role.Separate {
			t.Errorf("%s: %+v, %v", when, role, err)
		}
		s, stop := serve(t, eventstore.New(service))
		defer stop()
		for _, id := range b.accounts {
			if _, err := s.Do(t.Context(), command.Request{AccountID: id, Command: account.Deposit{Amount: amount(1)}}); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		exec(t, service, "select extend_log(100)")
	}
	o := archive.Options{To: 200, Drop: true, Progress: quiet}
	b.detach(t, dir, o)
	check("detached")
	b.attach(t, dir, archive.Options{To: 101, Progress: quiet})
	check("one loaded")
	o.Drop = false
	b.detach(t, dir, o)
	b.attach(t, dir, options)
	check("both attached")
}

// TestSnapshotsInStubs has a long stream end in a stub, continue, and be read again with and without the stub's snapshot.
func TestSnapshotsInStubs(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 1000, nil), t.TempDir()
	eur, _ := money.LookupCurrency("EUR")
	id := uuid.New()
	pay := func(times int) {
		t.Helper()
		s, stop := serve(t, b.log)
		defer stop()
		requests := make([]command.Request, times)
		for i := range requests {
			requests[i] = command.Request{AccountID: id, Command: account.Deposit{Amount: amount(1)}}
		}
		for _, o := range s.DoEach(t.Context(), requests) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
		exec(t, b.pool, "select extend_log(1000)")
		b.applied(t)
	}
	s, stop := serve(t, b.log)
	if _, err := s.Do(t.Context(), command.Request{AccountID: id, Command: account.Open{Owner: "Ada", Currency: eur}}); err != nil {
		t.Fatal(err)
	}
	stop()
	b.accounts = []uuid.UUID{id}
	for range 10 {
		pay(100)
	}
	pay(50)
	// The last event of the partition, at version 1000, has no snapshot but in the stub.
	exec(t, b.pool, "update events set metadata = metadata - 'state' where version > 950")
	b.export(t, dir)
	before := rows(t, b.pool)
	b.detach(t, dir, options)
	b.begins(t, 1001)
	snapshots := func() (versions []int64) {
		t.Helper()
		if err := b.pool.QueryRow(t.Context(), "select array_agg(version order by version) from events where metadata ? 'state'").Scan(&versions); err != nil {
			t.Fatal(err)
		}
		return versions
	}
	if got := snapshots(); !slices.Equal(got, []int64{1000}) {
		t.Errorf("snapshots at %v", got)
	}
	pay(30) // the next one is due 100 events after the stub's
	b.addUp(t, 1080)
	if got := snapshots(); !slices.Equal(got, []int64{1000}) {
		t.Errorf("snapshots at %v", got)
	}
	b.attach(t, dir, options)
	b.addUp(t, 1080) // from a snapshot more than 100 events ago
	if got := snapshots(); got[len(got)-1] > 950 {
		t.Errorf("snapshots at %v", got)
	}
	pay(10)
	b.addUp(t, 1090)
	if whole := rows(t, b.pool); !slices.Equal(before, whole[:len(before)]) {
		t.Error("the log has other rows than before")
	}
}
