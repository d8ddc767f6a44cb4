package account_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"passbook/internal/account"
	"passbook/internal/money"
)

func TestEvolveRefusesImpossibleHistory(t *testing.T) {
	t.Parallel()
	one := money.New(1, eur)
	for name, tt := range map[string]struct {
		state account.State
		event account.Event
		why   string
	}{
		"deposit before open":     {account.State{}, account.MoneyDeposited{Amount: one}, "never opened"},
		"close before open":       {account.State{}, account.AccountClosed{}, "never opened"},
		"opened twice":            {active(0), account.AccountCreated{Owner: "Ada", Currency: eur}, "opened before"},
		"opened in no currency":   {account.State{}, account.AccountCreated{Owner: "Ada"}, "no currency"},
		"opened below zero":       {account.State{}, account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: -1}, "negative"},
		"deposit after close":     {with(active(0), status(account.Closed)), account.MoneyDeposited{Amount: one}, "closed"},
		"reactivated after close": {with(active(0), status(account.Closed)), account.AccountReactivated{}, "closed"},
		"another currency":        {active(0), account.MoneyDeposited{Amount: money.New(1, jpy)}, "in JPY and the account in EUR"},
		"deposit overflows":       {active(math.MaxInt64), account.MoneyDeposited{Amount: one}, "overflows"},
		"transfer overflows":      {with(active(0), limit(math.MaxInt64)), account.TransferReceived{Amount: one}, "overflows"},
		"withdrawal overflows":    {active(math.MinInt64), account.MoneyWithdrawn{Amount: one}, "overflows"},
		"transfer out overflows":  {active(math.MinInt64), account.TransferSent{Amount: one}, "overflows"},
		"deposit of nothing":      {active(0), account.MoneyDeposited{Amount: money.New(0, eur)}, "not above zero"},
		"withdrawal below zero":   {active(0), account.MoneyWithdrawn{Amount: money.New(-1, eur)}, "not above zero"},
		"event by pointer":        {active(0), &account.AccountClosed{}, "*account.AccountClosed"},
	} {
		got, err := account.Evolve(tt.state, tt.event)
		if !errors.Is(err, account.ErrHistory) || !strings.Contains(err.Error(), tt.why) || !reflect.DeepEqual(got, tt.state) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// A suspended account still takes what history says it took: Evolve does not judge.
func TestEvolveDoesNotJudge(t *testing.T) {
	t.Parallel()
	s, err := account.Evolve(with(active(0), status(account.Suspended)), account.MoneyWithdrawn{Amount: money.New(5, eur)})
	if err != nil || s.Balance != -5 || s.Status != account.Suspended {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestStatusString(t *testing.T) {
	t.Parallel()
	for s, want := range map[account.Status]string{
		account.Missing: "missing", account.Active: "active", account.Suspended: "suspended", account.Closed: "closed",
		9: "status(9)",
	} {
		if s.String() != want {
			t.Errorf("%d: got %s", s, s)
		}
	}
}
