package subject_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/postgres"
	"passbook/internal/subject"
)

// TestKeysDatabaseGone closes the connections to the database of keys. Of the commands in one batch, those whose keys are not in memory
// fail, and the others are applied: with text for as long as an erasure elsewhere waits for this instance, without text for ever.
func TestKeysDatabaseGone(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	keys, pool := b.instance(t)
	s := b.writer(t, keys)
	ada := newPerson(t, s)
	began := time.Now()
	newPerson(t, s) // makes a key, so that the recent erasures have just been read
	pool.Close()
	eur, _ := money.LookupCurrency("EUR")
	stranger := command.Request{AccountID: uuid.New(), Command: account.Open{Owner: "New", Currency: eur}}
	wantUnavailable := func(what string, err error) {
		t.Helper()
		if !postgres.IsUnavailable(err) || !errors.Is(err, subject.ErrDatabase) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o := s.DoEach(t.Context(), []command.Request{deposit(t, ada.id, "in memory"), stranger, deposit(t, ada.id, "")})
	if o[0].Err != nil && time.Since(began) < time.Second || o[2].Err != nil {
		t.Errorf("with a key in memory: %v; without text: %v", o[0].Err, o[2].Err)
	}
	wantUnavailable("a new account", o[1].Err)
	var last command.Outcome
	for begin := time.Now(); last.Err == nil && time.Since(begin) < time.Minute; {
		last = s.DoEach(t.Context(), []command.Request{deposit(t, ada.id, "in memory")})[0]
	}
	wantUnavailable("when the key may have been destroyed", last.Err)
	must(t, s, deposit(t, ada.id, ""))
	var plain int
	if err := b.log.QueryRow(t.Context(), "select count(*) from events where payload ? 'owner' or payload ? 'reference'").Scan(&plain); err != nil || plain > 0 {
		t.Errorf("%d events have text that is not sealed, %v", plain, err)
	}
}

// lockWatcher is a Wrapper that counts what its instance wraps and unwraps, and how much of it while it holds the append lock.
type lockWatcher struct {
	subject.Wrapper

	log                *pgxpool.Pool
	instance           string
	all, whileItLocked atomic.Int64
}

func (w *lockWatcher) look(ctx context.Context) {
	const sql = `select count(*) from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and objid = 7018230141::bigint % 4294967296 and granted and application_name = $1`
	var held int64
	if err := w.log.QueryRow(ctx, sql, w.instance).Scan(&held); err == nil {
		w.all.Add(1)
		w.whileItLocked.Add(held)
	}
}

func (w *lockWatcher) Wrap(ctx context.Context, id uuid.UUID, key []byte) ([]byte, error) {
	w.look(ctx)
	return w.Wrapper.Wrap(ctx, id, key)
}

func (w *lockWatcher) Unwrap(ctx context.Context, id uuid.UUID, key []byte) ([]byte, error) {
	w.look(ctx)
	return w.Wrapper.Unwrap(ctx, id, key)
}

// TestKeysAreFetchedBeforeTheLock has two instances compete, so that they append with the lock held, and expects them to have the keys
// by then.
func TestKeysAreFetchedBeforeTheLock(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	eur, _ := money.LookupCurrency("EUR")
	var group sync.WaitGroup
	var watchers []*lockWatcher
	for _, name := range []string{"one", "two"} {
		w := &lockWatcher{Wrapper: master(t, 1), log: b.log, instance: name}
		watchers = append(watchers, w)
		keys := subject.NewKeys(open(t, b.keys), w, false)
		if err := keys.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		pool, err := postgres.NewPool(t.Context(), b.log.Config().ConnString(), postgres.WithApplicationName(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		s := start(t, eventstore.New(pool).Coded(subject.NewCodec(keys).PerEvent()))
		for range 2 {
			group.Go(func() {
				for begin := time.Now(); time.Since(begin) < time.Second; {
					if _, err := s.Do(t.Context(), command.Request{AccountID: uuid.New(), Command: account.Open{Owner: "Zoë", Currency: eur}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
	for _, w := range watchers {
		if w.whileItLocked.Load() > 0 || w.all.Load() == 0 {
			t.Errorf("%s handled %d keys, and held the lock for %d of them", w.instance, w.all.Load(), w.whileItLocked.Load())
		}
	}
}
