package account_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
)

var (
	reversal = uuid.MustParse("0198c1f0-0000-7000-8000-0000000000b1")
	transfer = uuid.MustParse("0198c1f0-0000-7000-8000-0000000000ff")
)

// movementOf returns a movement of ada's. The other side of a transfer is at position 8.
func movementOf(e account.Event, reversed int64) account.Movement {
	return account.Movement{AccountID: ada, Event: e, OtherPosition: 8, Reversed: reversed}
}

var (
	deposited = account.MoneyDeposited{Amount: eurs(1000), Reference: "x", Metadata: labels}
	withdrawn = account.MoneyWithdrawn{Amount: eurs(1000)}
	sent      = account.TransferSent{TransferID: transfer, To: bob, Amount: eurs(1000)}
	received  = account.TransferReceived{TransferID: transfer, From: bob, Amount: eurs(1000)}
)

func TestReverse(t *testing.T) {
	t.Parallel()
	// of is a reversal of position 7, and with is one of a transfer with the given other account.
	of := func(minor int64, change ...func(*account.Reversal)) account.Reversal {
		r := account.Reversal{ReversalID: reversal, ReversedPosition: 7, Amount: eurs(minor)}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	of7With := func(other uuid.UUID) func(*account.Reversal) {
		return func(r *account.Reversal) { r.TransferID, r.Counterparty = transfer, other }
	}
	of8With := func(other uuid.UUID) func(*account.Reversal) {
		return func(r *account.Reversal) { r.TransferID, r.Counterparty, r.ReversedPosition = transfer, other, 8 }
	}
	forced := func(r *account.Reversal) { r.Forced = true }
	why := func(r *account.Reversal) { r.Reason = "twice" }
	for name, tt := range map[string]struct {
		before  states
		command account.Reverse
		want    []account.Entry
	}{
		"deposit": {
			states{ada: active(1000)},
			account.Reverse{Movement: movementOf(deposited, 0), Reason: "twice"},
			[]account.Entry{{ada, account.CreditReversed{of(1000, why)}}},
		},
		"a part of a deposit": {
			states{ada: active(1000)},
			account.Reverse{Movement: movementOf(deposited, 0), Amount: decp("0.01")},
			[]account.Entry{{ada, account.CreditReversed{of(1)}}},
		},
		"the rest of a deposit": {
			states{ada: active(1000)},
			account.Reverse{Movement: movementOf(deposited, 400)},
			[]account.Entry{{ada, account.CreditReversed{of(600)}}},
		},
		"the rest of a deposit, as an amount": {
			states{ada: active(1000)},
			account.Reverse{Movement: movementOf(deposited, 400), Amount: decp("6.00")},
			[]account.Entry{{ada, account.CreditReversed{of(600)}}},
		},
		"a deposit, from the overdraft": {
			states{ada: with(active(0), limit(1000))},
			account.Reverse{Movement: movementOf(deposited, 0)},
			[]account.Entry{{ada, account.CreditReversed{of(1000)}}},
		},
		"a deposit that is spent, with force": {
			states{ada: with(active(100), limit(100))},
			account.Reverse{Movement: movementOf(deposited, 0), Force: true},
			[]account.Entry{{ada, account.CreditReversed{of(1000, forced)}}},
		},
		"a deposit that is held, with force": {
			states{ada: with(active(1000), holding(1))},
			account.Reverse{Movement: movementOf(deposited, 0), Force: true},
			[]account.Entry{{ada, account.CreditReversed{of(1000, forced)}}},
		},
		"a deposit that is there, with force": {
			states{ada: active(1000)},
			account.Reverse{Movement: movementOf(deposited, 0), Force: true},
			[]account.Entry{{ada, account.CreditReversed{of(1000)}}},
		},
		"withdrawal": {
			states{ada: active(-500)},
			account.Reverse{Movement: movementOf(withdrawn, 0)},
			[]account.Entry{{ada, account.DebitReversed{of(1000)}}},
		},
		"withdrawal, with force": {
			states{ada: active(-500)},
			account.Reverse{Movement: movementOf(withdrawn, 0), Force: true},
			[]account.Entry{{ada, account.DebitReversed{of(1000)}}},
		},
		"transfer, by the sender's side": {
			states{ada: active(0), bob: active(1000)},
			account.Reverse{Movement: movementOf(sent, 0), Reason: "twice"},
			[]account.Entry{
				{ada, account.DebitReversed{of(1000, of7With(bob), why)}},
				{bob, account.CreditReversed{of(1000, of8With(ada), why)}},
			},
		},
		"a part of a transfer, by the receiver's side": {
			states{ada: active(1000), bob: active(0)},
			account.Reverse{Movement: movementOf(received, 300), Amount: decp("5")},
			[]account.Entry{
				{ada, account.CreditReversed{of(500, of7With(bob))}},
				{bob, account.DebitReversed{of(500, of8With(ada))}},
			},
		},
		"a transfer that is spent, with force": {
			states{ada: active(0), bob: active(999)},
			account.Reverse{Movement: movementOf(sent, 0), Force: true},
			[]account.Entry{
				{ada, account.DebitReversed{of(1000, of7With(bob))}},
				{bob, account.CreditReversed{of(1000, of8With(ada), forced)}},
			},
		},
	} {
		tt.command.Position, tt.command.ReversalID = 7, reversal
		checkDecided(t, name, tt.before, tt.command, tt.want...)
	}
}

func TestReverseRefuses(t *testing.T) {
	t.Parallel()
	suspended, closed := with(active(5000), status(account.Suspended)), with(active(0), status(account.Closed))
	for name, tt := range map[string]struct {
		own, other          account.State
		command             account.Reverse
		code, field, detail string
	}{
		"an opening":            {active(0), active(0), account.Reverse{Movement: movementOf(account.AccountCreated{}, 0)}, "not-reversible", "position", "position 7 is AccountCreated"},
		"a capture":             {active(0), active(0), account.Reverse{Movement: movementOf(account.HoldCaptured{}, 0)}, "not-reversible", "position", "HoldCaptured"},
		"a reversal":            {active(5000), active(0), account.Reverse{Movement: movementOf(account.DebitReversed{}, 0)}, "not-reversible", "position", "DebitReversed"},
		"what is reversed":      {active(5000), active(0), account.Reverse{Movement: movementOf(deposited, 1000)}, "already-reversed", "position", "reversed"},
		"more than is left":     {active(5000), active(0), account.Reverse{Movement: movementOf(deposited, 400), Amount: decp("6.01"), Force: true}, "amount-above-movement", "amount", "only 6.00 EUR"},
		"more than was moved":   {active(5000), active(5000), account.Reverse{Movement: movementOf(sent, 0), Amount: decp("10.01"), Force: true}, "amount-above-movement", "amount", "only 10.00 EUR"},
		"nothing":               {active(5000), active(0), account.Reverse{Movement: movementOf(deposited, 0), Amount: decp("0")}, "amount-zero", "amount", "zero"},
		"too precise":           {active(5000), active(0), account.Reverse{Movement: movementOf(deposited, 0), Amount: decp("0.001")}, "amount-too-precise", "amount", "3 decimals"},
		"with a bad reason":     {active(5000), active(0), account.Reverse{Movement: movementOf(deposited, 0), Reason: "\x00"}, "text-invalid", "reason", "NUL"},
		"on suspended":          {suspended, active(0), account.Reverse{Movement: movementOf(deposited, 0), Force: true}, "account-suspended", "position", "suspended"},
		"on closed":             {closed, active(0), account.Reverse{Movement: movementOf(withdrawn, 0), Force: true}, "account-closed", "position", "closed"},
		"to suspended":          {active(5000), suspended, account.Reverse{Movement: movementOf(received, 0)}, "account-suspended", "position", bob.String()},
		"to closed":             {active(5000), closed, account.Reverse{Movement: movementOf(received, 0)}, "account-closed", "position", bob.String()},
		"a deposit, spent":      {active(999), active(0), account.Reverse{Movement: movementOf(deposited, 0)}, "insufficient-funds", "amount", "9.99 EUR available, 10.00 needed"},
		"a deposit, held":       {with(active(1000), holding(1)), active(0), account.Reverse{Movement: movementOf(deposited, 0)}, "insufficient-funds", "amount", "9.99 EUR available"},
		"a transfer, spent":     {active(0), active(999), account.Reverse{Movement: movementOf(sent, 0)}, "insufficient-funds", "amount", "9.99 EUR available"},
		"beyond what fits":      {active(math.MinInt64 + 1000), active(0), account.Reverse{Movement: movementOf(deposited, 0), Force: true}, "insufficient-funds", "amount", "available"},
		"a withdrawal, to most": {active(math.MaxInt64), active(0), account.Reverse{Movement: movementOf(withdrawn, 0)}, "balance-overflow", "amount", "beyond"},
		"a transfer, to most":   {active(1000), active(math.MaxInt64 - 999), account.Reverse{Movement: movementOf(received, 0), Force: true}, "balance-overflow", "amount", "beyond"},
	} {
		tt.command.Position = 7
		checkRefused(t, name, states{ada: tt.own, bob: tt.other}, tt.command, tt.code, tt.field, tt.detail)
	}
	if _, err := (states{ada: active(1)}).decide(account.Reverse{Position: 7}); !errors.Is(err, account.ErrMovementNotFound) {
		t.Errorf("nothing there: got %v", err)
	}
}

// After a forced reversal, an account can only receive money until the debt is paid.
func TestAfterForcedReversal(t *testing.T) {
	t.Parallel()
	below := states{ada: with(active(-1000), limit(200)), bob: active(100)}
	if got := below[ada].Available(); got != -800 {
		t.Errorf("available: %d", got)
	}
	checkRefused(t, "withdraw", below, account.Withdraw{Amount: dec("0.01")}, "insufficient-funds", "amount", "-8.00 EUR available")
	checkRefused(t, "transfer", below, account.Transfer{To: bob, Amount: dec("0.01")}, "insufficient-funds", "amount", "-8.00 EUR available")
	checkRefused(t, "close", below, account.Close{}, "balance-not-zero", "account_id", "-10.00 EUR")
	checkRefused(t, "lower the limit", below, account.Change{OverdraftLimit: decp("1")}, "limit-below-debit", "overdraft_limit", "10.00 EUR")
	checkDecided(t, "raise the limit", below, account.Change{OverdraftLimit: decp("3")},
		account.Entry{ada, account.OverdraftLimitChanged{OverdraftLimit: 300, Currency: eur}})
	checkDecided(t, "deposit", below, account.Deposit{Amount: dec("1")}, account.Entry{ada, account.MoneyDeposited{Amount: eurs(100)}})
}
