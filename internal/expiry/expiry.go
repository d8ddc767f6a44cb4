// Package expiry ends what has a time: it expires holds, and deletes idempotency keys that are old.
//
// A hold expires by a command like any other, and the rules decide it on the log. The read model of holds only says which holds to
// send the command for: it may be behind, and a hold that it has open may have ended. So a hold is expired once whatever goes wrong
// here. One instance at a time does the work, under an advisory lock, only so that it is not done twice; and the command has a key
// made of the hold's id, so that an instance that does not know what became of it sends it again and is told.
package expiry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/readmodel/column"
)

const (
	// holdsEvery is how long after a hold's time an instance looks for it, at most. While the database is unavailable it waits longer and
	// longer, up to holdsAtLeast.
	holdsEvery, holdsAtLeast = time.Second, time.Minute
	// endedAgain and failedAgain are how long a hold is left alone that has ended, though the read model does not know that yet, or
	// that could not be expired.
	endedAgain, failedAgain = time.Minute, 10 * time.Second
	// page is how many holds are expired in one call.
	page = 500
	// keysEvery is how often old idempotency keys are deleted.
	keysEvery = time.Minute
)

const (
	// The number is arbitrary. The lock is the transaction's, so that it works behind a pooler.
	lockSQL = `select pg_try_advisory_xact_lock(7018230143)`

	dueSQL = `select h.expires_at, h.hold_id, h.account_id
from live_generations p join holds h on h.generation = p.generation
where p.projection = '` + column.Holds + `' and h.status = 'o' and h.expires_at <= $1 and (h.expires_at, h.hold_id) > ($2, $3)
order by h.expires_at, h.hold_id limit $4`
)

// Commands takes commands; a *command.Service does.
type Commands interface {
	DoEach(ctx context.Context, requests []command.Request) []command.Outcome
}

// Keys deletes the idempotency keys that are older than age, and returns how many; an *eventstore.Store does.
type Keys interface {
	ExpireKeys(ctx context.Context, age time.Duration) (int64, error)
}

// Config is what a Worker is made of.
type Config struct {
	// Pool is of the database with the read models that are up to date, not of a replica.
	Pool     *pgxpool.Pool
	Commands Commands
	Keys     Keys
	// KeepKeys is how long idempotency keys are kept, to within a minute or so.
	KeepKeys time.Duration
	Logger   *slog.Logger
}

// Worker expires holds and idempotency keys.
type Worker struct {
	config Config
	// later says of holds that are due when to send a command for them again. ExpireHolds owns it.
	later map[uuid.UUID]time.Time
}

// New makes a Worker. Nothing happens until Run.
func New(c Config) *Worker { return &Worker{config: c, later: make(map[uuid.UUID]time.Time)} }

// Run works until ctx ends, and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { w.expireHolds(ctx); return nil })
	group.Go(func() error { w.expireKeys(ctx); return nil })
	return group.Wait()
}

// wait waits, and reports whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (w *Worker) expireHolds(ctx context.Context) {
	for pause := holdsEvery; wait(ctx, pause); {
		found, expired, err := w.ExpireHolds(ctx)
		if err != nil && ctx.Err() == nil {
			w.config.Logger.WarnContext(ctx, "expiring holds failed; retrying", "error", err)
		}
		if expired > 0 {
			w.config.Logger.DebugContext(ctx, "expired holds", "holds", expired)
		}
		if pause = min(2*pause, holdsAtLeast); err == nil || found > 0 {
			pause = holdsEvery
		}
	}
}

func (w *Worker) expireKeys(ctx context.Context) {
	for wait(ctx, keysEvery) {
		deleted, err := w.config.Keys.ExpireKeys(ctx, w.config.KeepKeys)
		if err != nil && ctx.Err() == nil {
			w.config.Logger.WarnContext(ctx, "deleting expired idempotency keys failed; retrying in a minute", "error", err)
		}
		if deleted > 0 {
			w.config.Logger.DebugContext(ctx, "deleted expired idempotency keys", "keys", deleted)
		}
	}
}

// due is a hold whose time has come.
type due struct {
	at        time.Time
	hold, own uuid.UUID
}

// ExpireHolds expires the holds whose time has come, by the clock of this instance as the rules go by, unless another instance is
// at it. It returns how many the read model has open, and how many of them it has expired. One that fails does not hold up the others;
// the error is that of one of them. It must not be called concurrently.
func (w *Worker) ExpireHolds(ctx context.Context) (found, expired int, err error) {
	tx, err := w.config.Pool.Begin(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("expiry: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // it writes nothing
	var locked bool
	if err := tx.QueryRow(ctx, lockSQL).Scan(&locked); err != nil || !locked {
		return 0, 0, wrap(err)
	}
	var last due
	earlier := w.later
	w.later = make(map[uuid.UUID]time.Time)
	for now := time.Now(); ; {
		rows, _ := tx.Query(ctx, dueSQL, now, last.at, last.hold, page) // an error is in rows too
		holds, dueErr := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
			return d, row.Scan(&d.at, &d.hold, &d.own)
		})
		if dueErr != nil {
			return found, expired, errors.Join(err, wrap(dueErr))
		}
		var sent []due
		for _, d := range holds {
			if at, ok := earlier[d.hold]; ok && now.Before(at) {
				w.later[d.hold] = at
			} else {
				sent = append(sent, d)
			}
		}
		for i, o := range w.config.Commands.DoEach(ctx, requests(sent)) {
			w.later[sent[i].hold] = now.Add(endedAgain)
			switch {
			case o.Err == nil && !o.Result.Replayed:
				expired++
			case o.Err != nil && !hasEnded(o.Err):
				err = wrap(o.Err)
				w.later[sent[i].hold] = now.Add(failedAgain)
			}
		}
		if found += len(holds); len(holds) < page || ctx.Err() != nil {
			return found, expired, err
		}
		last = holds[page-1]
	}
}

func requests(holds []due) []command.Request {
	requests := make([]command.Request, len(holds))
	for i, d := range holds {
		sum := sha256.Sum256(append([]byte("the expiry of hold "), d.hold[:]...))
		requests[i] = command.Request{AccountID: d.own, Command: account.ExpireHold{HoldID: d.hold}, Metadata: command.Metadata{Actor: "passbook"}, Key: &command.Key{
			Hash: [16]byte(sum[:16]), Fingerprint: [16]byte(sum[16:]), Refusal: func(err error) []byte { return []byte(err.Error()) },
		}}
	}
	return requests
}

// hasEnded reports whether an error says that a hold has ended already.
func hasEnded(err error) bool {
	if _, before := errors.AsType[*command.RefusedBeforeError](err); before {
		return true
	}
	refusal, refused := errors.AsType[*account.Refusal](err)
	return refused && refusal.Code == account.CodeHoldNotOpen
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("expiry: %w", err)
}
