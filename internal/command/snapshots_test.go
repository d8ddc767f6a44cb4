package command_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestSnapshotSparesTheEventsBeforeIt fills an account, starts a new service that knows it only from the database, and
// damages the events before the snapshot: a command that read them would fail.
func TestSnapshotSparesTheEventsBeforeIt(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	first, stop := startStoppable(t, pool)
	id := open(t, first, "0.01")
	for range 250 {
		must(t, first, deposit(id, "0.01"))
	}
	stop() // saves what is unsaved
	var version int64
	if err := pool.QueryRow(t.Context(), "select version from snapshots where stream_id = $1", id).Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 200 || version > 252 {
		t.Fatalf("the snapshot is at version %d of 252", version)
	}
	if _, err := pool.Exec(t.Context(), "update events set payload = '{}' where stream_id = $1 and version < $2", id, version); err != nil {
		t.Fatal(err)
	}
	second := start(t, newPool(t, url))
	if got := must(t, second, withdraw(id, "2.51")); got.Events[0].Version != 253 {
		t.Errorf("version %d, want 253", got.Events[0].Version)
	}
	wantRefusal(t, second, withdraw(id, "0.01"), account.CodeInsufficientFunds)
}

// TestSnapshotOfALostPast has a snapshot rest on an event that the log does not hold, and one that cannot be read: the
// account is folded from its first event.
func TestSnapshotOfALostPast(t *testing.T) {
	t.Parallel()
	state, err := eventjson.MarshalState(account.State{Status: account.Active, Owner: "Ada", Currency: eur, Balance: 99_999})
	if err != nil {
		t.Fatal(err)
	}
	for name, snapshot := range map[string]eventstore.Snapshot{
		"another event": {Version: 2, Position: 2, EventID: uuid.New(), State: state},
		"a later event": {Version: 7, Position: 7, EventID: uuid.New(), State: state},
		"unreadable":    {Version: 2, Position: 2, EventID: uuid.New(), State: []byte(`{"version": 99}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			first, stop := startStoppable(t, pool)
			id := open(t, first, "10")
			stop()
			snapshot.StreamID = id
			if err := eventstore.New(pool).SaveSnapshots(t.Context(), []eventstore.Snapshot{snapshot}); err != nil {
				t.Fatal(err)
			}
			second := start(t, newPool(t, url))
			_, err := second.Do(t.Context(), withdraw(id, "10.01"))
			var refusal *account.Refusal
			if !errors.As(err, &refusal) || refusal.Code != account.CodeInsufficientFunds {
				t.Errorf("withdrawing too much: %v", err)
			}
			must(t, second, withdraw(id, "10"))
			checkLog(t, pool)
		})
	}
}
