package command_test

import (
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

func dryRun(r command.Request) command.Request {
	r.DryRun = true
	return r
}

// TestDryRunLeavesNothing makes dry runs beside commands with the same accounts, ids and keys, in one batch, in one call and
// alone: each predicts the outcome, and none has an effect on the commands.
func TestDryRunLeavesNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	var settled atomic.Int64
	s := start(t, pool, func(c *command.Config) { c.Settled = func(account.Command, bool, error) { settled.Add(1) } })
	x, y := open(t, s, "100"), open(t, s, "0")
	sent := must(t, s, transfer(x, y, "40")).Events[0].Position
	before := settled.Load()

	id, holdID := uuid.New(), uuid.New()
	key := keyed(deposit(x, "1"))
	for _, r := range []command.Request{
		request(x, account.Transfer{TransferID: id, To: y, Amount: dec("60")}), hold(x, holdID, "60"), reverse(sent, ""), key,
	} {
		first := must(t, s, dryRun(r))
		for _, e := range first.Events {
			if e.Position != 0 || e.EventID != uuid.Nil || !e.RecordedAt.IsZero() {
				t.Errorf("an event of a dry run: %+v", e)
			}
		}
		if again := must(t, s, dryRun(r)); again.Replayed || !reflect.DeepEqual(first.After, again.After) {
			t.Errorf("a dry run again: %+v, first %+v", again, first)
		}
	}
	if got := must(t, s, dryRun(transfer(x, y, "1"))); got.After.Balance != 5900 || len(got.Events) != 2 || got.Events[0].Version != 4 {
		t.Errorf("a dry run: %+v", got)
	}
	if settled.Load() != before {
		t.Error("a dry run is counted")
	}
	wantRefusal(t, s, dryRun(withdraw(x, "61")), account.CodeInsufficientFunds)

	got := batched(t, pool, s, nil,
		dryRun(withdraw(x, "60")), dryRun(key), key, dryRun(hold(x, holdID, "61")), hold(x, holdID, "61"), dryRun(capture(x, holdID)),
		dryRun(reverse(sent, "")), reverse(sent+1, "39"), dryRun(reverse(sent, "2")))
	for i, code := range []string{"", "", "", "", "", "", "", "", account.CodeAmountAboveMovement} {
		if codeOf(got[i].err) != code {
			t.Errorf("command %d of the batch: %+v, want %q", i, got[i], code)
		}
	}
	must(t, s, request(x, account.Transfer{TransferID: id, To: y, Amount: dec("1")}))
	wantReplay(t, s, key, got[2].result)

	results, err := s.DoAll(t.Context(), []command.Request{dryRun(deposit(y, "1")), dryRun(withdraw(y, "3"))})
	if err != nil || results[1].After.Balance != 0 || results[1].Events[0].Version != 6 {
		t.Errorf("an atomic group: %+v, %v", results, err)
	}
	if _, err := s.DoAll(t.Context(), nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	log := checkLog(t, pool)
	if a := log.accounts[x]; a.Balance != 9900 || a.Held != 6100 || len(log.events) != 12 {
		t.Errorf("after %d events: %+v", len(log.events), a)
	}
}
