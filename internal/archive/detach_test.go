package archive_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/archive"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

var options = archive.Options{Progress: quiet}

func amount(cents int64) money.Decimal {
	eur, _ := money.LookupCurrency("EUR")
	d, err := money.ParseDecimal(money.FormatMinor(cents, eur))
	if err != nil {
		panic(err)
	}
	return d
}

// books are accounts with a past: transfers and holds, of which some are open.
type books struct {
	url      string
	pool     *pgxpool.Pool
	log      *eventstore.Store
	accounts []uuid.UUID
	// transfers and holds have the account that they belong to.
	transfers, holds map[uuid.UUID]uuid.UUID
}

// newBooks returns books in partitions of the given size, and nothing in them.
func newBooks(t *testing.T, size int, codec eventstore.Codec) *books {
	t.Helper()
	b := &books{url: pgtest.URL(t), transfers: make(map[uuid.UUID]uuid.UUID), holds: make(map[uuid.UUID]uuid.UUID)}
	b.pool = newPool(t, b.url)
	b.log = eventstore.New(b.pool)
	if codec != nil {
		b.log = b.log.Coded(codec)
	}
	exec(t, b.pool, "drop table events_1", fmt.Sprintf("select extend_log(%d)", size),
		"insert into projections (id, version, generation, position) values ('balances', 1, 1, 0)")
	return b
}

func newPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// serve runs a write side, with nothing in its cache, until the test ends or stop is called.
func serve(t *testing.T, log *eventstore.Store) (_ *command.Service, stop func()) {
	t.Helper()
	s, err := command.New(command.Config{Store: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// live has so many random commands decided, twenty at a time; some are refused.
func (b *books) live(t *testing.T, commands int) {
	t.Helper()
	s, stop := serve(t, b.log)
	defer stop()
	for done := 0; done < commands; done += 20 {
		requests := make([]command.Request, 20)
		for i := range requests {
			requests[i] = b.command()
		}
		for i, o := range s.DoEach(t.Context(), requests) {
			if _, refused := errors.AsType[*account.Refusal](o.Err); o.Err != nil && !refused {
				t.Fatal(o.Err)
			}
			if o.Err == nil {
				b.remember(requests[i])
			}
		}
		exec(t, b.pool, "select extend_log(100)")
	}
	b.applied(t)
}

// applied has the projection be at the head.
func (b *books) applied(t *testing.T) {
	t.Helper()
	exec(t, b.pool, "update projections set position = (select max(position) from events)")
}

// command returns a random command.
func (b *books) command() command.Request {
	eur, _ := money.LookupCurrency("EUR")
	n := rand.IntN(20)
	if n == 0 || len(b.accounts) < 3 {
		return command.Request{AccountID: uuid.New(), Command: account.Open{Owner: "Åse Lind", Currency: eur, Metadata: account.NewMetadata(map[string]string{"a": "b"})}}
	}
	pick := func() uuid.UUID { return b.accounts[rand.IntN(len(b.accounts))] }
	r := command.Request{AccountID: pick()}
	switch {
	case n < 10:
		r.Command = account.Deposit{Amount: amount(rand.Int64N(1000) + 1), Reference: "rent"}
	case n < 12:
		r.Command = account.Withdraw{Amount: amount(rand.Int64N(500) + 1)}
	case n < 15:
		r.Command = account.Transfer{TransferID: uuid.New(), To: pick(), Amount: amount(rand.Int64N(300) + 1)}
	case n < 18 || len(b.holds) == 0:
		r.Command = account.PlaceHold{HoldID: uuid.New(), Amount: amount(rand.Int64N(200) + 1)}
	default:
		for hold, id := range b.holds { // any one
			r.AccountID, r.Command = id, account.ReleaseHold{HoldID: hold}
			if n == 18 {
				r.Command = account.CaptureHold{HoldID: hold}
			}
			break
		}
	}
	return r
}

func (b *books) remember(r command.Request) {
	switch c := r.Command.(type) {
	case account.Open:
		b.accounts = append(b.accounts, r.AccountID)
	case account.Transfer:
		b.transfers[c.TransferID] = r.AccountID
	case account.PlaceHold:
		b.holds[c.HoldID] = r.AccountID
	}
}

// rows returns all rows of the log as text.
func rows(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	found, _ := pool.Query(t.Context(), "select e::text from events e order by position") // an error is in the rows too
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// answers returns what a write side that has just started says to commands about everything that there is, as dry runs.
func (b *books) answers(t *testing.T) map[string]string {
	t.Helper()
	s, stop := serve(t, b.log)
	defer stop()
	var requests []command.Request
	ask := func(id uuid.UUID, c account.Command, ifVersions ...int64) {
		requests = append(requests, command.Request{AccountID: id, Command: c, DryRun: true, IfVersions: ifVersions})
	}
	for i, id := range b.accounts {
		ask(id, account.Deposit{Amount: amount(1)})
		ask(id, account.Withdraw{Amount: amount(1_000_000_00)})
		ask(id, account.Deposit{Amount: amount(1)}, 7)
		ask(id, account.Close{})
		ask(id, account.Open{Owner: "Ada"})
		ask(id, account.Transfer{TransferID: uuid.NewSHA1(id, nil), To: b.accounts[(i+1)%len(b.accounts)], Amount: amount(1)})
	}
	for transfer, id := range b.transfers {
		ask(id, account.Transfer{TransferID: transfer, To: b.accounts[0], Amount: amount(1)})
	}
	for hold, id := range b.holds {
		ask(id, account.CaptureHold{HoldID: hold})
		ask(id, account.ReleaseHold{HoldID: hold})
		for _, other := range b.accounts[:3] {
			ask(other, account.PlaceHold{HoldID: hold, Amount: amount(1)})
		}
	}
	all := make(map[string]string, len(requests))
	for i, o := range s.DoEach(t.Context(), requests) {
		version := int64(0)
		if len(o.Result.Events) > 0 {
			version = o.Result.Events[0].Version
		}
		r := &requests[i]
		all[fmt.Sprintf("%s %T %+v if %v", r.AccountID, r.Command, r.Command, r.IfVersions)] = fmt.Sprintf("version %d, %+v, %v", version, o.Result.After, o.Err)
	}
	return all
}

func (b *books) export(t *testing.T, dir string) {
	t.Helper()
	if _, err := archive.Export(t.Context(), b.pool, dir, quiet); err != nil {
		t.Fatal(err)
	}
}

func (b *books) detach(t *testing.T, dir string, o archive.Options) []archive.Detached {
	t.Helper()
	done, err := archive.Detach(t.Context(), b.pool, dir, o)
	if _, needed := errors.AsType[*archive.NeededError](err); err != nil && (!needed || o.To > 0) {
		t.Fatal(err)
	}
	return done
}

func (b *books) attach(t *testing.T, dir string, o archive.Options) []archive.Attached {
	t.Helper()
	done, err := archive.Attach(t.Context(), b.pool, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// begins asserts where the log begins, and that the schema is still what the migrations make.
func (b *books) begins(t *testing.T, want int64) {
	t.Helper()
	if first, err := b.log.Begin(t.Context()); err != nil || first != want {
		t.Errorf("the log begins at %d, not %d: %v", first, want, err)
	}
	if err := postgres.CheckSchema(t.Context(), b.pool); err != nil {
		t.Error(err)
	}
}

// TestDetachedPartitionsDecideTheSame detaches and attaches the partitions of random books: commands are decided as before throughout, and
// at the end the log has the same bytes.
func TestDetachedPartitionsDecideTheSame(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]bool{"tables kept": false, "tables dropped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dir := newBooks(t, 100, nil), t.TempDir()
			b.live(t, 600)
			b.export(t, dir)
			o := options
			o.Drop = drop
			before, answered := rows(t, b.pool), b.answers(t)
			check := func(when string) {
				t.Helper()
				if diff := cmp.Diff(answered, b.answers(t)); diff != "" {
					t.Errorf("%s: %s", when, diff)
				}
			}
			o.To = 250
			if done := b.detach(t, dir, o); len(done) != 2 || done[1].Name != "events_101" || done[1].Kept == 0 || done[1].Dropped != drop || done[1].Size == 0 {
				t.Errorf("detached: %+v", done)
			}
			b.begins(t, 201)
			check("two detached")
			o.To = 0
			b.detach(t, dir, o)
			check("all detached")
			if kept := rows(t, b.pool); len(kept) >= len(before)*3/4 {
				t.Errorf("%d of %d rows are left", len(kept), len(before))
			}
			b.live(t, 150)
			answered = b.answers(t)
			after := rows(t, b.pool)
			o.To = 150
			b.attach(t, dir, o)
			b.begins(t, 101)
			check("two attached")
			o.To = 0
			if done := b.attach(t, dir, o); len(done) != 1 || done[0].Loaded != drop || done[0].First != 1 {
				t.Errorf("attached: %+v", done)
			}
			b.begins(t, 1)
			check("all attached")
			whole := rows(t, b.pool)
			if diff := cmp.Diff(before, whole[:len(before)]); diff != "" {
				t.Error(diff)
			}
			if n := len(whole) - len(before); n == 0 || cmp.Diff(after[len(after)-n:], whole[len(before):]) != "" {
				t.Errorf("%d new rows differ", n)
			}
		})
	}
}
