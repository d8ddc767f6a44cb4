// Package expiry expires holds whose time has come, and deletes old idempotency keys.
//
// A hold expires by a command like any other, decided by the rules on the head of the log. The read model of holds only says which
// holds to send the command for. It may be behind, and list a hold as open that has ended; the rules then refuse the command. So a
// hold expires once, whatever fails here. An advisory lock lets one instance at a time do the work, which only saves doing it twice.
// The command's idempotency key is made of the hold's id: an instance that does not know the outcome sends the command again and
// gets the first result.
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
	// holdsEvery is how often an instance looks for holds to expire. While reading them fails, the interval doubles, up to
	// maxHoldsEvery.
	holdsEvery, maxHoldsEvery = time.Second, time.Minute
	// retryEnded is how long to wait before sending the command again for a hold that has ended but is still open in the read model,
	// and retryFailed for one that could not be expired.
	retryEnded, retryFailed = time.Minute, 10 * time.Second
	// page is how many holds one call expires at most.
	page = 500
	// keysEvery is how often old idempotency keys are deleted.
	keysEvery = time.Minute
	// keysStep is how many keys one statement deletes at most, so that it does not hold its locks for long.
	keysStep = 5_000
)

const (
	// The number is arbitrary. The lock belongs to the transaction, so it works behind a connection pooler.
	lockSQL = `select pg_try_advisory_xact_lock(7018230143)`

	dueSQL = `select h.expires_at, h.hold_id, h.account_id
from live_generations p join holds h on h.generation = p.generation
where p.projection = '` + column.Holds + `' and h.status = 'o' and h.expires_at <= $1 and (h.expires_at, h.hold_id) > ($2, $3)
order by h.expires_at, h.hold_id limit $4`

	// The subquery reads the clock once for all rows.
	expireKeysSQL = `delete from idempotency_keys where ctid = any (array(
select ctid from idempotency_keys where stored_at <= (select clock_timestamp() - $1::interval) limit $2))`
)

// Commands takes commands; a *command.Service does.
type Commands interface {
	DoEach(ctx context.Context, requests []command.Request) []command.Outcome
}

// Config is what a Worker needs. All fields are required.
type Config struct {
	// Pool is a pool of the primary, since the read models of a replica are behind.
	Pool     *pgxpool.Pool
	Commands Commands
	// KeepKeys is how long idempotency keys are kept, to within a minute or so.
	KeepKeys time.Duration
	Logger   *slog.Logger
}

// Worker expires holds and idempotency keys.
type Worker struct {
	config Config
	// later is when to send the command again, for holds that are due and had one sent. ExpireHolds owns it.
	later map[uuid.UUID]time.Time
}

// New returns a Worker, which does nothing until Run.
func New(c Config) *Worker { return &Worker{config: c, later: make(map[uuid.UUID]time.Time)} }

// Run works until ctx ends, and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { w.expireHolds(ctx); return nil })
	group.Go(func() error { w.expireKeys(ctx); return nil })
	return group.Wait()
}

// wait waits for d, and reports false when ctx ends first.
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
		if pause = min(2*pause, maxHoldsEvery); err == nil || found > 0 {
			pause = holdsEvery
		}
	}
}

func (w *Worker) expireKeys(ctx context.Context) {
	for wait(ctx, keysEvery) {
		deleted, err := w.ExpireKeys(ctx)
		if err != nil && ctx.Err() == nil {
			w.config.Logger.WarnContext(ctx, "deleting expired idempotency keys failed; retrying in a minute", "error", err)
		}
		if deleted > 0 {
			w.config.Logger.DebugContext(ctx, "deleted expired idempotency keys", "keys", deleted)
		}
	}
}

// ExpireKeys deletes the idempotency keys that were stored longer ago than they are kept, by the database's clock, and returns how many
// it deleted. It works in small steps, so it can be cancelled at any time.
func (w *Worker) ExpireKeys(ctx context.Context) (deleted int64, err error) {
	for {
		tag, err := w.config.Pool.Exec(ctx, expireKeysSQL, w.config.KeepKeys, keysStep)
		if err != nil {
			return deleted, fmt.Errorf("expiry: idempotency keys: %w", err)
		}
		deleted += tag.RowsAffected()
		if tag.RowsAffected() < keysStep {
			return deleted, nil
		}
	}
}

// due is a hold whose time has come.
type due struct {
	at            time.Time
	hold, account uuid.UUID
}

// ExpireHolds expires the holds whose time has come, by the clock of this instance, which the rules use too. It does nothing while
// another instance does it. It returns how many due holds the read model has open, and how many it has expired. A failure on one hold
// does not delay the others; the error is that of one of them. It must not be called concurrently.
func (w *Worker) ExpireHolds(ctx context.Context) (found, expired int, err error) {
	tx, err := w.config.Pool.Begin(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("expiry: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing to commit
	var locked bool
	if err := tx.QueryRow(ctx, lockSQL).Scan(&locked); err != nil || !locked {
		return 0, 0, wrap(err)
	}
	var last due
	earlier := w.later
	w.later = make(map[uuid.UUID]time.Time)
	for now := time.Now(); ; {
		rows, _ := tx.Query(ctx, dueSQL, now, last.at, last.hold, page) // CollectRows returns the error
		holds, dueErr := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
			return d, row.Scan(&d.at, &d.hold, &d.account)
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
			w.later[sent[i].hold] = now.Add(retryEnded)
			switch {
			case o.Err == nil && !o.Result.Replayed:
				expired++
			case o.Err != nil && !hasEnded(o.Err):
				err = wrap(o.Err)
				w.later[sent[i].hold] = now.Add(retryFailed)
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
		requests[i] = command.Request{AccountID: d.account, Command: account.ExpireHold{HoldID: d.hold}, Metadata: command.Metadata{Actor: "passbook"}, Key: &command.Key{
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
