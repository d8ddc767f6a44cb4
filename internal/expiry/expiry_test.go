package expiry_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/expiry"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// instance is an instance of the service: its write side, and its worker, which a test runs.
type instance struct {
	*expiry.Worker
	commands *command.Service
}

func newInstance(t *testing.T, url, name string) instance {
	t.Helper()
	pool := newPool(t, url, name)
	store := eventstore.New(pool)
	commands, err := command.New(command.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	group.Go(func() error { return commands.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = group.Wait()
	})
	return instance{
		expiry.New(expiry.Config{
			Pool: pool, Commands: commands, KeepKeys: time.Hour, Logger: slog.New(slog.DiscardHandler),
		}), commands,
	}
}

func newPool(t *testing.T, url, name string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithApplicationName(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func (i instance) must(t *testing.T, id uuid.UUID, c account.Command) {
	t.Helper()
	if _, err := i.commands.Do(t.Context(), command.Request{AccountID: id, Command: c}); err != nil {
		t.Fatal(err)
	}
}

// expire runs the worker once and checks how many holds it finds and expires.
func (i instance) expire(t *testing.T, found, expired int) {
	t.Helper()
	gotFound, gotExpired, err := i.ExpireHolds(t.Context())
	if gotFound != found || gotExpired != expired || err != nil {
		t.Errorf("found %d holds, expired %d (%v); want %d and %d", gotFound, gotExpired, err, found, expired)
	}
}

// open opens an account with money on it.
func (i instance) open(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.New()
	eur, err := money.ParseCurrency("EUR")
	if err != nil {
		t.Fatal(err)
	}
	i.must(t, id, account.Open{Owner: "Ada", Currency: eur, InitialDeposit: new(dec(t, "1000"))})
	return id
}

// hold places a hold that does not expire.
func (i instance) hold(t *testing.T, id uuid.UUID) uuid.UUID {
	t.Helper()
	c := account.PlaceHold{HoldID: uuid.New(), Amount: dec(t, "1")}
	i.must(t, id, c)
	return c.HoldID
}

// dueHold places a hold and waits until its time has come.
func (i instance) dueHold(t *testing.T, id uuid.UUID) uuid.UUID {
	t.Helper()
	for after := 20 * time.Millisecond; ; after *= 2 {
		c := account.PlaceHold{HoldID: uuid.New(), Amount: dec(t, "1"), ExpiresAt: time.Now().Add(after).Truncate(time.Microsecond)}
		_, err := i.commands.Do(t.Context(), command.Request{AccountID: id, Command: c})
		if refusal, refused := errors.AsType[*account.Refusal](err); refused && refusal.Code == account.CodeExpiryInPast {
			continue // the machine is slow
		}
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Until(c.ExpiresAt) + time.Millisecond)
		return c.HoldID
	}
}

func dec(t *testing.T, text string) money.Decimal {
	t.Helper()
	d, err := money.ParseDecimal(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// project applies the whole log to the read model of holds.
func project(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for _, statement := range []string{
		`insert into projections (id, version, generation) values ('holds', 1, 7) on conflict do nothing`,
		`insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, status, expires_at, placed_at, placed_position)
select 7, (payload->>'hold_id')::uuid, stream_id, (payload->>'amount')::bigint, 0, 'EUR', '', 'o', (payload->>'expires_at')::timestamptz,
       recorded_at, position
from events where type = 'HoldPlaced' on conflict do nothing`,
		`update holds h set status = lower(substr(e.type, 5, 1))::"char" from events e
where h.status = 'o' and e.type in ('HoldCaptured', 'HoldReleased', 'HoldExpired') and (e.payload->>'hold_id')::uuid = h.hold_id`,
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// ended counts the events that ended holds, by type, and asserts that none ended twice.
func ended(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := pool.Query(t.Context(), `select (array_agg(type))[1], count(*) from events
where type in ('HoldCaptured', 'HoldReleased', 'HoldExpired') group by payload->>'hold_id'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	byType := make(map[string]int)
	for rows.Next() {
		var name string
		var times int
		if err := rows.Scan(&name, &times); err != nil {
			t.Fatal(err)
		}
		if byType[name]++; times != 1 {
			t.Errorf("a hold has ended %d times", times)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return byType
}

// TestExpiresWhatIsDue expects the worker to expire the holds whose time has come and no others, also when the read model is behind.
func TestExpiresWhatIsDue(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a, b := newInstance(t, url, "a"), newInstance(t, url, "b")
	id := a.open(t)
	a.expire(t, 0, 0)
	a.hold(t, id)
	a.must(t, id, account.PlaceHold{Amount: dec(t, "1"), ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Microsecond)})
	released := a.dueHold(t, id)
	a.dueHold(t, id)
	a.dueHold(t, id)
	project(t, pool)
	b.must(t, id, account.ReleaseHold{HoldID: released})

	b.expire(t, 3, 2)
	a.expire(t, 3, 0) // the read model is behind: one was released, and the others have expired
	b.expire(t, 3, 0)
	project(t, pool)
	a.expire(t, 0, 0)
	if got := ended(t, pool); got["HoldExpired"] != 2 || got["HoldReleased"] != 1 {
		t.Errorf("ended: %v", got)
	}
	var actor, status string
	const lastSQL = `select metadata->>'actor', type from events order by position desc limit 1`
	if err := pool.QueryRow(t.Context(), lastSQL).Scan(&actor, &status); err != nil || actor != "passbook" || status != "HoldExpired" {
		t.Errorf("%s by %q: %v", status, actor, err)
	}
}

// TestExpiresInPages expires more holds than one call takes. One cannot be expired: a newer release wrote an event of its account.
func TestExpiresInPages(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a := newInstance(t, url, "a")
	unreadable := a.open(t)
	a.dueHold(t, unreadable)
	if _, err := pool.Exec(t.Context(), `insert into events
select 4, stream_id, 4, gen_random_uuid(), 'AccountRenamed', 1, '{}', '{}', recorded_at from events where position = 3`); err != nil {
		t.Fatal(err)
	}
	b := newInstance(t, url, "b")
	id := b.open(t)
	const holds = 999
	requests := make([]command.Request, holds)
	at := time.Now().Add(10 * time.Second).Truncate(time.Microsecond)
	for i := range requests {
		requests[i] = command.Request{AccountID: id, Command: account.PlaceHold{Amount: dec(t, "1"), ExpiresAt: at}}
	}
	if _, err := b.commands.DoAll(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	project(t, pool)
	<-time.After(time.Until(at) + time.Millisecond)
	if found, expired, err := b.ExpireHolds(t.Context()); found != holds+1 || expired != holds || err == nil {
		t.Errorf("found %d, expired %d: %v", found, expired, err)
	}
	if got := ended(t, pool); got["HoldExpired"] != holds {
		t.Errorf("ended: %v", got)
	}
}

// TestOneInstanceAtATime expects a second instance to do nothing while the first waits for its append.
func TestOneInstanceAtATime(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a, b := newInstance(t, url, "a"), newInstance(t, url, "b")
	a.dueHold(t, a.open(t))
	project(t, pool)
	release := pgtest.HoldAppendLock(t, pool)
	var group errgroup.Group
	group.Go(func() error {
		_, _, err := a.ExpireHolds(t.Context())
		return err
	})
	waitForAppend(t, pool)
	b.expire(t, 0, 0)
	release()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	b.expire(t, 1, 0)
	if got := ended(t, pool); got["HoldExpired"] != 1 {
		t.Errorf("ended: %v", got)
	}
}

// TestKilledBeforeTheAppend terminates only the connections of an instance that has decided to expire a hold and waits to append that.
// Another instance expires the hold; the first, which goes on, does not.
func TestKilledBeforeTheAppend(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a, b := newInstance(t, url, "killed"), newInstance(t, url, "b")
	a.dueHold(t, a.open(t))
	project(t, pool)
	release := pgtest.HoldAppendLock(t, pool)
	failed := make(chan error)
	go func() {
		_, _, err := a.ExpireHolds(context.Background())
		failed <- err
	}()
	waitForAppend(t, pool)
	const kill = `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'killed'`
	if _, err := pool.Exec(t.Context(), kill); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the instance was not killed")
	}
	release()
	if got := ended(t, pool); got["HoldExpired"] != 0 {
		t.Fatalf("ended: %v", got)
	}
	b.expire(t, 1, 1)
	a.expire(t, 1, 0)
	if got := ended(t, pool); got["HoldExpired"] != 1 {
		t.Errorf("ended: %v", got)
	}
}

// TestExpiryRacesCaptures lets two instances expire holds while clients of both capture and release them at about the same time.
func TestExpiryRacesCaptures(t *testing.T) {
	t.Parallel()
	const holds, clients = 200, 4
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	instances := []instance{newInstance(t, url, "a"), newInstance(t, url, "b")}
	id := instances[0].open(t)
	begin := time.Now().Add(5 * time.Second).Truncate(time.Microsecond)
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * 20 * time.Millisecond) }
	var ids []uuid.UUID
	var requests []command.Request
	for i := range holds {
		ids = append(ids, uuid.New())
		place := account.PlaceHold{HoldID: ids[i], Amount: dec(t, "1"), ExpiresAt: at(i)}
		requests = append(requests, command.Request{AccountID: id, Command: place})
	}
	if _, err := instances[0].commands.DoAll(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	project(t, pool)
	working, done := context.WithCancel(t.Context())
	defer done()
	var workers, group errgroup.Group
	for _, i := range instances {
		workers.Go(func() error {
			for working.Err() == nil {
				if _, _, err := i.ExpireHolds(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for client := range clients {
		random := rand.New(rand.NewPCG(uint64(client), 1))
		group.Go(func() error {
			for n := client; n < holds; n += clients { // each about when it expires
				hold := ids[n]
				<-time.After(time.Until(at(n).Add(time.Duration(random.IntN(200)-180) * time.Millisecond)))
				c := account.Command(account.CaptureHold{HoldID: hold})
				if random.IntN(3) == 0 {
					c = account.ReleaseHold{HoldID: hold}
				}
				_, _ = instances[random.IntN(2)].commands.Do(t.Context(), command.Request{AccountID: id, Command: c})
			}
			return nil
		})
	}
	_ = group.Wait()
	done()
	if err := workers.Wait(); err != nil {
		t.Error(err)
	}
	project(t, pool)
	for _, i := range instances { // holds that neither has expired yet
		if _, _, err := i.ExpireHolds(t.Context()); err != nil {
			t.Error(err)
		}
	}
	got := ended(t, pool)
	t.Logf("ended: %v", got)
	if got["HoldCaptured"]+got["HoldReleased"]+got["HoldExpired"] != holds || got["HoldExpired"] == 0 || got["HoldExpired"] == holds {
		t.Errorf("of %d holds ended: %v", holds, got)
	}
}

// TestRunExpires runs the worker as the service does.
func TestRunExpires(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a := newInstance(t, url, "a")
	a.dueHold(t, a.open(t))
	project(t, pool)
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return a.Run(ctx) })
	for deadline := time.Now().Add(time.Minute); len(ended(t, pool)) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the hold has not expired")
		}
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// TestEndedHoldsDelayNoOther lets the worker find an ended hold for some seconds, since the read model is behind, before another
// hold is due.
func TestEndedHoldsDelayNoOther(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url, "test")
	a := newInstance(t, url, "a")
	id := a.open(t)
	released := a.dueHold(t, id)
	at := time.Now().Add(3200 * time.Millisecond).Truncate(time.Microsecond)
	a.must(t, id, account.PlaceHold{Amount: dec(t, "1"), ExpiresAt: at})
	project(t, pool)
	a.must(t, id, account.ReleaseHold{HoldID: released})
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return a.Run(ctx) })
	for deadline := time.Now().Add(time.Minute); ended(t, pool)["HoldExpired"] == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the hold has not expired")
		}
	}
	if late := time.Since(at); late > 2500*time.Millisecond {
		t.Errorf("the hold expired %s late", late)
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func waitForAppend(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var waits bool
		if err := pool.QueryRow(t.Context(), pgtest.AppendWaits).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no append is waiting")
		}
	}
}
