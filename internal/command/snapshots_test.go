package command_test

import (
	"testing"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestReadingStartsAtTheSnapshot damages the events before an account's last snapshot and starts a new service: a command that
// read them would fail.
func TestReadingStartsAtTheSnapshot(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	first, stop := startStoppable(t, pool)
	id := open(t, first, "0.01")
	for range 250 {
		must(t, first, deposit(id, "0.01"))
	}
	stop()
	var version int64
	const damage = `with damaged as (update events set payload = '{}' where stream_id = $1 and version <=
(select max(version) from events where stream_id = $1 and metadata ? 'state') returning version) select max(version) from damaged`
	if err := pool.QueryRow(t.Context(), damage, id).Scan(&version); err != nil || version != 200 {
		t.Fatalf("the last snapshot is at version %d of 252: %v", version, err)
	}
	second := start(t, newPool(t, url))
	if got := must(t, second, withdraw(id, "2.51")); got.Events[0].Version != 253 {
		t.Errorf("version %d, want 253", got.Events[0].Version)
	}
	wantRefusal(t, second, withdraw(id, "0.01"), account.CodeInsufficientFunds)
}

// TestSnapshotOfAnotherRelease replaces the last snapshot by one that this code cannot read: the account is folded from its first
// event.
func TestSnapshotOfAnotherRelease(t *testing.T) {
	t.Parallel()
	for name, condition := range map[string]string{"the last": "version > 100", "all": "true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			first, stop := startStoppable(t, pool)
			id := open(t, first, "0.01")
			for range 250 {
				must(t, first, deposit(id, "0.01"))
			}
			stop()
			tag, err := pool.Exec(t.Context(), `update events set metadata = metadata || '{"state": {"state_version": 99, "balance": 99999}}'
where metadata ? 'state' and `+condition)
			if err != nil || tag.RowsAffected() == 0 {
				t.Fatal(tag, err)
			}
			second := start(t, newPool(t, url))
			wantRefusal(t, second, withdraw(id, "2.52"), account.CodeInsufficientFunds)
			must(t, second, withdraw(id, "2.51"))
			checkLog(t, pool)
		})
	}
}

// TestRefusedGroupLeavesNoSnapshot gives an account its hundredth event in an atomic group that is refused: the next event that is
// appended has the snapshot, of the state after it.
func TestRefusedGroupLeavesNoSnapshot(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	first, stop := startStoppable(t, pool)
	id := open(t, first, "0.01")
	for range 97 {
		must(t, first, deposit(id, "0.01"))
	}
	if _, err := first.DoAll(t.Context(), []command.Request{deposit(id, "5"), deposit(id, "5"), withdraw(id, "100")}); err == nil {
		t.Fatal("a group with a bad command was accepted")
	}
	must(t, first, deposit(id, "0.01"))
	stop()
	var version, balance int64
	const snapshot = `select version, (metadata->'state'->>'balance')::bigint from events where metadata ? 'state'`
	if err := pool.QueryRow(t.Context(), snapshot).Scan(&version, &balance); err != nil || version != 100 || balance != 99 {
		t.Errorf("a snapshot at version %d with %d: %v", version, balance, err)
	}
	wantRefusal(t, start(t, newPool(t, url)), withdraw(id, "1"), account.CodeInsufficientFunds)
}

// TestDecidesOnTheLogAlone revokes all of the service role's privileges except those on the log and the keys, neither of which it
// can write: commands are then decided on nothing else.
func TestDecidesOnTheLogAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	owner := newPool(t, url)
	if _, err := owner.Exec(t.Context(), `revoke all on all tables in schema public from passbook_service;
grant select on events to passbook_service; grant select, delete on idempotency_keys to passbook_service`); err != nil {
		t.Fatal(err)
	}
	first, stop := startStoppable(t, newPool(t, pgtest.ServiceURL(t, url)))
	id := open(t, first, "1")
	for range 250 {
		must(t, first, keyed(deposit(id, "0.01")))
	}
	stop()
	second := start(t, newPool(t, pgtest.ServiceURL(t, url)))
	wantRefusal(t, second, withdraw(id, "900"), account.CodeInsufficientFunds)
	must(t, second, withdraw(id, "3.50"))
}
