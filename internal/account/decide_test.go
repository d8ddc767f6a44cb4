package account_test

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

var (
	eur = mustCurrency("EUR")
	jpy = mustCurrency("JPY")
	ada = uuid.MustParse("0198c1f0-0000-7000-8000-000000000001")
	bob = uuid.MustParse("0198c1f0-0000-7000-8000-000000000002")

	labels = account.NewMetadata(map[string]string{"order": "A-17", "é": ""})
)

func mustCurrency(code string) money.Currency {
	c, ok := money.LookupCurrency(code)
	if !ok {
		panic(code)
	}
	return c
}

func dec(text string) money.Decimal {
	d, err := money.ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return d
}

func decp(text string) *money.Decimal {
	d := dec(text)
	return &d
}

func active(balance int64) account.State {
	return account.State{Status: account.Active, Owner: "Ada", Currency: eur, Balance: balance}
}

func with(s account.State, change func(*account.State)) account.State {
	change(&s)
	return s
}

func status(to account.Status) func(*account.State) {
	return func(s *account.State) { s.Status = to }
}

func limit(to int64) func(*account.State) {
	return func(s *account.State) { s.OverdraftLimit = to }
}

func TestDecide(t *testing.T) {
	t.Parallel()
	text500 := strings.Repeat("é", 500)
	for name, tt := range map[string]struct {
		state   account.State
		command account.Command
		want    account.Event
	}{
		"open":          {account.State{}, account.Open{Owner: "Ada", Currency: eur}, account.AccountCreated{Owner: "Ada", Currency: eur}},
		"open, trimmed": {account.State{}, account.Open{Owner: " Ada\t", Currency: eur}, account.AccountCreated{Owner: "Ada", Currency: eur}},
		"open with an overdraft": {
			account.State{},
			account.Open{Owner: "Ada", Currency: eur, OverdraftLimit: decp("50.5")},
			account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: 5050},
		},
		"open with no overdraft": {
			account.State{},
			account.Open{Owner: "Ada", Currency: jpy, OverdraftLimit: decp("0")},
			account.AccountCreated{Owner: "Ada", Currency: jpy},
		},
		"deposit": {
			active(0),
			account.Deposit{Amount: dec("12.34"), Currency: eur, Reference: "x"},
			account.MoneyDeposited{Amount: money.New(1234, eur), Reference: "x"},
		},
		"deposit, no currency given": {
			active(0), account.Deposit{Amount: dec("1")}, account.MoneyDeposited{Amount: money.New(100, eur)},
		},
		"deposit, longest reference": {
			active(0),
			account.Deposit{Amount: dec("1"), Reference: text500},
			account.MoneyDeposited{Amount: money.New(100, eur), Reference: text500},
		},
		"deposit up to the top": {
			active(math.MaxInt64 - 100),
			account.Deposit{Amount: dec("1")},
			account.MoneyDeposited{Amount: money.New(100, eur)},
		},
		"withdraw all": {
			active(100), account.Withdraw{Amount: dec("1.00")}, account.MoneyWithdrawn{Amount: money.New(100, eur)},
		},
		"withdraw down to the limit": {
			with(active(-100), limit(500)),
			account.Withdraw{Amount: dec("4")},
			account.MoneyWithdrawn{Amount: money.New(400, eur)},
		},
		"suspend": {active(1), account.Suspend{Reason: "fraud"}, account.AccountSuspended{"fraud"}},
		"reactivate": {
			with(active(1), status(account.Suspended)),
			account.Reactivate{Reason: "cleared"},
			account.AccountReactivated{"cleared"},
		},
		"close":           {active(0), account.Close{Reason: "done"}, account.AccountClosed{"done"}},
		"close suspended": {with(active(0), status(account.Suspended)), account.Close{}, account.AccountClosed{}},
	} {
		checkDecided(t, name, states{ada: tt.state}, tt.command, account.Entry{ada, tt.want})
	}
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	suspended, closed := with(active(100), status(account.Suspended)), with(active(0), status(account.Closed))
	open := func(change func(*account.Open)) account.Open {
		o := account.Open{Owner: "Ada", Currency: eur}
		change(&o)
		return o
	}
	for name, tt := range map[string]struct {
		state               account.State
		command             account.Command
		code, field, detail string
	}{
		"open without an owner":   {account.State{}, open(func(o *account.Open) { o.Owner = " \t" }), "text-empty", "owner", "owner must not be empty"},
		"open, owner too long":    {account.State{}, open(func(o *account.Open) { o.Owner = strings.Repeat("é", 201) }), "text-too-long", "owner", "200 characters"},
		"open, owner with NUL":    {account.State{}, open(func(o *account.Open) { o.Owner = "a\x00b" }), "text-invalid", "owner", "NUL"},
		"open, owner not UTF-8":   {account.State{}, open(func(o *account.Open) { o.Owner = "a\xff" }), "text-invalid", "owner", "UTF-8"},
		"open without currency":   {account.State{}, open(func(o *account.Open) { o.Currency = money.Currency{} }), "currency-unknown", "currency", "ISO 4217"},
		"open in a dead one":      {account.State{}, open(func(o *account.Open) { o.Currency = mustCurrency("HRK") }), "currency-unknown", "currency", "active"},
		"open, limit of 3 digits": {account.State{}, open(func(o *account.Open) { o.OverdraftLimit = decp("0.001") }), "amount-too-precise", "overdraft_limit", "overdraft_limit has 3 decimals; EUR has 2"},
		"open, limit too large":   {account.State{}, open(func(o *account.Open) { o.OverdraftLimit = decp("9223372036854775807") }), "amount-overflow", "overdraft_limit", "too large"},

		"deposit to suspended":     {suspended, account.Deposit{Amount: dec("1")}, "account-suspended", "account_id", "reactivate"},
		"deposit to closed":        {closed, account.Deposit{Amount: dec("1")}, "account-closed", "account_id", "closed"},
		"deposit in another":       {active(0), account.Deposit{Amount: dec("1"), Currency: jpy}, "currency-mismatch", "currency", "the account is in EUR, not JPY"},
		"deposit of nothing":       {active(0), account.Deposit{Amount: dec("0.00")}, "amount-zero", "amount", "more than zero"},
		"deposit too precise":      {active(0), account.Deposit{Amount: dec("12.345")}, "amount-too-precise", "amount", "amount has 3 decimals; EUR has 2"},
		"deposit too large":        {active(0), account.Deposit{Amount: dec("9223372036854775807")}, "amount-overflow", "amount", "at most 92233720368547758.07 EUR"},
		"deposit over the top":     {active(math.MaxInt64), account.Deposit{Amount: dec("0.01")}, "balance-overflow", "amount", "92233720368547758.07 EUR"},
		"deposit under the limit":  {with(active(0), limit(math.MaxInt64)), account.Deposit{Amount: dec("0.01")}, "balance-overflow", "amount", "overdraft"},
		"deposit, long reference":  {active(0), account.Deposit{Amount: dec("1"), Reference: strings.Repeat("é", 501)}, "text-too-long", "reference", "500"},
		"deposit, huge reference":  {active(0), account.Deposit{Amount: dec("1"), Reference: strings.Repeat("x", 1<<20)}, "text-too-long", "reference", "500"},
		"deposit, NUL reference":   {active(0), account.Deposit{Amount: dec("1"), Reference: "\x00"}, "text-invalid", "reference", "NUL"},
		"withdraw from suspended":  {suspended, account.Withdraw{Amount: dec("1")}, "account-suspended", "account_id", "suspended"},
		"withdraw from closed":     {closed, account.Withdraw{Amount: dec("1")}, "account-closed", "account_id", "closed"},
		"withdraw in another":      {active(100), account.Withdraw{Amount: dec("1"), Currency: jpy}, "currency-mismatch", "currency", "JPY"},
		"withdraw nothing":         {active(100), account.Withdraw{Amount: dec("0")}, "amount-zero", "amount", "zero"},
		"withdraw too much":        {active(1234), account.Withdraw{Amount: dec("20")}, "insufficient-funds", "amount", "insufficient funds: 12.34 EUR available, 20.00 needed"},
		"withdraw over the limit":  {with(active(-100), limit(500)), account.Withdraw{Amount: dec("4.01")}, "insufficient-funds", "amount", "4.00 EUR available, 4.01 needed"},
		"suspend suspended":        {suspended, account.Suspend{}, "account-suspended", "account_id", "suspended"},
		"suspend closed":           {closed, account.Suspend{}, "account-closed", "account_id", "closed"},
		"suspend, bad reason":      {active(0), account.Suspend{Reason: "\xff"}, "text-invalid", "reason", "UTF-8"},
		"reactivate active":        {active(0), account.Reactivate{}, "account-not-suspended", "account_id", "not suspended"},
		"reactivate closed":        {closed, account.Reactivate{}, "account-closed", "account_id", "closed"},
		"reactivate, long reason":  {suspended, account.Reactivate{Reason: strings.Repeat("x", 501)}, "text-too-long", "reason", "500"},
		"close with money":         {active(1), account.Close{}, "balance-not-zero", "account_id", "the balance is 0.01 EUR"},
		"close with debt":          {with(active(-1), limit(5)), account.Close{}, "balance-not-zero", "account_id", "-0.01 EUR"},
		"close closed":             {closed, account.Close{}, "account-closed", "account_id", "closed"},
		"close, bad reason":        {active(0), account.Close{Reason: "\x00"}, "text-invalid", "reason", "NUL"},
		"close suspended in money": {suspended, account.Close{}, "balance-not-zero", "account_id", "1.00 EUR"},
	} {
		checkRefused(t, name, states{ada: tt.state}, tt.command, tt.code, tt.field, tt.detail)
	}
}

// states are those that Decide may read; a missing entry is an account that was never opened.
type states map[uuid.UUID]account.State

func (s states) of(id uuid.UUID) account.State { return s[id] }

// noon is the time of decisions.
var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func (s states) decide(c account.Command) ([]account.Entry, error) {
	return account.Decide(noon, ada, c, s.of)
}

// checkDecided checks the events decided, and that Evolve accepts them. It returns the states after them.
func checkDecided(t *testing.T, name string, before states, c account.Command, want ...account.Entry) states {
	t.Helper()
	got, err := before.decide(c)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		return nil
	}
	after := maps.Clone(before)
	for _, e := range got {
		if after[e.AccountID], err = account.Evolve(after[e.AccountID], e.Event); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return after
}

func checkRefused(t *testing.T, name string, before states, c account.Command, code, field, detail string) {
	t.Helper()
	entries, err := before.decide(c)
	if entries != nil {
		t.Errorf("%s: decided %+v", name, entries)
	}
	var r *account.Refusal
	if !errors.As(err, &r) || r.Code != code || r.Field != field || !strings.Contains(r.Detail, detail) ||
		err.Error() != r.Detail {
		t.Errorf("%s: got %+v; want %s, %q, %q", name, err, code, field, detail)
	}
}

func TestDecideOnMissingOrExisting(t *testing.T) {
	t.Parallel()
	for _, c := range []account.Command{
		account.Deposit{Amount: dec("1")},
		account.Withdraw{Amount: dec("1")},
		account.Suspend{},
		account.Reactivate{},
		account.Close{},
		account.Change{},
		account.PlaceHold{Amount: dec("1")},
		account.CaptureHold{},
		account.ReleaseHold{},
		account.ExpireHold{},
	} {
		if _, err := (states{}).decide(c); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: got %v", c.Name(), err)
		}
	}
	for _, s := range []account.Status{account.Active, account.Suspended, account.Closed} {
		_, err := states{ada: with(active(0), status(s))}.decide(account.Open{Owner: "Ada", Currency: eur})
		if !errors.Is(err, account.ErrExists) {
			t.Errorf("open %s: got %v", s, err)
		}
	}
	if _, err := (states{ada: active(0)}).decide(nil); err == nil {
		t.Error("Decide accepted a nil command")
	}
}

func TestDecideTransfer(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0198c1f0-0000-7000-8000-0000000000ff")
	amount := money.New(1000, eur)
	checkDecided(t, "transfer", states{ada: active(1000), bob: active(0)},
		account.Transfer{TransferID: id, To: bob, Amount: dec("10"), Currency: eur, Reference: "rent", Metadata: labels},
		account.Entry{ada, account.TransferSent{TransferID: id, To: bob, Amount: amount, Reference: "rent", Metadata: labels}},
		account.Entry{bob, account.TransferReceived{TransferID: id, From: ada, Amount: amount, Reference: "rent", Metadata: labels}})
}

func TestDecideTransferRefuses(t *testing.T) {
	t.Parallel()
	yen := with(active(0), func(s *account.State) { s.Currency = jpy })
	for name, tt := range map[string]struct {
		from, to            account.State
		transfer            account.Transfer
		code, field, detail string
	}{
		"to itself":            {active(100), active(100), account.Transfer{To: ada, Amount: dec("1")}, "same-account", "to_account_id", "two different accounts"},
		"from suspended":       {with(active(100), status(account.Suspended)), active(0), account.Transfer{To: bob, Amount: dec("1")}, "account-suspended", "from_account_id", "suspended"},
		"to suspended":         {active(100), with(active(0), status(account.Suspended)), account.Transfer{To: bob, Amount: dec("1")}, "account-suspended", "to_account_id", "suspended"},
		"from closed":          {with(active(0), status(account.Closed)), active(0), account.Transfer{To: bob, Amount: dec("1")}, "account-closed", "from_account_id", "closed"},
		"to closed":            {active(100), with(active(0), status(account.Closed)), account.Transfer{To: bob, Amount: dec("1")}, "account-closed", "to_account_id", "closed"},
		"across currencies":    {active(100), yen, account.Transfer{To: bob, Amount: dec("1")}, "currency-mismatch", "to_account_id", "in JPY and the sending one in EUR"},
		"in a third currency":  {active(100), active(0), account.Transfer{To: bob, Amount: dec("1"), Currency: jpy}, "currency-mismatch", "currency", "EUR, not JPY"},
		"nothing":              {active(100), active(0), account.Transfer{To: bob, Amount: dec("0")}, "amount-zero", "amount", "zero"},
		"too precise":          {active(100), active(0), account.Transfer{To: bob, Amount: dec("0.001")}, "amount-too-precise", "amount", "3 decimals"},
		"too much":             {active(100), active(0), account.Transfer{To: bob, Amount: dec("1.01")}, "insufficient-funds", "amount", "1.00 EUR available"},
		"over the other's top": {active(100), active(math.MaxInt64), account.Transfer{To: bob, Amount: dec("1")}, "balance-overflow", "amount", "beyond"},
		"with a bad reference": {active(100), active(0), account.Transfer{To: bob, Amount: dec("1"), Reference: "\x00"}, "text-invalid", "reference", "NUL"},
	} {
		checkRefused(t, name, states{ada: tt.from, bob: tt.to}, tt.transfer, tt.code, tt.field, tt.detail)
	}
}

func TestDecideTransferOnMissingAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to account.State
		missing  uuid.UUID
	}{
		{account.State{}, active(0), ada},
		{active(100), account.State{}, bob},
		{account.State{}, account.State{}, ada},
	} {
		_, err := states{ada: tt.from, bob: tt.to}.decide(account.Transfer{To: bob, Amount: dec("1")})
		var nf *account.NotFoundError
		if !errors.As(err, &nf) || !errors.Is(err, account.ErrNotFound) || nf.AccountID != tt.missing ||
			!strings.Contains(err.Error(), tt.missing.String()) {
			t.Errorf("got %v, want %s not found", err, tt.missing)
		}
	}
}

func TestCommandNames(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]account.Command{
		"open": account.Open{}, "deposit": account.Deposit{}, "withdraw": account.Withdraw{},
		"suspend": account.Suspend{}, "reactivate": account.Reactivate{}, "close": account.Close{},
		"transfer": account.Transfer{}, "change": account.Change{}, "hold": account.PlaceHold{},
		"capture": account.CaptureHold{}, "release": account.ReleaseHold{}, "expire": account.ExpireHold{},
		"reverse": account.Reverse{},
	} {
		if c.Name() != want {
			t.Errorf("%T: got %s", c, c.Name())
		}
	}
}

// Decide allocates only what it returns. AllocsPerRun does not work in parallel tests.
func TestAllocations(t *testing.T) { //nolint:paralleltest // counts allocations of the whole process
	var command account.Command = account.Deposit{Amount: dec("12.34"), Reference: "salary"}
	state := active(0)
	of := func(uuid.UUID) account.State { return state }
	if n := testing.AllocsPerRun(100, func() {
		entries, err := account.Decide(noon, ada, command, of)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := account.Evolve(state, entries[0].Event); err != nil {
			t.Fatal(err)
		}
	}); n > 2 { // the event and the slice
		t.Errorf("Decide and Evolve: %v allocations", n)
	}
}
