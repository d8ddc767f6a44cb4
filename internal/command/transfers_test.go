package command_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestTransferIDIsTakenOnce uses the id of a transfer again: at the same instance, at another one, in the same call, after the
// call that used it was refused, and with an idempotency key.
func TestTransferIDIsTakenOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	x, y := open(t, a, "100"), open(t, a, "100")
	withID := func(id uuid.UUID, amount string) command.Request {
		return request(x, account.Transfer{TransferID: id, To: y, Amount: dec(amount)})
	}
	taken := func(s *command.Service, r command.Request) {
		t.Helper()
		if _, err := s.Do(t.Context(), r); !errors.Is(err, account.ErrTransferExists) {
			t.Errorf("the id is taken, but: %v", err)
		}
	}

	id := uuid.New()
	first := keyed(withID(id, "1"))
	done := must(t, a, first)
	taken(a, withID(id, "1"))
	taken(b, withID(id, "2"))
	wantReplay(t, b, first, done)

	again := keyed(withID(id, "3"))
	taken(a, again)
	wantRefusedBefore(t, b, again, account.ErrTransferExists)

	other := uuid.New()
	outcomes := a.DoEach(t.Context(), []command.Request{withID(other, "1"), withID(other, "1")})
	if outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, account.ErrTransferExists) {
		t.Errorf("twice in one call: %v, %v", outcomes[0].Err, outcomes[1].Err)
	}
	third := uuid.New()
	if _, err := b.DoAll(t.Context(), []command.Request{withID(third, "1"), withdraw(x, "1000")}); err == nil {
		t.Error("an overdraft was accepted")
	}
	must(t, b, withID(third, "1"))
	checkLog(t, pool)
}

// TestTransferWithoutID expects a transfer without an id to get one.
func TestTransferWithoutID(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	x, y := open(t, s, "100"), open(t, s, "0")
	r := request(x, account.Transfer{To: y, Amount: dec("1")})
	ids := make(map[uuid.UUID]bool)
	for range 2 {
		sent, ok := must(t, s, r).Events[0].Event.(account.TransferSent)
		if !ok || sent.TransferID == uuid.Nil || ids[sent.TransferID] {
			t.Errorf("the id is %s", sent.TransferID)
		}
		ids[sent.TransferID] = true
	}
}
