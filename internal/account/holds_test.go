package account_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

var (
	hold1 = uuid.MustParse("0198c1f0-0000-7000-8000-0000000000a1")
	hold2 = uuid.MustParse("0198c1f0-0000-7000-8000-0000000000a2")
)

// holding adds an open hold, without an expiry, for each amount in minor units.
func holding(amounts ...int64) func(*account.State) {
	return func(s *account.State) {
		for n, minor := range amounts {
			s.Held += minor
			s.Holds = append(s.Holds, account.Hold{ID: uuid.UUID{15: byte(n + 1)}, Amount: minor})
		}
	}
}

// reserved returns an account with 100.00, of which hold1 holds 30.00 until expires.
func reserved(expires time.Time) account.State {
	s := active(10000)
	s.Held, s.Holds = 3000, []account.Hold{{ID: hold1, Amount: 3000, ExpiresAt: expires}}
	return s
}

func never() time.Time { return time.Time{} }

func eurs(minor int64) money.Amount { return money.New(minor, eur) }

func TestPlaceHold(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		state    account.State
		command  account.PlaceHold
		want     account.HoldPlaced
		leftOver int64
	}{
		"of a part": {
			active(10000),
			account.PlaceHold{HoldID: hold1, Amount: dec("30"), Currency: eur, Reference: "room", Metadata: labels},
			account.HoldPlaced{HoldID: hold1, Amount: eurs(3000), Reference: "room", Metadata: labels},
			7000,
		},
		"of all":             {active(100), account.PlaceHold{HoldID: hold1, Amount: dec("1")}, account.HoldPlaced{HoldID: hold1, Amount: eurs(100)}, 0},
		"of the overdraft":   {with(active(0), limit(500)), account.PlaceHold{HoldID: hold1, Amount: dec("5")}, account.HoldPlaced{HoldID: hold1, Amount: eurs(500)}, 0},
		"of all of the most": {active(math.MaxInt64), account.PlaceHold{HoldID: hold1, Amount: dec("92233720368547758.07")}, account.HoldPlaced{HoldID: hold1, Amount: eurs(math.MaxInt64)}, 0},
		"beside another":     {reserved(never()), account.PlaceHold{HoldID: hold2, Amount: dec("70")}, account.HoldPlaced{HoldID: hold2, Amount: eurs(7000)}, 0},
		"until the next microsecond": {
			active(100),
			account.PlaceHold{HoldID: hold1, Amount: dec("1"), ExpiresAt: noon.Add(time.Microsecond)},
			account.HoldPlaced{HoldID: hold1, Amount: eurs(100), ExpiresAt: noon.Add(time.Microsecond)},
			0,
		},
		"until a time that the log keeps": {
			active(100),
			account.PlaceHold{HoldID: hold1, Amount: dec("1"), ExpiresAt: noon.Add(1999).In(time.FixedZone("", 3600))},
			account.HoldPlaced{HoldID: hold1, Amount: eurs(100), ExpiresAt: noon.Add(time.Microsecond)},
			0,
		},
	} {
		after := checkDecided(t, name, states{ada: tt.state}, tt.command, account.Entry{ada, tt.want})[ada]
		if after.Available() != tt.leftOver || after.Balance != tt.state.Balance ||
			after.Held != tt.state.Held+tt.want.Amount.Minor() {
			t.Errorf("%s: %+v", name, after)
		}
	}
}

func TestPlaceHoldRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		state               account.State
		command             account.PlaceHold
		code, field, detail string
	}{
		"on suspended":            {with(active(100), status(account.Suspended)), account.PlaceHold{Amount: dec("1")}, "account-suspended", "account_id", "suspended"},
		"on closed":               {with(active(0), status(account.Closed)), account.PlaceHold{Amount: dec("1")}, "account-closed", "account_id", "closed"},
		"in another currency":     {active(100), account.PlaceHold{Amount: dec("1"), Currency: jpy}, "currency-mismatch", "currency", "EUR, not JPY"},
		"of nothing":              {active(100), account.PlaceHold{Amount: dec("0")}, "amount-zero", "amount", "zero"},
		"too precise":             {active(100), account.PlaceHold{Amount: dec("0.001")}, "amount-too-precise", "amount", "3 decimals"},
		"of too much":             {active(100), account.PlaceHold{Amount: dec("1.01")}, "insufficient-funds", "amount", "1.00 EUR available, 1.01 needed"},
		"of held money":           {reserved(never()), account.PlaceHold{Amount: dec("70.01")}, "insufficient-funds", "amount", "70.00 EUR available, 70.01 needed"},
		"until now":               {active(100), account.PlaceHold{Amount: dec("1"), ExpiresAt: noon}, "expiry-in-past", "expires_at", "future"},
		"until just after now":    {active(100), account.PlaceHold{Amount: dec("1"), ExpiresAt: noon.Add(999)}, "expiry-in-past", "expires_at", "future"},
		"until before now":        {active(100), account.PlaceHold{Amount: dec("1"), ExpiresAt: noon.Add(-1)}, "expiry-in-past", "expires_at", "future"},
		"until the year 10000":    {active(100), account.PlaceHold{Amount: dec("1"), ExpiresAt: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -3600))}, "expiry-too-late", "expires_at", "after the year 9999"},
		"with a long reference":   {active(100), account.PlaceHold{Amount: dec("1"), Reference: strings.Repeat("x", 501)}, "text-too-long", "reference", "500"},
		"with bad metadata":       {active(100), account.PlaceHold{Amount: dec("1"), Metadata: account.NewMetadata(map[string]string{"": "x"})}, "text-empty", "metadata", "key"},
		"one too many":            {with(active(10000), holding(make1(account.MaxHolds)...)), account.PlaceHold{Amount: dec("1")}, "too-many-holds", "account_id", "1000 open holds"},
		"after a forced reversal": {active(-100), account.PlaceHold{Amount: dec("0.01")}, "insufficient-funds", "amount", "-1.00 EUR available"},
	} {
		if tt.command.HoldID == uuid.Nil {
			tt.command.HoldID = hold2
		}
		checkRefused(t, name, states{ada: tt.state}, tt.command, tt.code, tt.field, tt.detail)
	}
	_, err := states{ada: reserved(never())}.decide(account.PlaceHold{HoldID: hold1, Amount: dec("1")})
	if !errors.Is(err, account.ErrHoldExists) {
		t.Errorf("twice: got %v", err)
	}
}

// make1 returns n ones.
func make1(n int) []int64 {
	ones := make([]int64, n)
	for i := range ones {
		ones[i] = 1
	}
	return ones
}

func TestCaptureHold(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		state   account.State
		command account.CaptureHold
		want    []account.Entry
		balance int64
	}{
		"all of it, out": {
			reserved(never()),
			account.CaptureHold{HoldID: hold1, Reference: "bill", Metadata: labels},
			[]account.Entry{
				{ada, account.HoldCaptured{HoldID: hold1, Amount: eurs(3000)}},
				{ada, account.MoneyWithdrawn{Amount: eurs(3000), Reference: "bill", Metadata: labels}},
			},
			7000,
		},
		"a part, out, just before it expires": {
			reserved(noon.Add(1)),
			account.CaptureHold{HoldID: hold1, Amount: decp("20.00")},
			[]account.Entry{
				{ada, account.HoldCaptured{HoldID: hold1, Amount: eurs(2000), Released: 1000}},
				{ada, account.MoneyWithdrawn{Amount: eurs(2000)}},
			},
			8000,
		},
		"to another account": {
			reserved(never()),
			account.CaptureHold{HoldID: hold1, Amount: decp("29.99"), To: bob, TransferID: transfer, Reference: "bill", Metadata: labels},
			[]account.Entry{
				{ada, account.HoldCaptured{HoldID: hold1, Amount: eurs(2999), Released: 1}},
				{ada, account.TransferSent{TransferID: transfer, To: bob, Amount: eurs(2999), Reference: "bill", Metadata: labels}},
				{bob, account.TransferReceived{TransferID: transfer, From: ada, Amount: eurs(2999), Reference: "bill", Metadata: labels}},
			},
			7001,
		},
		"of money that a forced reversal took": {
			with(reserved(never()), func(s *account.State) { s.Balance = -500 }),
			account.CaptureHold{HoldID: hold1},
			[]account.Entry{
				{ada, account.HoldCaptured{HoldID: hold1, Amount: eurs(3000)}},
				{ada, account.MoneyWithdrawn{Amount: eurs(3000)}},
			},
			-3500,
		},
	} {
		before := states{ada: tt.state, bob: active(0)}
		after := checkDecided(t, name, before, tt.command, tt.want...)
		if s := after[ada]; s.Balance != tt.balance || s.Held != 0 || s.Holds != nil ||
			s.Balance+after[bob].Balance != tt.balance+int64(len(tt.want)-2)*2999 {
			t.Errorf("%s: %+v", name, after)
		}
		if again, err := after.decide(tt.command); !errors.Is(err, account.ErrHoldNotFound) {
			t.Errorf("%s, twice: got %+v, %v", name, again, err)
		}
	}
}

func TestCaptureHoldRefuses(t *testing.T) {
	t.Parallel()
	yen := with(active(0), func(s *account.State) { s.Currency = jpy })
	for name, tt := range map[string]struct {
		from, to            account.State
		command             account.CaptureHold
		code, field, detail string
	}{
		"of suspended":          {with(reserved(never()), status(account.Suspended)), active(0), account.CaptureHold{}, "account-suspended", "account_id", "suspended"},
		"of closed":             {with(active(0), status(account.Closed)), active(0), account.CaptureHold{}, "account-closed", "account_id", "closed"},
		"of expired":            {reserved(noon), active(0), account.CaptureHold{}, "hold-expired", "hold_id", "expired"},
		"of more than the hold": {reserved(never()), active(0), account.CaptureHold{Amount: decp("30.01")}, "amount-above-hold", "amount", "30.00 EUR is held, which is less than 30.01"},
		"of nothing":            {reserved(never()), active(0), account.CaptureHold{Amount: decp("0")}, "amount-zero", "amount", "zero"},
		"too precise":           {reserved(never()), active(0), account.CaptureHold{Amount: decp("0.001")}, "amount-too-precise", "amount", "3 decimals"},
		"with a bad reference":  {reserved(never()), active(0), account.CaptureHold{Reference: "\x00"}, "text-invalid", "reference", "NUL"},
		"with bad metadata":     {reserved(never()), active(0), account.CaptureHold{Metadata: account.NewMetadata(map[string]string{"": "x"})}, "text-empty", "metadata", "key"},
		"to itself":             {reserved(never()), active(0), account.CaptureHold{To: ada}, "same-account", "to_account_id", "another account"},
		"to suspended":          {reserved(never()), with(active(0), status(account.Suspended)), account.CaptureHold{To: bob}, "account-suspended", "to_account_id", "suspended"},
		"to closed":             {reserved(never()), with(active(0), status(account.Closed)), account.CaptureHold{To: bob}, "account-closed", "to_account_id", "closed"},
		"to another currency":   {reserved(never()), yen, account.CaptureHold{To: bob}, "currency-mismatch", "to_account_id", "JPY"},
		"over the other's top":  {reserved(never()), active(math.MaxInt64), account.CaptureHold{To: bob}, "balance-overflow", "amount", "beyond"},
	} {
		tt.command.HoldID = hold1
		checkRefused(t, name, states{ada: tt.from, bob: tt.to}, tt.command, tt.code, tt.field, tt.detail)
	}
	if _, err := (states{ada: reserved(never())}).decide(account.CaptureHold{HoldID: hold2}); !errors.Is(err, account.ErrHoldNotFound) {
		t.Errorf("another hold: got %v", err)
	}
	var missing *account.NotFoundError
	_, err := states{ada: reserved(never())}.decide(account.CaptureHold{HoldID: hold1, To: bob})
	if !errors.As(err, &missing) || missing.AccountID != bob {
		t.Errorf("to a missing account: got %v", err)
	}
}

func TestReleaseAndExpireHold(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		state   account.State
		command account.Command
		want    account.Event
	}{
		"release": {
			reserved(never()),
			account.ReleaseHold{HoldID: hold1, Reason: "left"},
			account.HoldReleased{HoldID: hold1, Amount: eurs(3000), Reason: "left"},
		},
		"release suspended": {
			with(reserved(never()), status(account.Suspended)),
			account.ReleaseHold{HoldID: hold1},
			account.HoldReleased{HoldID: hold1, Amount: eurs(3000)},
		},
		"release what has expired": {
			reserved(noon), account.ReleaseHold{HoldID: hold1}, account.HoldReleased{HoldID: hold1, Amount: eurs(3000)},
		},
		"expire": {
			reserved(noon), account.ExpireHold{HoldID: hold1}, account.HoldExpired{HoldID: hold1, Amount: eurs(3000)},
		},
		"expire suspended": {
			with(reserved(noon), status(account.Suspended)),
			account.ExpireHold{HoldID: hold1},
			account.HoldExpired{HoldID: hold1, Amount: eurs(3000)},
		},
	} {
		after := checkDecided(t, name, states{ada: tt.state}, tt.command, account.Entry{ada, tt.want})
		if s := after[ada]; s.Available() != 10000 || s.Balance != 10000 || s.Holds != nil {
			t.Errorf("%s: %+v", name, s)
		}
		for _, again := range []account.Command{account.ReleaseHold{HoldID: hold1}, account.ExpireHold{HoldID: hold1}} {
			if _, err := after.decide(again); !errors.Is(err, account.ErrHoldNotFound) {
				t.Errorf("%s, then %s: got %v", name, again.Name(), err)
			}
		}
	}
	for name, expires := range map[string]time.Time{"never expires": never(), "not yet": noon.Add(1)} {
		checkRefused(t, name, states{ada: reserved(expires)}, account.ExpireHold{HoldID: hold1}, "hold-not-expired", "hold_id", "not expired")
	}
	checkRefused(t, "bad reason", states{ada: reserved(never())},
		account.ReleaseHold{HoldID: hold1, Reason: "\xff"}, "text-invalid", "reason", "UTF-8")
}

// Held money is not available to anything else, and an account with a hold cannot be closed.
func TestHoldsLowerWhatIsAvailable(t *testing.T) {
	t.Parallel()
	before := states{ada: reserved(noon.Add(-1)), bob: active(0)}
	checkRefused(t, "withdraw", before, account.Withdraw{Amount: dec("70.01")}, "insufficient-funds", "amount", "70.00 EUR")
	checkRefused(t, "transfer", before, account.Transfer{To: bob, Amount: dec("70.01")}, "insufficient-funds", "amount", "70.00 EUR")
	checkDecided(t, "withdraw the rest", before, account.Withdraw{Amount: dec("70")}, account.Entry{ada, account.MoneyWithdrawn{Amount: eurs(7000)}})
	borrowed := with(active(0), limit(500))
	checkRefused(t, "close", states{ada: with(borrowed, holding(200, 300))}, account.Close{}, "holds-open", "account_id", "open holds (2)")
}

// A hold can be captured, whatever forced reversals there were before.
func TestForcedReversalLeavesRoomForHolds(t *testing.T) {
	t.Parallel()
	s := with(active(-1000), limit(5000))
	holding(100)(&s)
	all := account.Movement{AccountID: ada, Event: account.MoneyDeposited{Amount: eurs(math.MaxInt64 - 1100)}}
	after := checkDecided(t, "to the bottom", states{ada: s}, account.Reverse{Position: 7, Movement: all, Force: true},
		account.Entry{ada, account.CreditReversed{account.Reversal{ReversedPosition: 7, Amount: eurs(math.MaxInt64 - 1100), Forced: true}}})
	checkDecided(t, "capture", after, account.CaptureHold{HoldID: s.Holds[0].ID},
		account.Entry{ada, account.HoldCaptured{HoldID: s.Holds[0].ID, Amount: eurs(100)}},
		account.Entry{ada, account.MoneyWithdrawn{Amount: eurs(100)}})
	all.Event = account.MoneyDeposited{Amount: eurs(math.MaxInt64 - 1099)}
	checkRefused(t, "below the bottom", states{ada: s}, account.Reverse{Position: 7, Movement: all, Force: true},
		"insufficient-funds", "amount", "39.00 EUR available")
}

// Copies of a state share its holds, so adding or removing a hold must not change the copies.
func TestHoldsAreNotShared(t *testing.T) {
	t.Parallel()
	s := active(1000)
	var err error
	for _, id := range []byte{3, 1, 2} {
		if s, err = account.Evolve(s, account.HoldPlaced{HoldID: uuid.UUID{15: id}, Amount: eurs(int64(id))}); err != nil {
			t.Fatal(err)
		}
	}
	want := []account.Hold{{ID: uuid.UUID{15: 1}, Amount: 1}, {ID: uuid.UUID{15: 2}, Amount: 2}, {ID: uuid.UUID{15: 3}, Amount: 3}}
	for _, e := range []account.Event{
		account.HoldReleased{HoldID: uuid.UUID{15: 1}, Amount: eurs(1)},
		account.HoldPlaced{HoldID: uuid.UUID{15: 0}, Amount: eurs(1)},
		account.HoldPlaced{HoldID: uuid.UUID{15: 9}, Amount: eurs(1)},
	} {
		if _, err := account.Evolve(s, e); err != nil || !reflect.DeepEqual(s.Holds, want) || s.Held != 6 {
			t.Errorf("after %+v: %+v, %v", e, s, err)
		}
	}
	if h, ok := s.Hold(uuid.UUID{15: 2}); !ok || h != want[1] {
		t.Errorf("got %+v, %v", h, ok)
	}
	if h, ok := s.Hold(uuid.UUID{15: 4}); ok || h != (account.Hold{}) {
		t.Errorf("got %+v, %v", h, ok)
	}
}
