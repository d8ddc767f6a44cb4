package readmodel_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/readmodel"
)

// line is a row of transactions.
type line struct {
	ID                                       uuid.UUID
	Position, Version, Amount, Balance, Held int64
	RecordedAt                               time.Time
	Counterparty, TransferID, HoldID         uuid.NullUUID
	Reversed                                 *int64
	Kind, Status, Reference                  string
	Metadata                                 map[string]string
}

func lines(t failer, pool *pgxpool.Pool) []line {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select account_id, position, version, amount, balance, held, recorded_at, counterparty,
transfer_id, hold_id, reversed_position, kind::text, status::text, reference, metadata from transactions where generation = 1 order by position`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[line])
	if err != nil {
		t.Fatalf("lines: %v", err)
	}
	return all
}

// fold returns the expected rows of a history, by the domain's Evolve.
func fold(t failer, all []accountEvent, at time.Time) []line {
	states, versions := make(map[uuid.UUID]account.State), make(map[uuid.UUID]int64)
	var want []line
	for i, h := range all {
		next, err := account.Evolve(states[h.id], h.event)
		if err != nil {
			t.Fatalf("evolve: %v", err)
		}
		states[h.id] = next
		versions[h.id]++
		l := line{
			ID: h.id, Position: int64(i + 1), Version: versions[h.id], Balance: next.Balance, Held: next.Held, RecordedAt: at,
			Status: next.Status.String()[:1],
		}
		l.of(h.event)
		want = append(want, l)
	}
	return want
}

// of sets the fields that come from the event.
func (l *line) of(event account.Event) {
	move := func(kind string, amount money.Amount, reference string, labels account.Metadata) {
		l.Kind, l.Amount, l.Reference, l.Metadata = kind, amount.Minor(), reference, labels.Map()
	}
	reverse := func(kind string, r account.Reversal) {
		move(kind, r.Amount, "", account.Metadata{})
		l.Counterparty, l.TransferID, l.Reversed = optional(r.Counterparty), optional(r.TransferID), &r.ReversedPosition
	}
	switch e := event.(type) {
	case account.MoneyDeposited:
		move("d", e.Amount, e.Reference, e.Metadata)
	case account.MoneyWithdrawn:
		move("w", e.Amount, e.Reference, e.Metadata)
	case account.TransferReceived:
		move("i", e.Amount, e.Reference, e.Metadata)
		l.Counterparty, l.TransferID = optional(e.From), optional(e.TransferID)
	case account.TransferSent:
		move("o", e.Amount, e.Reference, e.Metadata)
		l.Counterparty, l.TransferID = optional(e.To), optional(e.TransferID)
	case account.CreditReversed:
		reverse("r", e.Reversal)
	case account.DebitReversed:
		reverse("b", e.Reversal)
	case account.HoldPlaced:
		move("h", e.Amount, e.Reference, e.Metadata)
		l.HoldID = optional(e.HoldID)
	case account.HoldCaptured:
		move("c", e.Amount, "", account.Metadata{})
		l.HoldID = optional(e.HoldID)
	case account.HoldReleased:
		move("f", e.Amount, "", account.Metadata{})
		l.HoldID = optional(e.HoldID)
	case account.HoldExpired:
		move("e", e.Amount, "", account.Metadata{})
		l.HoldID = optional(e.HoldID)
	default:
		l.Kind = map[string]string{
			account.TypeAccountCreated: "O", account.TypeAccountSuspended: "S", account.TypeAccountReactivated: "R",
			account.TypeAccountClosed: "C", account.TypeOwnerChanged: "N", account.TypeOverdraftLimitChanged: "L",
			account.TypeMetadataChanged: "M",
		}[event.EventType()]
	}
}

func optional(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

// detail is a row of account_details.
type detail struct {
	ID              uuid.UUID
	Position        int64
	Owner, Currency string
	Limit           int64
	Metadata        map[string]string
}

func detailRows(t failer, pool *pgxpool.Pool) []detail {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select account_id, position, owner, currency, overdraft_limit, metadata
from account_details where generation = 1 order by position`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[detail])
	if err != nil {
		t.Fatalf("details: %v", err)
	}
	return all
}

// foldDetails returns the expected details of a history.
func foldDetails(all []accountEvent) (want []detail) {
	states := make(map[uuid.UUID]account.State)
	for i, h := range all {
		s, _ := account.Evolve(states[h.id], h.event)
		states[h.id] = s
		switch h.event.(type) {
		case account.AccountCreated, account.OwnerChanged, account.OverdraftLimitChanged, account.MetadataChanged:
			want = append(want, detail{h.id, int64(i + 1), s.Owner, s.Currency.Code(), s.OverdraftLimit, s.Metadata.Map()})
		}
	}
	return want
}

// TestTransactionsAreTheFold checks every running balance and all details of random histories, whatever the size of the batches.
func TestTransactionsAreTheFold(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, _ := history(t, 40)
		want := fold(t, all, appendAll(t, pool, all))
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			if st := project(t, pool, readmodel.Transactions(), batch); st.State != "running" || st.Position != int64(len(all)) {
				t.Fatalf("batches of %d: %+v", batch, st)
			}
			if diff := cmp.Diff(want, lines(t, pool)); diff != "" {
				t.Fatalf("batches of %d (-want +got):\n%s", batch, diff)
			}
			if diff := cmp.Diff(foldDetails(all), detailRows(t, pool)); diff != "" {
				t.Fatalf("batches of %d, details (-want +got):\n%s", batch, diff)
			}
		}
	})
}

// TestTransactionsAtTheEndsOfTheRange moves more in a batch than fits 64 bits, while each balance fits.
func TestTransactionsAtTheEndsOfTheRange(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const half = 1 << 62
	var all []accountEvent
	for _, e := range []account.Event{
		account.AccountCreated{Owner: "a", Currency: eur, OverdraftLimit: half},
		account.MoneyWithdrawn{Amount: cents(half)},
		account.MoneyDeposited{Amount: cents(math.MaxInt64)},
		account.MoneyWithdrawn{Amount: cents(math.MaxInt64)},
		account.MoneyDeposited{Amount: cents(half)},
		account.MoneyDeposited{Amount: cents(half - 1)},
	} {
		all = append(all, accountEvent{first, e})
	}
	want := fold(t, all, appendAll(t, pool, all))
	for batch := 1; batch <= len(all); batch++ {
		project(t, pool, readmodel.Transactions(), batch)
		if diff := cmp.Diff(want, lines(t, pool)); diff != "" {
			t.Errorf("batches of %d (-want +got):\n%s", batch, diff)
		}
	}
}

// TestTransactionsRefuse applies impossible histories. Whatever the batch size, it expects all events before the impossible one to be
// applied, and that one to be reported.
func TestTransactionsRefuse(t *testing.T) {
	t.Parallel()
	open := account.AccountCreated{Owner: "a", Currency: eur}
	for _, tt := range []struct {
		name   string
		events []account.Event
		damage string // done to the log, by hand
		at     int64
		says   string
	}{
		{"never opened", []account.Event{account.MoneyDeposited{Amount: cents(1)}}, "", 1, "have no row"},
		{"opened again", []account.Event{open, account.MoneyDeposited{Amount: cents(1)}, open}, "", 3, "opened by its event 3"},
		{
			"a version left out",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1)}, account.MoneyDeposited{Amount: cents(1)}},
			`update events set version = 7 where position = 3`, 3, "version",
		},
		{
			"a version given twice",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(1)}, account.MoneyDeposited{Amount: cents(1)}},
			`alter table events_1 drop constraint events_1_stream_version; update events set version = 2 where position = 3`, 3, "version",
		},
		{
			"a balance beyond 64 bits",
			[]account.Event{open, account.MoneyDeposited{Amount: cents(math.MaxInt64)}, account.MoneyDeposited{Amount: cents(1)}},
			"", 3, "out of range",
		},
		{
			"more released than held",
			[]account.Event{open, account.HoldPlaced{HoldID: first, Amount: cents(1)}, account.HoldReleased{HoldID: first, Amount: cents(2)}},
			"", 3, "out of range",
		},
		{"changed before it was opened", []account.Event{account.OwnerChanged{Owner: "b"}}, "", 1, "have no row"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			all := make([]accountEvent, len(tt.events))
			for i, e := range tt.events {
				all[i] = accountEvent{first, e}
			}
			appendAll(t, pool, all)
			if _, err := pool.Exec(t.Context(), tt.damage); err != nil {
				t.Fatal(err)
			}
			for batch := 1; batch <= len(all); batch++ {
				st := project(t, pool, readmodel.Transactions(), batch)
				if at, why := refused(t, pool, st); at != tt.at || !strings.Contains(why, tt.says) {
					t.Errorf("batches of %d: at %d, %s", batch, at, why)
				}
				if n := len(lines(t, pool)); int64(n) != tt.at-1 {
					t.Errorf("batches of %d: %d rows", batch, n)
				}
			}
		})
	}
}
