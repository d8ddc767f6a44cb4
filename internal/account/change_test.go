package account_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"passbook/internal/account"
	"passbook/internal/money"
)

func TestOpenWithMore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		command account.Open
		want    []account.Event
	}{
		"metadata": {
			account.Open{Owner: "Ada", Currency: eur, Metadata: labels},
			[]account.Event{account.AccountCreated{Owner: "Ada", Currency: eur, Metadata: labels}},
		},
		"a deposit": {
			account.Open{Owner: "Ada", Currency: eur, InitialDeposit: decp("12.34"), Metadata: labels},
			[]account.Event{account.AccountCreated{Owner: "Ada", Currency: eur, Metadata: labels}, account.MoneyDeposited{Amount: eurs(1234)}},
		},
		"a deposit and a limit": {
			account.Open{Owner: "Ada", Currency: jpy, OverdraftLimit: decp("7"), InitialDeposit: decp("9223372036854775800")},
			[]account.Event{
				account.AccountCreated{Owner: "Ada", Currency: jpy, OverdraftLimit: 7},
				account.MoneyDeposited{Amount: money.New(math.MaxInt64-7, jpy)},
			},
		},
	} {
		var want []account.Entry
		for _, e := range tt.want {
			want = append(want, account.Entry{ada, e})
		}
		if s := checkDecided(t, name, states{}, tt.command, want...)[ada]; s.Metadata != tt.command.Metadata {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, tt := range map[string]struct {
		command             account.Open
		code, field, detail string
	}{
		"a deposit of nothing":     {account.Open{InitialDeposit: decp("0")}, "amount-zero", "initial_deposit", "initial_deposit must be more than zero"},
		"a deposit too precise":    {account.Open{InitialDeposit: decp("0.001")}, "amount-too-precise", "initial_deposit", "initial_deposit has 3 decimals"},
		"a deposit too large":      {account.Open{InitialDeposit: decp("9223372036854775807")}, "amount-overflow", "initial_deposit", "too large"},
		"a deposit over the limit": {account.Open{InitialDeposit: decp("92233720368547758.07"), OverdraftLimit: decp("0.01")}, "balance-overflow", "initial_deposit", "initial_deposit 92233720368547758.07"},
		"bad metadata":             {account.Open{Metadata: account.NewMetadata(map[string]string{"": ""})}, "text-empty", "metadata", "key"},
	} {
		tt.command.Owner, tt.command.Currency = "Ada", eur
		checkRefused(t, name, states{}, tt.command, tt.code, tt.field, tt.detail)
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	marked := with(active(-500), func(s *account.State) {
		s.OverdraftLimit = 1000
		s.Metadata = account.NewMetadata(map[string]string{"a": "1", "b": "2"})
	})
	metadata := func(m map[string]string) account.Event {
		return account.MetadataChanged{Metadata: account.NewMetadata(m)}
	}
	for name, tt := range map[string]struct {
		state   account.State
		command account.Change
		want    []account.Event
	}{
		"owner":                         {marked, account.Change{Owner: new(" Ada King ")}, []account.Event{account.OwnerChanged{Owner: "Ada King"}}},
		"limit up":                      {marked, account.Change{OverdraftLimit: decp("20")}, []account.Event{account.OverdraftLimitChanged{OverdraftLimit: 2000, Currency: eur}}},
		"limit down to what is owed":    {marked, account.Change{OverdraftLimit: decp("5")}, []account.Event{account.OverdraftLimitChanged{OverdraftLimit: 500, Currency: eur}}},
		"limit down to the held amount": {with(marked, holding(300)), account.Change{OverdraftLimit: decp("8")}, []account.Event{account.OverdraftLimitChanged{OverdraftLimit: 800, Currency: eur}}},
		"limit to most":                 {marked, account.Change{OverdraftLimit: decp("92233720368547758.07")}, []account.Event{account.OverdraftLimitChanged{OverdraftLimit: math.MaxInt64, Currency: eur}}},
		"a key more":                    {marked, account.Change{Metadata: map[string]*string{"c": new("3")}}, []account.Event{metadata(map[string]string{"a": "1", "b": "2", "c": "3"})}},
		"a key less":                    {marked, account.Change{Metadata: map[string]*string{"a": nil, "z": nil}}, []account.Event{metadata(map[string]string{"b": "2"})}},
		"a key's text":                  {marked, account.Change{Metadata: map[string]*string{"a": new("")}}, []account.Event{metadata(map[string]string{"a": "", "b": "2"})}},
		"no key left":                   {marked, account.Change{Metadata: map[string]*string{"a": nil, "b": nil}}, []account.Event{metadata(nil)}},
		"an empty patch":                {marked, account.Change{Metadata: map[string]*string{}}, []account.Event{metadata(map[string]string{"a": "1", "b": "2"})}},
		"all of it, suspended": {
			with(marked, status(account.Suspended)),
			account.Change{Owner: new("Bob"), OverdraftLimit: decp("5"), Metadata: map[string]*string{"b": nil}},
			[]account.Event{
				account.OwnerChanged{Owner: "Bob"},
				account.OverdraftLimitChanged{OverdraftLimit: 500, Currency: eur},
				metadata(map[string]string{"a": "1"}),
			},
		},
	} {
		var want []account.Entry
		for _, e := range tt.want {
			want = append(want, account.Entry{ada, e})
		}
		checkDecided(t, name, states{ada: tt.state}, tt.command, want...)
	}
}

func TestChangeRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		state               account.State
		command             account.Change
		code, field, detail string
	}{
		"nothing":                     {active(0), account.Change{}, "nothing-to-change", "", "needed"},
		"closed":                      {with(active(0), status(account.Closed)), account.Change{Owner: new("Bob")}, "account-closed", "account_id", "closed"},
		"no owner":                    {active(0), account.Change{Owner: new(" ")}, "text-empty", "owner", "empty"},
		"long owner":                  {active(0), account.Change{Owner: new(strings.Repeat("é", 201))}, "text-too-long", "owner", "200"},
		"limit too precise":           {active(0), account.Change{OverdraftLimit: decp("0.001")}, "amount-too-precise", "overdraft_limit", "3 decimals"},
		"limit below what is owed":    {with(active(-500), limit(1000)), account.Change{OverdraftLimit: decp("4.99")}, "limit-below-debit", "overdraft_limit", "at least 5.00 EUR"},
		"limit below the held amount": {with(with(active(-500), limit(1000)), holding(100, 200)), account.Change{OverdraftLimit: decp("7.99")}, "limit-below-debit", "overdraft_limit", "at least 8.00 EUR"},
		"limit over the top":          {active(1), account.Change{OverdraftLimit: decp("92233720368547758.07")}, "balance-overflow", "overdraft_limit", "beyond"},
		"owner well, limit badly":     {with(active(-1), limit(1)), account.Change{Owner: new("Bob"), OverdraftLimit: decp("0")}, "limit-below-debit", "overdraft_limit", "0.01 EUR"},
		"a key too many": {
			with(active(0), func(s *account.State) { s.Metadata = account.NewMetadata(keys(16)) }),
			account.Change{Metadata: map[string]*string{"one more": new("")}},
			"metadata-too-large", "metadata", "16 keys",
		},
	} {
		checkRefused(t, name, states{ada: tt.state}, tt.command, tt.code, tt.field, tt.detail)
	}
}

func keys(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprint(i)] = "x"
	}
	return m
}

// Metadata has the same limits in every command.
func TestMetadataBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 500)
	commands := func(m account.Metadata) map[string]account.Command {
		patch := map[string]*string{}
		for key, value := range m.All() {
			patch[key] = &value
		}
		return map[string]account.Command{
			"deposit":  account.Deposit{Amount: dec("1"), Metadata: m},
			"withdraw": account.Withdraw{Amount: dec("1"), Metadata: m},
			"transfer": account.Transfer{To: bob, Amount: dec("1"), Metadata: m},
			"hold":     account.PlaceHold{HoldID: hold2, Amount: dec("1"), Metadata: m},
			"capture":  account.CaptureHold{HoldID: hold1, Metadata: m},
			"change":   account.Change{Metadata: patch},
		}
	}
	before := states{ada: reserved(never()), bob: active(0)}
	for name, m := range map[string]map[string]string{
		"most keys":  keys(16),
		"long texts": {strings.Repeat("é", 40): long},
		"odd texts":  {"1:2": "3:", ":": "", " ": "\n\t\u2028", "\U0001F600": `"\u0000"`},
	} {
		for _, c := range commands(account.NewMetadata(m)) {
			if _, err := before.decide(c); err != nil {
				t.Errorf("%s, %s: %v", name, c.Name(), err)
			}
		}
	}
	for name, tt := range map[string]struct {
		metadata     map[string]string
		code, detail string
	}{
		"a key too many":      {keys(17), "metadata-too-large", "16 keys"},
		"an empty key":        {map[string]string{"a": "b", "": "x"}, "text-empty", "a key of metadata must not be empty"},
		"a long key":          {map[string]string{strings.Repeat("é", 41): "x"}, "text-too-long", "a key of metadata must not be longer than 40"},
		"a long text":         {map[string]string{"k": long + "x"}, "text-too-long", "a value of metadata must not be longer than 500"},
		"a key with NUL":      {map[string]string{"a\x00": "x"}, "text-invalid", "a key of metadata must not contain the NUL"},
		"a text with NUL":     {map[string]string{"a": "\x00"}, "text-invalid", "a value of metadata must not contain the NUL"},
		"a key in Latin-1":    {map[string]string{"a\xff": "x"}, "text-invalid", "a key of metadata must be valid UTF-8"},
		"a text in Latin-1":   {map[string]string{"a": "\xe9"}, "text-invalid", "a value of metadata must be valid UTF-8"},
		"the last text is it": {map[string]string{"a": "1", "b": "2", "z": "\x00"}, "text-invalid", "NUL"},
	} {
		for _, c := range commands(account.NewMetadata(tt.metadata)) {
			checkRefused(t, name+", "+c.Name(), before, c, tt.code, "metadata", tt.detail)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	for _, m := range []map[string]string{nil, {"a": "1"}, {"b": "", "a": "é:1", "": "x"}, keys(20)} {
		got := account.NewMetadata(m)
		if !maps.Equal(got.Map(), m) || got != account.NewMetadata(maps.Clone(m)) || got.IsEmpty() != (len(m) == 0) {
			t.Errorf("%v: got %v", m, got.Map())
		}
		if changed := got.Map(); changed != nil {
			changed["changed"] = "x"
		}
		if !maps.Equal(got.Map(), m) {
			t.Errorf("%v: changed to %v", m, got.Map())
		}
	}
	if account.NewMetadata(map[string]string{}) != (account.Metadata{}) || (account.Metadata{}).Map() != nil {
		t.Error("empty metadata is not the zero value")
	}
	var order []string
	for key := range account.NewMetadata(map[string]string{"c": "", "a": "", "b": ""}).All() {
		if order = append(order, key); key == "b" {
			break
		}
	}
	if !reflect.DeepEqual(order, []string{"a", "b"}) {
		t.Errorf("got %v", order)
	}
}
