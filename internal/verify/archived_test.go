package verify_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/verify"
)

// TestSoundArchivedBooks moves the first events to the archive, up to every kind of place: what is left is sound, and what needs the
// archive is named.
func TestSoundArchivedBooks(t *testing.T) {
	t.Parallel()
	for _, first := range []int64{2, 6, 14, 23, 24, 34, 40} { // the second sides of transfers, captures and reversals too
		pool := pgtest.New(t)
		books(t, pool)
		project(t, pool, 100)
		pgtest.Archive(t, pool, first)
		if got := check(t, pool); got != nil {
			t.Errorf("from position %d on: %q", first, got)
		}
		report, err := verify.Run(t.Context(), pool, 1, nil)
		if err != nil || report.First != first || !slices.Contains(report.NeedArchive, "balances") || slices.Contains(report.NeedArchive, "positions") ||
			len(report.NeedArchive)+len(report.Checks) != verify.Checks() {
			t.Errorf("from position %d on: %+v, %v", first, report, err)
		}
	}
}

// TestDamageOfArchivedBooks damages what is left of a log, and expects the report to list it.
func TestDamageOfArchivedBooks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 100)
	pgtest.Archive(t, pool, 24)
	for damage, want := range map[string]string{
		`delete from events where position = 24`:                                             "positions: position 24 events: none, not one",
		`update events set version = version + 1 where position = 40`:                        "versions: account " + dora.String() + " at position 40 version: ",
		`delete from events where position = 23`:                                             "transfers: transfer " + third.String() + " at position 24 event before TransferReceived",
		`update events set metadata = metadata - 'state' where position = 15`:                "snapshots: account " + ada.String() + " at position 15 snapshot: missing, not present",
		`update events set metadata = '{"state": {"balance": 1}}' where position = 15`:       "snapshots: account " + ada.String() + " at position 15 balance in the snapshot: 1, not",
		`update events set recorded_at = recorded_at - interval '1 day' where position = 30`: "positions: position 30 recorded_at",
		`delete from events where type = 'HoldPlaced' and position = 19`:                     "holds: hold " + hold(1).String() + " row: present, not missing",
	} {
		damaged(t, pool, damage, want)
	}
}

func damaged(t *testing.T, pool *pgxpool.Pool, damage, want string) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	report, err := verify.Within(t.Context(), tx, 100)
	if err != nil {
		t.Fatal(err)
	}
	if got := differences(report); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
		t.Errorf("%s: %q", damage, got)
	}
}
