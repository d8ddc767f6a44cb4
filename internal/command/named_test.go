package command_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

func hold(id, holdID uuid.UUID, amount string) command.Request {
	return request(id, account.PlaceHold{HoldID: holdID, Amount: dec(amount)})
}

func capture(id, holdID uuid.UUID) command.Request {
	return request(id, account.CaptureHold{HoldID: holdID})
}

func reverse(position int64, amount string) command.Request {
	c := account.Reverse{Position: position}
	if amount != "" {
		c.Amount = new(dec(amount))
	}
	return command.Request{Command: c}
}

// wantError asserts that the command is refused with an error that is not an *account.Refusal.
func wantError(t testing.TB, s *command.Service, r command.Request, want error) {
	t.Helper()
	if _, err := s.Do(t.Context(), r); !errors.Is(err, want) {
		t.Errorf("%T on %s: %v, want %v", r.Command, r.AccountID, err, want)
	}
}

// TestHoldIDIsTakenOnce uses the id of a hold again, on the same account and on another: while the hold is open, after it has
// ended, in the same call, and after the call that used it was refused.
func TestHoldIDIsTakenOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	x, y := open(t, a, "100"), open(t, a, "100")

	id := uuid.New()
	first := keyed(hold(x, id, "10"))
	done := must(t, a, first)
	wantError(t, a, hold(x, id, "1"), account.ErrHoldExists)
	wantError(t, b, hold(y, id, "1"), account.ErrHoldExists)
	wantReplay(t, b, first, done)
	must(t, b, request(x, account.ReleaseHold{HoldID: id}))
	again := keyed(hold(y, id, "3"))
	wantError(t, a, again, account.ErrHoldExists)
	wantRefusedBefore(t, b, again, account.ErrHoldExists)

	other := uuid.New()
	outcomes := a.DoEach(t.Context(), []command.Request{hold(x, other, "1"), hold(y, other, "1")})
	if outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, account.ErrHoldExists) {
		t.Errorf("twice in one call: %v, %v", outcomes[0].Err, outcomes[1].Err)
	}
	third := uuid.New()
	if _, err := b.DoAll(t.Context(), []command.Request{hold(x, third, "1"), withdraw(x, "1000")}); err == nil {
		t.Error("an overdraft was accepted")
	}
	must(t, b, hold(y, third, "1"))

	placed, ok := must(t, a, request(x, account.PlaceHold{Amount: dec("1")})).Events[0].Event.(account.HoldPlaced)
	if !ok || placed.HoldID == uuid.Nil {
		t.Errorf("a hold without an id got %s", placed.HoldID)
	}
	checkLog(t, pool)
}

// TestHoldEndsOnce ends a hold again, at every instance and within one call.
func TestHoldEndsOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	x, y := open(t, a, "100"), open(t, a, "0")
	id := uuid.New()
	must(t, a, hold(x, id, "10"))
	wantError(t, b, capture(y, id), account.ErrHoldNotFound)
	wantError(t, b, capture(x, uuid.New()), account.ErrHoldNotFound)
	captured := must(t, b, request(x, account.CaptureHold{HoldID: id, To: y, Amount: new(dec("4"))}))
	if len(captured.Events) != 3 || captured.Events[1].Event.(account.TransferSent).TransferID == uuid.Nil {
		t.Errorf("captured: %+v", captured)
	}
	for _, s := range []*command.Service{a, b} {
		wantRefusal(t, s, capture(x, id), account.CodeHoldNotOpen)
		wantRefusal(t, s, request(x, account.ReleaseHold{HoldID: id}), account.CodeHoldNotOpen)
		wantRefusal(t, s, request(x, account.ExpireHold{HoldID: id}), account.CodeHoldNotOpen)
		wantError(t, s, capture(y, id), account.ErrHoldNotFound)
	}
	key := keyed(capture(x, id))
	_, err := a.Do(t.Context(), key)
	wantRefusedBefore(t, b, key, err)

	two := uuid.New()
	outcomes := a.DoEach(t.Context(), []command.Request{
		hold(x, two, "1"), capture(y, two), request(x, account.ReleaseHold{HoldID: two}), capture(x, two), hold(x, two, "1"),
	})
	var refusal *account.Refusal
	if outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, account.ErrHoldNotFound) || outcomes[2].Err != nil ||
		!errors.As(outcomes[3].Err, &refusal) || refusal.Code != account.CodeHoldNotOpen || refusal.Detail != "the hold was released" ||
		!errors.Is(outcomes[4].Err, account.ErrHoldExists) {
		t.Errorf("in one call: %+v", outcomes)
	}

	three := uuid.New()
	must(t, a, hold(x, three, "5"))
	if _, err := a.DoAll(t.Context(), []command.Request{capture(x, three), withdraw(x, "1000")}); err == nil {
		t.Error("an overdraft was accepted")
	}
	must(t, a, capture(x, three))
	checkLog(t, pool)
}

// TestExpiryBeforeItsTime expires a hold too early. The refusal is not stored with the key, because time changes it.
func TestExpiryBeforeItsTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	x, id := open(t, s, "100"), uuid.New()
	at := time.Now().Add(100 * time.Millisecond).Truncate(time.Microsecond)
	must(t, s, request(x, account.PlaceHold{HoldID: id, Amount: dec("1"), ExpiresAt: at}))
	expire := keyed(request(x, account.ExpireHold{HoldID: id}))
	wantRefusal(t, s, expire, account.CodeHoldNotExpired)
	waitFor(t, "expiry", func() bool { return time.Now().After(at) })
	wantRefusal(t, s, capture(x, id), account.CodeHoldExpired)
	must(t, s, expire)
	checkLog(t, pool)
}

// TestReversalsAddUp reverses movements in parts, from either side, at every instance, in one call, and after a refused reversal.
func TestReversalsAddUp(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url, cacheSize(1))
	x, y := open(t, a, "100"), open(t, a, "0")
	sent := must(t, a, transfer(x, y, "10")).Events[0].Position

	part := must(t, b, reverse(sent, "1"))
	if e := part.Events[0]; e.AccountID != x || e.Event.(account.DebitReversed).ReversedPosition != sent || len(part.Events) != 2 {
		t.Errorf("the sent side: %+v", part)
	}
	if e := must(t, a, reverse(sent+1, "2")).Events[0]; e.AccountID != y || e.Event.(account.CreditReversed).ReversedPosition != sent+1 {
		t.Errorf("the received side: %+v", e)
	}
	wantRefusal(t, b, reverse(sent, "7.01"), account.CodeAmountAboveMovement)
	outcomes := a.DoEach(t.Context(), []command.Request{reverse(sent+1, "5"), reverse(sent, "2.01"), reverse(sent, ""), reverse(sent+1, "")})
	for i, code := range []string{"", account.CodeAmountAboveMovement, "", account.CodeAlreadyReversed} {
		if got := codeOf(outcomes[i].Err); got != code {
			t.Errorf("reversal %d of a call: %q, want %q", i, got, code)
		}
	}
	wantRefusal(t, b, reverse(sent, ""), account.CodeAlreadyReversed)

	paid := must(t, b, withdraw(x, "30")).Events[0].Position
	if _, err := b.DoAll(t.Context(), []command.Request{reverse(paid, "20"), withdraw(x, "1000")}); err == nil {
		t.Error("an overdraft was accepted")
	}
	must(t, b, reverse(paid, "20"))
	outcomes = b.DoEach(t.Context(), []command.Request{reverse(paid, "10"), reverse(paid, "10")})
	if outcomes[0].Err != nil || codeOf(outcomes[1].Err) != account.CodeAlreadyReversed {
		t.Errorf("twice in one call: %+v", outcomes)
	}

	wantRefusal(t, a, reverse(1, ""), account.CodeNotReversible)
	missing := keyed(reverse(1000, ""))
	wantError(t, a, missing, account.ErrMovementNotFound)
	wantRefusedBefore(t, b, missing, account.ErrMovementNotFound)
	stale := reverse(2, "1")
	stale.IfVersions = []int64{1}
	if _, err := a.Do(t.Context(), stale); codeOf(err) != "version" {
		t.Errorf("If-Match: %v", err)
	}
	checkLog(t, pool)
}

// TestUnreadableHold has a newer release write an event of a hold that this one does not know. The id counts as taken, and the
// other commands of the batch succeed.
func TestUnreadableHold(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	x, id := open(t, s, "100"), uuid.New()
	if _, err := pool.Exec(t.Context(), `insert into events
select 3, gen_random_uuid(), 1, gen_random_uuid(), 'HoldPlaced', 99, jsonb_build_object('hold_id', $1::text), '{}', recorded_at
from events where position = 2`, id); err != nil {
		t.Fatal(err)
	}
	outcomes := s.DoEach(t.Context(), []command.Request{hold(x, id, "1"), deposit(x, "1")})
	if outcomes[0].Err == nil || codeOf(outcomes[0].Err)[:10] != "unexpected" || outcomes[1].Err != nil {
		t.Errorf("%+v", outcomes)
	}
}
