package readmodel_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/pgtest"
	"passbook/internal/readmodel"
)

// held is a row of holds.
type held struct {
	ID, AccountID               uuid.UUID
	Amount, Captured            int64
	Currency, Reference, Status string
	Metadata                    map[string]string
	ExpiresAt                   *time.Time
	PlacedAt                    time.Time
	PlacedPosition              int64
	EndedAt                     *time.Time
	EndedPosition               *int64
	TransferID                  uuid.NullUUID
}

func holdRows(t failer, pool *pgxpool.Pool) []held {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select hold_id, account_id, amount, captured, currency, reference, status::text, metadata,
expires_at, placed_at, placed_position, ended_at, ended_position, transfer_id from holds where generation = 1 order by hold_id`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[held])
	if err != nil {
		t.Fatalf("holds: %v", err)
	}
	for i := range all {
		if at := all[i].ExpiresAt; at != nil {
			*at = at.UTC()
		}
	}
	return all
}

// foldHolds returns the expected rows of a history.
func foldHolds(all []accountEvent, at time.Time) []held {
	var rows []*held
	find := func(id uuid.UUID) *held {
		return rows[slices.IndexFunc(rows, func(h *held) bool { return h.ID == id })]
	}
	end := func(id uuid.UUID, status string, position int64) *held {
		row := find(id)
		row.Status, row.EndedAt, row.EndedPosition = status, &at, &position
		return row
	}
	for i, h := range all {
		position := int64(i + 1)
		switch e := h.event.(type) {
		case account.HoldPlaced:
			row := &held{
				ID: e.HoldID, AccountID: h.id, Amount: e.Amount.Minor(), Currency: e.Amount.Currency().Code(), Reference: e.Reference,
				Status: "o", Metadata: e.Metadata.Map(), PlacedAt: at, PlacedPosition: position,
			}
			if !e.ExpiresAt.IsZero() {
				row.ExpiresAt = &e.ExpiresAt
			}
			rows = append(rows, row)
		case account.HoldCaptured:
			row := end(e.HoldID, "c", position)
			row.Captured = e.Amount.Minor()
			if sent, ok := all[i+1].event.(account.TransferSent); ok {
				row.TransferID = optional(sent.TransferID)
			}
		case account.HoldReleased:
			end(e.HoldID, "r", position)
		case account.HoldExpired:
			end(e.HoldID, "e", position)
		}
	}
	want := []held{}
	for _, row := range rows {
		want = append(want, *row)
	}
	slices.SortFunc(want, func(a, b held) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return want
}

// TestHoldsAreTheFold folds random histories in batches of several sizes, some of which end between a capture and its transfer.
func TestHoldsAreTheFold(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, _ := history(t, 60)
		want := foldHolds(all, appendAll(t, pool, all))
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			if st := project(t, pool, readmodel.Holds(), batch); st.State != "running" || st.Position != int64(len(all)) {
				t.Fatalf("batches of %d: %+v", batch, st)
			}
			if diff := cmp.Diff(want, holdRows(t, pool)); diff != "" {
				t.Fatalf("batches of %d (-want +got):\n%s", batch, diff)
			}
		}
	})
}

// TestHoldsWhateverTheBatch folds one history in batches of every size.
func TestHoldsWhateverTheBatch(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	transfer := func(n byte) uuid.UUID { return uuid.UUID{0: 1, 15: n} }
	all := []accountEvent{
		{first, account.AccountCreated{Owner: "a", Currency: eur}},
		{fourth, account.AccountCreated{Owner: "b", Currency: eur}},
		{first, account.MoneyDeposited{Amount: cents(100)}},
		{first, account.HoldPlaced{HoldID: first, Amount: cents(10), Reference: "r"}},
		{first, account.HoldPlaced{HoldID: second, Amount: cents(10)}},
		{first, account.HoldPlaced{HoldID: third, Amount: cents(10), ExpiresAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{first, account.HoldPlaced{HoldID: fourth, Amount: cents(10), Metadata: account.NewMetadata(map[string]string{"k": "v"})}},
		{first, account.HoldCaptured{HoldID: first, Amount: cents(10)}},
		{first, account.TransferSent{TransferID: transfer(1), To: fourth, Amount: cents(10)}},
		{fourth, account.TransferReceived{TransferID: transfer(1), From: first, Amount: cents(10)}},
		{first, account.TransferSent{TransferID: transfer(2), To: fourth, Amount: cents(1)}}, // of no hold
		{fourth, account.TransferReceived{TransferID: transfer(2), From: first, Amount: cents(1)}},
		{first, account.HoldCaptured{HoldID: second, Amount: cents(4), Released: 6}},
		{first, account.MoneyWithdrawn{Amount: cents(4)}},
		{first, account.TransferSent{TransferID: transfer(3), To: fourth, Amount: cents(1)}}, // of no hold
		{fourth, account.TransferReceived{TransferID: transfer(3), From: first, Amount: cents(1)}},
		{first, account.HoldExpired{HoldID: third, Amount: cents(10)}},
		{first, account.TransferSent{TransferID: transfer(4), To: fourth, Amount: cents(1)}}, // of no hold, after one has ended
		{fourth, account.TransferReceived{TransferID: transfer(4), From: first, Amount: cents(1)}},
		{first, account.HoldReleased{HoldID: fourth, Amount: cents(10)}},
		{first, account.TransferSent{TransferID: transfer(5), To: fourth, Amount: cents(1)}}, // likewise
		{fourth, account.TransferReceived{TransferID: transfer(5), From: first, Amount: cents(1)}},
	}
	want := foldHolds(all, appendAll(t, pool, all))
	for batch := 1; batch <= len(all); batch++ {
		project(t, pool, readmodel.Holds(), batch)
		if diff := cmp.Diff(want, holdRows(t, pool)); diff != "" {
			t.Errorf("batches of %d (-want +got):\n%s", batch, diff)
		}
	}
}

// TestHoldsRefuse applies impossible histories. Whatever the batch size, it expects the impossible event to be reported.
func TestHoldsRefuse(t *testing.T) {
	t.Parallel()
	placed := account.HoldPlaced{HoldID: first, Amount: cents(10)}
	for _, tt := range []struct {
		name   string
		events []account.Event
		at     int64
	}{
		{"placed twice", []account.Event{placed, placed}, 2},
		{"never placed", []account.Event{placed, account.HoldReleased{HoldID: second, Amount: cents(10)}}, 2},
		{"another amount", []account.Event{placed, account.HoldCaptured{HoldID: first, Amount: cents(10), Released: 1}}, 2},
		{"ended twice", []account.Event{placed, account.HoldExpired{HoldID: first, Amount: cents(10)}, account.HoldReleased{HoldID: first, Amount: cents(10)}}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			var all []accountEvent
			for _, e := range tt.events {
				all = append(all, accountEvent{first, e})
			}
			appendAll(t, pool, all)
			for batch := 1; batch <= len(all); batch++ {
				at, why := refused(t, pool, project(t, pool, readmodel.Holds(), batch))
				if at != tt.at || !strings.Contains(why, "hold") {
					t.Errorf("batches of %d: at %d, %s", batch, at, why)
				}
			}
		})
	}
}

// TestCapturesAreFoundByPosition finds the hold of a transfer among 50,000 of one account, with and without statistics.
func TestCapturesAreFoundByPosition(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, stage := range []struct{ name, before string }{
		{"without statistics", `alter table holds set (autovacuum_enabled = false);
insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, status, placed_at, placed_position, ended_at, ended_position)
select 1, gen_random_uuid(), '` + first.String() + `', 1, 1, 'EUR', '', 'c', now(), n, now(), n + 1 from generate_series(1, 50000) as n`},
		{"with statistics", `analyze holds`},
	} {
		if _, err := pool.Exec(t.Context(), stage.before); err != nil {
			t.Fatal(err)
		}
		if plan := explainCapture(t, pool); !strings.Contains(plan, "(ended_position = $3))") {
			t.Errorf("%s:\n%s", stage.name, plan)
		}
	}
}

func explainCapture(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{`set plan_cache_mode = force_generic_plan`, `prepare capture as ` + readmodel.CaptureSentSQL} {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	rows, _ := conn.Query(t.Context(), `explain (costs off) execute capture (1, $1, 25000, $2)`, pgx.QueryExecModeSimpleProtocol, first, second)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
