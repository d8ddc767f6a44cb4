package subject

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
)

const (
	// finishEvery is how often an instance looks for erasures that were interrupted.
	finishEvery = 5 * time.Second
	// finalAfter is when an erasure is looked at for the last time: no command that was decided before it is in flight then.
	finalAfter = time.Minute
	// plainTimeout limits the search for plain text.
	plainTimeout = 5 * time.Second
	// page is how many subjects one step reads at most.
	page = 1000
)

// The indexes are in migrations/00008_subjects.sql. A subject without accounts in its name is the account of the same id.
const (
	accountsSQL = `with accounts as (
    select stream_id from events where type = 'AccountCreated' and payload ? 'subject_id' and payload ->> 'subject_id' = $1::uuid::text
    union
    select stream_id from events where stream_id = $1 and version = 1 and not payload ? 'subject_id'
)
select a.stream_id, e.position
from accounts a left join lateral (select position from events
    where type = 'SubjectErased' and payload ->> 'subject_id' = $1::uuid::text and stream_id = a.stream_id) as e on true
order by 1`

	// Text that was written while sealing was off.
	plainSQL = `select exists (select from events where stream_id = any ($1)
    and (payload ?| '{reference,reason}' or payload -> 'metadata' <> '{}' or payload ->> 'owner' <> '' or metadata -> 'state' ->> 'owner' <> ''))`

	erasedSubjectsSQL = `select distinct payload ->> 'subject_id' from events
where type = 'SubjectErased' and payload ->> 'subject_id' > $1 order by 1 limit $2`
)

// ErrNotFound means that there is no account of a subject, and no key.
var ErrNotFound = errors.New("subject not found")

// Commands takes commands; a *command.Service does.
type Commands interface {
	DoEach(ctx context.Context, requests []command.Request) []command.Outcome
}

// Eraser erases subjects. It is safe for concurrent use.
type Eraser struct {
	keys     *Keys
	log      *pgxpool.Pool
	commands Commands
	// transient reports whether an error is that of an unavailable database.
	transient func(error) bool
	logger    *slog.Logger

	oldest atomic.Int64 // the age of the oldest unfinished erasure, in nanoseconds
}

// NewEraser returns an Eraser for the log in the pool's database, which must be the primary.
func NewEraser(keys *Keys, log *pgxpool.Pool, commands Commands, transient func(error) bool, logger *slog.Logger) *Eraser {
	return &Eraser{keys: keys, log: log, commands: commands, transient: transient, logger: logger}
}

// OldestUnfinished returns how long ago the oldest erasure began that had not been finished when RunOnce last looked, 0 if all were.
// A minute is usual: then an erasure is looked at for the last time.
func (e *Eraser) OldestUnfinished() time.Duration { return time.Duration(e.oldest.Load()) }

// Erasure is the outcome of an erasure.
type Erasure struct {
	SubjectID uuid.UUID
	// Accounts are all accounts of the subject.
	Accounts []uuid.UUID
	// Position is the last of their SubjectErased events, 0 if the subject has no account.
	Position int64
	// PlainText reports that the log has text of the accounts from a time when sealing was off, or that looking for it failed. It
	// cannot be erased.
	PlainText bool
}

// Erase destroys the key of a subject and appends SubjectErased to its accounts. Once it returns, no instance opens the subject's text.
// After an error it may be called again, and is finished by Run otherwise, unless the error is ErrNotFound.
func (e *Eraser) Erase(ctx context.Context, id uuid.UUID, m command.Metadata) (Erasure, error) {
	accounts, err := e.accounts(ctx, id)
	if err != nil {
		return Erasure{}, err
	}
	if len(accounts) == 0 {
		if known, err := e.keys.exists(ctx, id); err != nil || !known {
			return Erasure{}, errors.Join(err, ErrNotFound)
		}
	}
	if err := e.keys.Destroy(ctx, id); err != nil {
		return Erasure{}, err
	}
	if err := e.keys.waitForCaches(ctx, id); err != nil {
		return Erasure{}, err
	}
	if _, err := e.append(ctx, id, m); err != nil {
		return Erasure{}, err
	}
	result := Erasure{SubjectID: id}
	if accounts, err = e.accounts(ctx, id); err != nil {
		return result, err
	}
	for _, a := range accounts {
		result.Accounts = append(result.Accounts, a.id)
		if a.erased != nil {
			result.Position = max(result.Position, *a.erased)
		}
	}
	result.PlainText = e.plainText(ctx, result.Accounts)
	return result, nil
}

// plainText reports whether the log has plain text of accounts. It reads all their events if there is none, so that it gives up after
// plainTimeout, and then returns true.
func (e *Eraser) plainText(ctx context.Context, accounts []uuid.UUID) (exists bool) {
	ctx, cancel := context.WithTimeout(ctx, plainTimeout)
	defer cancel()
	if err := e.log.QueryRow(ctx, plainSQL, accounts).Scan(&exists); err != nil {
		e.logger.WarnContext(ctx, "looking for plain text of an erased subject failed; reporting that there may be some", "error", err)
		return true
	}
	return exists
}

// subjectAccount is an account of a subject, with the position of its SubjectErased, nil if it has none.
type subjectAccount struct {
	id     uuid.UUID
	erased *int64
}

func (e *Eraser) accounts(ctx context.Context, id uuid.UUID) ([]subjectAccount, error) {
	rows, _ := e.log.Query(ctx, accountsSQL, id) // CollectRows returns the error
	accounts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a subjectAccount, err error) {
		return a, row.Scan(&a.id, &a.erased)
	})
	return accounts, wrapError("list the accounts of a subject", err)
}

// append appends SubjectErased to the subject's accounts that do not have it, and returns to how many.
func (e *Eraser) append(ctx context.Context, id uuid.UUID, m command.Metadata) (appended int, err error) {
	accounts, err := e.accounts(ctx, id)
	if err != nil {
		return 0, err
	}
	var requests []command.Request
	for _, a := range accounts {
		if a.erased == nil {
			requests = append(requests, command.Request{AccountID: a.id, Command: account.EraseSubject{SubjectID: id}, Metadata: m})
		}
	}
	if len(requests) == 0 {
		return 0, nil
	}
	for _, o := range e.commands.DoEach(ctx, requests) {
		refusal, refused := errors.AsType[*account.Refusal](o.Err)
		switch {
		case o.Err == nil:
			appended++
		case refused && refusal.Code == account.CodeAccountErased: // by another instance
		default:
			err = o.Err
		}
	}
	return appended, wrapError("append SubjectErased", err)
}

// Reconcile destroys the keys of all subjects that the log says are erased: a backup of the keys has them again.
func (e *Eraser) Reconcile(ctx context.Context) error {
	for after := ""; ; {
		rows, _ := e.log.Query(ctx, erasedSubjectsSQL, after, page) // CollectRows returns the error
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(texts) == 0 {
			return wrapError("read the erased subjects", err)
		}
		ids := make([]uuid.UUID, len(texts))
		for i, text := range texts {
			if ids[i], err = uuid.Parse(text); err != nil {
				return fmt.Errorf("subject: %q is not an id: %w", text, err)
			}
		}
		if err := e.keys.Destroy(ctx, ids...); err != nil {
			return err
		}
		after = texts[len(texts)-1]
	}
}

// again has those erasures finished again that the log may have lost: it no longer has the event that was its head when they were
// finished, after a failover or the restore of a backup.
func (e *Eraser) again(ctx context.Context) error {
	log := eventstore.New(e.log)
	for {
		var id uuid.UUID
		var position int64
		var event uuid.NullUUID
		err := e.keys.pool.QueryRow(ctx, lastSQL).Scan(&id, &position, &event)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return databaseError("read the last finished erasure", err)
		}
		status, err := log.Status(ctx, position, event.UUID)
		if err != nil || status.Contains {
			return err // what was finished earlier is in the log too
		}
		if _, err := e.keys.pool.Exec(ctx, againSQL, id); err != nil {
			return databaseError("have an erasure finished again", err)
		}
	}
}

// Run finishes erasures that were interrupted, until ctx ends, and returns nil.
func (e *Eraser) Run(ctx context.Context) error {
	for {
		if err := e.RunOnce(ctx); err != nil && ctx.Err() == nil {
			e.logger.WarnContext(ctx, "finishing erasures failed; retrying", "error", err)
		}
		timer := time.NewTimer(finishEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// RunOnce finishes the erasures that have begun, or that the log has lost, as far as it can. One that fails does not hold up the others, unless a database is
// unavailable.
func (e *Eraser) RunOnce(ctx context.Context) error {
	if err := e.again(ctx); err != nil {
		return err
	}
	rows, _ := e.keys.pool.Query(ctx, unfinishedSQL, page) // CollectRows returns the error
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b begun, err error) { return b, row.Scan(&b.id, &b.since) })
	if err != nil {
		return databaseError("read the unfinished erasures", err)
	}
	e.oldest.Store(0)
	if len(all) > 0 {
		e.oldest.Store(int64(all[0].since))
	}
	var failed []error
	for _, b := range all {
		if b.since < 2*cacheWait {
			continue // the call that began it is waiting
		}
		if err := e.finish(ctx, b); err != nil {
			failed = append(failed, fmt.Errorf("finish the erasure of subject %s: %w", b.id, err))
			if e.transient(err) || ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(failed...)
}

// begun is an erasure that has begun.
type begun struct {
	id    uuid.UUID
	since time.Duration
}

func (e *Eraser) finish(ctx context.Context, b begun) error {
	appended, err := e.append(ctx, b.id, command.Metadata{Actor: "passbook"})
	if err != nil {
		return err
	}
	if appended > 0 {
		e.logger.InfoContext(ctx, "finished an erasure", "subject_id", b.id.String(), "accounts", appended)
	}
	if b.since < finalAfter {
		return nil
	}
	head, err := eventstore.New(e.log).Last(ctx)
	if err != nil {
		return err
	}
	_, err = e.keys.pool.Exec(ctx, finishedSQL, b.id, head.Position, head.EventID)
	return databaseError("mark an erasure as finished", err)
}
