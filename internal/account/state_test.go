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
		"hold before open":        {account.State{}, account.HoldPlaced{HoldID: hold1, Amount: one}, "never opened"},
		"change after close":      {with(active(0), status(account.Closed)), account.OwnerChanged{Owner: "Bob"}, "closed"},
		"limit in another":        {active(0), account.OverdraftLimitChanged{OverdraftLimit: 1, Currency: jpy}, "in JPY and the account in EUR"},
		"limit below zero":        {active(0), account.OverdraftLimitChanged{OverdraftLimit: -1, Currency: eur}, "negative"},
		"limit overflows":         {active(1), account.OverdraftLimitChanged{OverdraftLimit: math.MaxInt64, Currency: eur}, "overflows"},
		"hold in another":         {active(0), account.HoldPlaced{HoldID: hold1, Amount: money.New(1, jpy)}, "in JPY"},
		"hold of nothing":         {active(0), account.HoldPlaced{HoldID: hold1, Amount: money.New(0, eur)}, "not above zero"},
		"hold twice":              {reserved(never()), account.HoldPlaced{HoldID: hold1, Amount: one}, "open already"},
		"holds overflow":          {reserved(never()), account.HoldPlaced{HoldID: hold2, Amount: money.New(math.MaxInt64, eur)}, "overflows"},
		"holds and debt overflow": {active(-1), account.HoldPlaced{HoldID: hold2, Amount: money.New(math.MaxInt64, eur)}, "overflows"},
		"capture of another hold": {reserved(never()), account.HoldCaptured{HoldID: hold2, Amount: one, Released: 2999}, "not open"},
		"capture of too little":   {reserved(never()), account.HoldCaptured{HoldID: hold1, Amount: one, Released: 2998}, "not that of the hold"},
		"capture below zero":      {reserved(never()), account.HoldCaptured{HoldID: hold1, Amount: money.New(3001, eur), Released: -1}, "not that of the hold"},
		"capture overflows":       {reserved(never()), account.HoldCaptured{HoldID: hold1, Amount: one, Released: math.MaxInt64}, "not that of the hold"},
		"release of a part":       {reserved(never()), account.HoldReleased{HoldID: hold1, Amount: one}, "not that of the hold"},
		"expiry of another hold":  {reserved(never()), account.HoldExpired{HoldID: hold2, Amount: one}, "not open"},
		"closed with holds":       {reserved(never()), account.AccountClosed{}, "open holds"},
		"reversal in another":     {active(0), account.DebitReversed{account.Reversal{Amount: money.New(1, jpy)}}, "in JPY"},
		"reversal in overflows":   {active(math.MaxInt64), account.DebitReversed{account.Reversal{Amount: one}}, "overflows"},
		"reversal out overflows":  {active(-math.MaxInt64), account.CreditReversed{account.Reversal{Amount: one}}, "overflows"},
		"event by pointer":        {active(0), &account.AccountClosed{}, "*account.AccountClosed"},
	} {
		got, err := account.Evolve(tt.state, tt.event)
		if !errors.Is(err, account.ErrHistory) || !strings.Contains(err.Error(), tt.why) || !reflect.DeepEqual(got, tt.state) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// Evolve does not apply the rules of commands: a suspended account still accepts the movements in its history.
func TestEvolveDoesNotApplyRules(t *testing.T) {
	t.Parallel()
	s, err := account.Evolve(with(active(0), status(account.Suspended)), account.MoneyWithdrawn{Amount: money.New(5, eur)})
	if err != nil || s.Balance != -5 || s.Status != account.Suspended {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestEvolve(t *testing.T) {
	t.Parallel()
	five := money.New(5, eur)
	for name, tt := range map[string]struct {
		event account.Event
		after func(*account.State)
	}{
		"deposit":           {account.MoneyDeposited{Amount: five}, func(s *account.State) { s.Balance = 10005 }},
		"withdrawal":        {account.MoneyWithdrawn{Amount: five}, func(s *account.State) { s.Balance = 9995 }},
		"transfer out":      {account.TransferSent{Amount: five}, func(s *account.State) { s.Balance = 9995 }},
		"transfer in":       {account.TransferReceived{Amount: five}, func(s *account.State) { s.Balance = 10005 }},
		"credit reversed":   {account.CreditReversed{account.Reversal{Amount: five}}, func(s *account.State) { s.Balance = 9995 }},
		"debit reversed":    {account.DebitReversed{account.Reversal{Amount: five}}, func(s *account.State) { s.Balance = 10005 }},
		"suspended":         {account.AccountSuspended{}, status(account.Suspended)},
		"owner":             {account.OwnerChanged{Owner: "Bob"}, func(s *account.State) { s.Owner = "Bob" }},
		"limit":             {account.OverdraftLimitChanged{OverdraftLimit: 7, Currency: eur}, limit(7)},
		"metadata":          {account.MetadataChanged{Metadata: labels}, func(s *account.State) { s.Metadata = labels }},
		"capture of a part": {account.HoldCaptured{HoldID: hold1, Amount: money.New(1, eur), Released: 2999}, func(s *account.State) { s.Held, s.Holds = 0, nil }},
		"release":           {account.HoldReleased{HoldID: hold1, Amount: money.New(3000, eur)}, func(s *account.State) { s.Held, s.Holds = 0, nil }},
		"expiry":            {account.HoldExpired{HoldID: hold1, Amount: money.New(3000, eur)}, func(s *account.State) { s.Held, s.Holds = 0, nil }},
		"hold": {account.HoldPlaced{HoldID: hold2, Amount: five, ExpiresAt: noon}, func(s *account.State) {
			s.Held, s.Holds = 3005, append(s.Holds[:1:1], account.Hold{ID: hold2, Amount: 5, ExpiresAt: noon})
		}},
	} {
		got, err := account.Evolve(reserved(never()), tt.event)
		if want := with(reserved(never()), tt.after); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		}
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
