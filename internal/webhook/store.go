package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/httpapi/feed"
)

const columns = `id, url, types, accounts, state, position, attempts, failing_since, next_attempt_at, last_error,
       last_delivered_at, previous_secret_until, created_at, updated_at`

const (
	listSQL = `select ` + columns + ` from webhooks order by created_at, id`
	getSQL  = `select ` + columns + ` from webhooks where id = $1`

	// The number is arbitrary. Without the lock, two inserts at once could exceed the limit.
	lockSQL   = `select pg_advisory_xact_lock(7018230144)`
	insertSQL = `insert into webhooks (id, url, types, accounts, position, last_event_id, secret)
select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from webhooks) < $8 returning ` + columns

	// A change ends the lease: its owner could no longer move the cursor, because the epoch has changed.
	changeSQL = `update webhooks set url = coalesce($2, url), types = coalesce($3, types), accounts = coalesce($4, accounts),
       state = coalesce($5, state), position = coalesce($6, position), last_event_id = case when $6::bigint is null then last_event_id else $7 end,
       attempts = 0, failing_since = null, next_attempt_at = null, last_error = case when $5 = 'active' then '' else last_error end,
       epoch = epoch + 1, owner = '', lease_until = '-infinity', updated_at = clock_timestamp()
where id = $1 returning ` + columns

	rotateSQL = `update webhooks set previous_secret = secret, previous_secret_until = clock_timestamp() + $3::interval, secret = $2,
       epoch = epoch + 1, owner = '', lease_until = '-infinity', updated_at = clock_timestamp()
where id = $1 returning ` + columns

	deleteSQL = `delete from webhooks where id = $1`

	deliveriesSQL = `select number, position, event_id, type, attempt, delivered, coalesce(status, 0), latency_ms, error, at
from webhook_deliveries where webhook = $1 and (number < $2 or $2 = 0) order by number desc limit $3`

	takeSQL = `update webhooks set owner = $1, epoch = epoch + 1, lease_until = clock_timestamp() + $2::interval,
       previous_secret = case when previous_secret_until > clock_timestamp() then previous_secret end
where state = 'active' and id <> all ($3)
  and (lease_until <= clock_timestamp() or lease_until > clock_timestamp() + 4 * $2::interval)
returning id, epoch, url, types, accounts, position, last_event_id, attempts, secret, previous_secret,
          coalesce(previous_secret_until - clock_timestamp(), '0'), greatest(coalesce(next_attempt_at - clock_timestamp(), '0'), '0')`

	renewSQL = `update webhooks w set lease_until = clock_timestamp() + $3::interval
from unnest($1::uuid[], $2::bigint[]) as mine(id, epoch)
where w.id = mine.id and w.epoch = mine.epoch and w.state = 'active' returning w.id`

	releaseSQL = `update webhooks set owner = '', lease_until = '-infinity' where id = $1 and epoch = $2`

	skipSQL = `update webhooks set position = $4, last_event_id = $5 where id = $1 and epoch = $2 and position = $3 and state = 'active'`

	parkSQL = `update webhooks set state = 'parked', last_error = $3, owner = '', lease_until = '-infinity' where id = $1 and epoch = $2 and state = 'active'`

	// One statement moves the cursor, logs the attempt and trims the log of attempts.
	recordSQL = `with moved as (
    update webhooks set position = $4, last_event_id = $5,
           attempts = case when $6 then 0 else attempts + 1 end,
           failing_since = case when $6 then null else coalesce(failing_since, clock_timestamp()) end,
           next_attempt_at = case when $6 then null else clock_timestamp() + $7::interval end,
           last_error = $8,
           last_delivered_at = case when $6 then clock_timestamp() else last_delivered_at end,
           state = case when $9 then 'disabled' when not $6 and clock_timestamp() - failing_since >= $10::interval then 'parked' else state end,
           deliveries = deliveries + 1
    where id = $1 and epoch = $2 and position = $3 and state = 'active'
    returning id, deliveries, state
), logged as (
    insert into webhook_deliveries (webhook, number, position, event_id, type, attempt, delivered, status, latency_ms, error)
    select id, deliveries, $11, $12, $13, $14, $6, nullif($15::integer, 0), $16, $8 from moved
), trimmed as (
    delete from webhook_deliveries d using moved m where d.webhook = m.id and d.number <= m.deliveries - $17::bigint
)
select state from moved`
)

// errFenced means that the subscription was changed, deleted, or taken by another instance.
var errFenced = errors.New("the subscription is no longer this instance's")

// store runs the SQL of the subscriptions.
type store struct{ pool *pgxpool.Pool }

func scanWebhook(row pgx.CollectableRow) (w Webhook, err error) {
	var failing, next, delivered, previous pgtype.Timestamptz
	err = row.Scan(&w.ID, &w.URL, &w.Types, &w.Accounts, &w.State, &w.Position, &w.Attempts, &failing, &next, &w.LastError,
		&delivered, &previous, &w.CreatedAt, &w.UpdatedAt)
	w.FailingSince, w.NextAttemptAt, w.LastDeliveredAt, w.PreviousSecretUntil = failing.Time, next.Time, delivered.Time, previous.Time
	return w, err
}

func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	}
	return fmt.Errorf("webhook: %w", err)
}

func (s store) list(ctx context.Context) ([]Webhook, error) {
	rows, _ := s.pool.Query(ctx, listSQL) // an error is in rows too
	all, err := pgx.CollectRows(rows, scanWebhook)
	return all, wrap(err)
}

// one runs a statement that returns one subscription.
func (s store) one(ctx context.Context, sql string, args ...any) (Webhook, error) {
	rows, _ := s.pool.Query(ctx, sql, args...) // an error is in rows too
	w, err := pgx.CollectExactlyOneRow(rows, scanWebhook)
	return w, wrap(err)
}

func (s store) insert(ctx context.Context, id uuid.UUID, n New, at feed.Point, secret []byte, most int) (w Webhook, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, insertSQL, id, n.URL, list(n.Types), list(n.Accounts), at.Position, orNull(at.ID), secret, most)
		w, err = pgx.CollectExactlyOneRow(rows, scanWebhook)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return w, ErrTooMany
	}
	return w, wrap(err)
}

// list returns an empty list for none: the columns are not null.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

func orNull(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

func (s store) change(ctx context.Context, id uuid.UUID, c Change, at feed.Point) (Webhook, error) {
	return s.one(ctx, changeSQL, id, c.URL, c.Types, c.Accounts, c.State, c.After, orNull(at.ID))
}

func (s store) delete(ctx context.Context, id uuid.UUID) error {
	tag, err := s.pool.Exec(ctx, deleteSQL, id)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return wrap(err)
}

func (s store) deliveries(ctx context.Context, id uuid.UUID, before int64, limit int) ([]Delivery, error) {
	rows, _ := s.pool.Query(ctx, deliveriesSQL, id, before, limit) // an error is in rows too
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Delivery, err error) {
		var ms int64
		err = row.Scan(&d.Number, &d.Position, &d.EventID, &d.Type, &d.Attempt, &d.Delivered, &d.Status, &ms, &d.Error, &d.At)
		d.Latency = time.Duration(ms) * time.Millisecond
		return d, err
	})
	return all, wrap(err)
}

// subscription is what an instance delivers, as it was when it took the lease.
type subscription struct {
	id    uuid.UUID
	epoch int64
	url   string
	Filter
	// cursor is the stored one.
	cursor   feed.Point
	attempts int
	secret   []byte
	// previous, if not nil, signs messages too until previousUntil.
	previous      []byte
	previousUntil time.Time
	// due is when to make the next attempt.
	due time.Time
}

// take takes the free leases of all active subscriptions except those in except.
func (s store) take(ctx context.Context, owner string, lease time.Duration, except []uuid.UUID) ([]subscription, error) {
	rows, _ := s.pool.Query(ctx, takeSQL, owner, lease, list(except)) // an error is in rows too
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h subscription, err error) {
		var (
			event                 uuid.NullUUID
			previousFor, dueAfter time.Duration
		)
		err = row.Scan(&h.id, &h.epoch, &h.url, &h.Types, &h.Accounts, &h.cursor.Position, &event, &h.attempts, &h.secret, &h.previous, &previousFor, &dueAfter)
		now := time.Now()
		h.cursor.ID, h.previousUntil, h.due = event.UUID, now.Add(previousFor), now.Add(dueAfter)
		return h, err
	})
	return all, wrap(err)
}

// renew extends leases, and returns those that this instance still has.
func (s store) renew(ctx context.Context, ids []uuid.UUID, epochs []int64, lease time.Duration) ([]uuid.UUID, error) {
	rows, _ := s.pool.Query(ctx, renewSQL, ids, epochs, lease) // an error is in rows too
	held, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return held, wrap(err)
}

func (s store) release(ctx context.Context, h *subscription) error {
	_, err := s.pool.Exec(ctx, releaseSQL, h.id, h.epoch)
	return wrap(err)
}

// skip moves the cursor past events that are not to be sent.
func (s store) skip(ctx context.Context, h *subscription, to feed.Point) error {
	tag, err := s.pool.Exec(ctx, skipSQL, h.id, h.epoch, h.cursor.Position, to.Position, orNull(to.ID))
	if err == nil && tag.RowsAffected() == 0 {
		return errFenced
	}
	return wrap(err)
}

func (s store) park(ctx context.Context, h *subscription, why string) error {
	_, err := s.pool.Exec(ctx, parkSQL, h.id, h.epoch, why)
	return wrap(err)
}

// attempt is an attempt to be recorded.
type attempt struct {
	result
	event feed.Item
	// to is the cursor after the attempt.
	to        feed.Point
	retryIn   time.Duration
	parkAfter time.Duration
	keep      int64
}

// record stores an attempt and moves the cursor, and returns the state that the subscription has now.
func (s store) record(ctx context.Context, h *subscription, a *attempt) (state State, err error) {
	text := ""
	if a.err != nil {
		text = a.err.Error()
	}
	err = s.pool.QueryRow(ctx, recordSQL, h.id, h.epoch, h.cursor.Position, a.to.Position, orNull(a.to.ID), a.delivered(),
		a.retryIn, text, a.gone(), a.parkAfter, a.event.Position, a.event.ID, a.event.Type, h.attempts+1, a.status,
		a.latency.Milliseconds(), a.keep).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errFenced
	}
	return state, wrap(err)
}
