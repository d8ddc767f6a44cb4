package command_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestCommandsOnAnArchivedLog moves the first events to the archive under instances that are idle: one that has the log's head, one
// whose head is in the archive by then, one that knows the empty log, and one that starts afterwards. Each must go on.
func TestCommandsOnAnArchivedLog(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	empty := second(t, url)
	wantError(t, empty, deposit(uuid.New(), "1"), account.ErrNotFound) // on the empty log
	a, idle := start(t, pool), second(t, url)
	old := open(t, a, "10")
	wantRefusal(t, idle, withdraw(old, "11"), account.CodeInsufficientFunds)
	for range 3 {
		must(t, a, deposit(old, "1"))
	}
	other := open(t, a, "5")
	must(t, a, deposit(other, "1"))
	pgtest.Archive(t, pool, 6) // the account's 5 events
	for name, s := range map[string]*command.Service{"idle": idle, "empty": empty, "new": second(t, url), "current": a} {
		before := must(t, a, withdraw(old, "1"))
		if got := must(t, s, deposit(old, "1")); got.Events[0].Version != before.Events[0].Version+1 {
			t.Errorf("%s: version %d after %d", name, got.Events[0].Version, before.Events[0].Version)
		}
		wantRefusal(t, s, withdraw(old, "13.01"), account.CodeInsufficientFunds)
		must(t, s, transfer(other, old, "0.01"))
		must(t, s, transfer(old, other, "0.01"))
	}
}

// TestLockedOnAnArchivedLog archives the head of an instance that appends with the lock held.
func TestLockedOnAnArchivedLog(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	id := open(t, a, "10")
	for range 10 { // each finds that the other has moved the head, so that both begin with the lock
		must(t, a, deposit(id, "1"))
		must(t, b, deposit(id, "1"))
	}
	for range 5 {
		must(t, a, deposit(id, "1"))
	}
	pgtest.Archive(t, pool, 26)
	if got := must(t, b, deposit(id, "1")); got.Events[0].Version != 28 {
		t.Errorf("version %d, want 28", got.Events[0].Version)
	}
}

// TestReversalOfAnArchivedMovement reverses movements before and after the first position that the log has: the log may have the
// movement, but not what has been reversed of it.
func TestReversalOfAnArchivedMovement(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a := start(t, pool)
	x, y := open(t, a, "100"), open(t, a, "100")
	sent := must(t, a, transfer(x, y, "10")).Events[0].Position
	must(t, a, reverse(sent, ""))
	kept := must(t, a, deposit(x, "7")).Events[0].Position
	must(t, a, reverse(kept, "3"))
	pgtest.Archive(t, pool, kept)
	for _, s := range []*command.Service{a, second(t, url)} {
		for position := range kept {
			if position == 0 {
				continue
			}
			_, err := s.Do(t.Context(), reverse(position, "1"))
			refusal, ok := errors.AsType[*account.Refusal](err)
			if !ok || refusal.Code != account.CodeMovementArchived || !strings.Contains(refusal.Detail, "from position 9 on") {
				t.Errorf("position %d: %v", position, err)
			}
		}
		wantRefusal(t, s, reverse(kept, "4.01"), account.CodeAmountAboveMovement)
		must(t, s, reverse(kept, "2"))
		wantError(t, s, reverse(1000, ""), account.ErrMovementNotFound)
	}
	again := keyed(reverse(kept-1, "1"))
	wantRefusal(t, a, again, account.CodeMovementArchived)
	if _, err := pool.Exec(t.Context(), "update log_begin set first_position = 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Do(t.Context(), again); err == nil || strings.Contains(err.Error(), "archive") {
		t.Errorf("once the archive is attached, the key still answers %v", err)
	}
}

// TestUnreadableSnapshotOfAnArchivedAccount leaves an account a snapshot of another release: commands on it say so, and others go on.
func TestUnreadableSnapshotOfAnArchivedAccount(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a := start(t, pool)
	old, other := open(t, a, "10"), open(t, a, "10")
	must(t, a, deposit(old, "1"))
	must(t, a, deposit(old, "1"))
	must(t, a, deposit(other, "1"))
	pgtest.Archive(t, pool, 7)
	if _, err := pool.Exec(t.Context(), `update events set metadata = '{"state": {"state_version": 1}}' where stream_id = $1 and version = 4`, old); err != nil {
		t.Fatal(err)
	}
	b := second(t, url)
	for _, r := range []command.Request{deposit(old, "1"), transfer(other, old, "1"), keyed(deposit(old, "1"))} {
		if _, err := b.Do(t.Context(), r); !errors.Is(err, command.ErrArchived) || !strings.Contains(err.Error(), old.String()) {
			t.Errorf("%T: %v", r.Command, err)
		}
	}
	must(t, b, deposit(other, "1"))
}
