package command_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
)

// commandStep is a command, and by how much it increases the versions of its accounts.
type commandStep struct {
	request  command.Request
	versions []int64
	events   []account.Event
}

// everyCommand returns a sequence of all commands, on an account that is overdrawn and on b, which receives money and is closed.
func everyCommand(b uuid.UUID) []commandStep {
	a, transferID := uuid.New(), uuid.New()
	limit := dec("10")
	amount := func(minor int64) money.Amount { return money.New(minor, eur) }
	return []commandStep{
		{
			request(a, account.Open{Owner: " Ada ", Currency: eur, OverdraftLimit: &limit}),
			[]int64{1},
			[]account.Event{account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: 1000}},
		},
		{
			request(b, account.Open{Owner: "Brünnhilde \"B\"", Currency: eur}),
			[]int64{1},
			[]account.Event{account.AccountCreated{Owner: "Brünnhilde \"B\"", Currency: eur}},
		},
		{
			request(a, account.Deposit{Amount: dec("12.34"), Currency: eur, Reference: "salary"}),
			[]int64{2},
			[]account.Event{account.MoneyDeposited{Amount: amount(1234), Reference: "salary"}},
		},
		{
			request(a, account.Withdraw{Amount: dec("20"), Reference: "rent"}),
			[]int64{3},
			[]account.Event{account.MoneyWithdrawn{Amount: amount(2000), Reference: "rent"}},
		},
		{
			request(a, account.Transfer{TransferID: transferID, To: b, Amount: dec("0.5"), Reference: "tip"}),
			[]int64{4, 2},
			[]account.Event{
				account.TransferSent{TransferID: transferID, To: b, Amount: amount(50), Reference: "tip"},
				account.TransferReceived{TransferID: transferID, From: a, Amount: amount(50), Reference: "tip"},
			},
		},
		{request(b, account.Suspend{Reason: "lost card"}), []int64{3}, []account.Event{account.AccountSuspended{Reason: "lost card"}}},
		{request(b, account.Reactivate{}), []int64{4}, []account.Event{account.AccountReactivated{}}},
		{withdraw(b, "0.50"), []int64{5}, []account.Event{account.MoneyWithdrawn{Amount: amount(50)}}},
		{request(b, account.Close{Reason: "moved"}), []int64{6}, []account.Event{account.AccountClosed{Reason: "moved"}}},
	}
}

func TestEveryCommand(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	position := int64(0)
	var last time.Time
	b := uuid.New()
	for _, step := range everyCommand(b) {

		result := must(t, s, step.request)
		ids := []uuid.UUID{step.request.AccountID, b} // b receives
		if result.Replayed || len(result.Events) != len(step.events) {
			t.Fatalf("%T: %+v", step.request.Command, result)
		}
		for i, r := range result.Events {
			position++
			if r.EventID.Version() != 7 || r.RecordedAt.Before(last) || r.RecordedAt.Location() != time.UTC {
				t.Errorf("%T: event %d is %+v, recorded after %s", step.request.Command, i, r, last)
			}
			last = r.RecordedAt
			want := command.Recorded{
				AccountID: ids[i], EventID: r.EventID, Position: position, Version: step.versions[i],
				RecordedAt: result.Events[0].RecordedAt, Event: step.events[i],
			}
			if !reflect.DeepEqual(r, want) {
				t.Errorf("%T: event %d is %+v, want %+v", step.request.Command, i, r, want)
			}
		}
		log := checkLog(t, pool)
		log.inLog(t, result)
	}
}

func TestRefusedCommandsLeaveNoEvents(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a, b, empty := open(t, s, "10"), open(t, s, "10"), open(t, s, "0")
	suspended, closed, dollars := open(t, s, "0"), open(t, s, "0"), uuid.New()
	must(t, s, request(suspended, account.Suspend{}))
	must(t, s, request(closed, account.Close{}))
	must(t, s, request(dollars, account.Open{Owner: "Ada", Currency: currency("USD")}))
	before := checkLog(t, pool)
	for _, test := range []struct {
		name    string
		request command.Request
		code    string
	}{
		{"overdraft", withdraw(a, "10.01"), account.CodeInsufficientFunds},
		{"suspended", deposit(suspended, "1"), account.CodeAccountSuspended},
		{"closed", deposit(closed, "1"), account.CodeAccountClosed},
		{"not suspended", request(a, account.Reactivate{}), account.CodeAccountNotSuspended},
		{"not empty", request(a, account.Close{}), account.CodeBalanceNotZero},
		{"currency", request(a, account.Deposit{Amount: dec("1"), Currency: currency("USD")}), account.CodeCurrencyMismatch},
		{"cents of a cent", deposit(a, "0.001"), account.CodeAmountTooPrecise},
		{"transfer beyond the balance", transfer(a, b, "10.01"), account.CodeInsufficientFunds},
		{"transfer from nothing", transfer(empty, b, "0.01"), account.CodeInsufficientFunds},
		{"transfer to itself", transfer(a, a, "1"), account.CodeSameAccount},
		{"transfer to a closed account", transfer(a, closed, "1"), account.CodeAccountClosed},
		{"transfer to another currency", transfer(a, dollars, "1"), account.CodeCurrencyMismatch},
	} {
		wantRefusal(t, s, keyed(test.request), test.code)
	}
	missing := uuid.New()
	for name, r := range map[string]command.Request{
		"deposit": deposit(missing, "1"), "transfer from": transfer(missing, a, "1"), "transfer to": transfer(a, missing, "1"),
		"close": request(missing, account.Close{}),
	} {
		_, err := s.Do(t.Context(), keyed(r))
		var which *account.NotFoundError
		if !errors.Is(err, account.ErrNotFound) || errors.As(err, &which) && which.AccountID != missing {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if _, err := s.Do(t.Context(), keyed(request(a, account.Open{Owner: "Eve", Currency: eur}))); !errors.Is(err, account.ErrExists) {
		t.Errorf("open again: %v, want ErrExists", err)
	}
	if after := checkLog(t, pool); len(after.events) != len(before.events) {
		t.Errorf("the refused commands left %d events", len(after.events)-len(before.events))
	}
}

func TestIfVersion(t *testing.T) {
	t.Parallel()
	s := start(t, pgtest.New(t))
	a, b := open(t, s, "10"), open(t, s, "10") // both at version 2
	missing := uuid.New()
	at := func(r command.Request, v int64) command.Request {
		r.IfVersions = []int64{v}
		return r
	}
	for name, test := range map[string]struct {
		request    command.Request
		have, want int64
	}{
		"behind":                {at(deposit(a, "1"), 1), 2, 1},
		"ahead":                 {at(deposit(a, "1"), 3), 2, 3},
		"none":                  {at(deposit(a, "1"), 0), 2, 0},
		"transfer":              {at(transfer(a, b, "1"), 7), 2, 7},
		"before the rules":      {at(withdraw(a, "100"), 1), 2, 1},
		"open where one exists": {at(request(a, account.Open{Owner: "Eve", Currency: eur}), 9), 2, 9},
	} {
		_, err := s.Do(t.Context(), test.request)
		var version *command.VersionError
		if !errors.As(err, &version) || version.Have != test.have || !slices.Equal(version.Want, []int64{test.want}) {
			t.Errorf("%s: %v, want a VersionError{%d, %d}", name, err, test.have, test.want)
		}
	}
	for name, r := range map[string]command.Request{
		"deposit": at(deposit(missing, "1"), 1), "at 0": at(deposit(missing, "1"), 0),
		"transfer": at(transfer(missing, a, "1"), 1), "open": at(request(missing, account.Open{Owner: "Ada", Currency: eur}), 1),
	} {
		_, err := s.Do(t.Context(), r)
		var which *account.NotFoundError
		if _, isTransfer := r.Command.(account.Transfer); !errors.Is(err, account.ErrNotFound) || errors.As(err, &which) != isTransfer {
			t.Errorf("%s on a missing account: %v, want ErrNotFound", name, err)
		}
	}
	never := deposit(a, "1")
	never.IfVersions = []int64{} // nothing but weak tags
	if _, err := s.Do(t.Context(), never); codeOf(err) != "version" {
		t.Errorf("no version at all: %v", err)
	}
	several := deposit(a, "1")
	several.IfVersions = []int64{7, 2}
	if got := must(t, s, several); got.Events[0].Version != 3 {
		t.Errorf("one of several versions: %+v", got)
	}
	if got := must(t, s, at(deposit(a, "1"), 3)); got.Events[0].Version != 4 {
		t.Errorf("at the right version: %+v", got)
	}
	if got := must(t, s, at(transfer(b, a, "1"), 2)); got.Events[0].Version != 3 || got.Events[1].Version != 5 {
		t.Errorf("a transfer at the sender's right version: %+v", got)
	}
}

// TestMetadata asserts that a command's metadata is stored with each of its events, and that text which jsonb cannot store fails
// neither the command nor others in the batch.
func TestMetadata(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a, b := open(t, s, "10"), open(t, s, "0")
	full := transfer(a, b, "1")
	full.Metadata = command.Metadata{CorrelationID: "c \"1\"", CausationID: "d", Actor: "Ünal", Traceparent: "00-1"}
	broken := deposit(a, "1")
	broken.Metadata = command.Metadata{CorrelationID: "a\x00b", Actor: "c\xffd"}
	for _, test := range []struct {
		request command.Request
		want    string
	}{
		{deposit(a, "1"), `{}`},
		{full, `{"actor": "Ünal", "traceparent": "00-1", "causation_id": "d", "correlation_id": "c \"1\""}`},
		{broken, `{"actor": "c�d", "correlation_id": "ab"}`},
	} {
		result := must(t, s, test.request)
		for _, r := range result.Events {
			events, err := eventstore.New(pool).Select(t.Context(), r.Position-1, r.Position, eventstore.Selection{}, 1)
			if err != nil || string(events[0].Metadata) != test.want {
				t.Errorf("%s has the metadata %s, want %s (%v)", r.Event.EventType(), events[0].Metadata, test.want, err)
			}
		}
	}
}
