package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"passbook/internal/httpapi/feed"
)

const (
	// skipEvery is how often the cursor is stored while the filter selects none of the events.
	skipEvery = time.Second
	// grace is how long an attempt in progress may take once the worker has to end, and then how long storing the cursor and
	// releasing the lease may take.
	grace = 2 * time.Second
	// recordEvery is how often recording an attempt is retried while the database is unavailable.
	recordEvery = 500 * time.Millisecond
)

const wentBack = "the log does not hold the event at the cursor: it has lost its end; compare what was received, and resume after the last position that matches"

// worker delivers one subscription.
type worker struct {
	*Service
	hook subscription
	// at is the last event read: every one up to it was delivered or is not selected. It may be ahead of the stored cursor.
	at     feed.Point
	stored time.Time // when the cursor was stored last
}

// run delivers until ctx ends or this worker may no longer deliver the subscription, and then releases the lease.
func (w *worker) run(ctx context.Context) {
	err := w.follow(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errFenced) {
		w.cfg.Logger.WarnContext(ctx, "delivering a webhook failed; retrying", "webhook", w.hook.id, "error", err)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if w.at != w.hook.cursor {
		_ = w.skip(ending) // if it fails, the events are read again
	}
	if err := w.store.release(ending, &w.hook); err != nil {
		w.cfg.Logger.WarnContext(ending, "releasing the lease of a webhook failed; it will expire", "webhook", w.hook.id, "error", err)
	}
}

// follow delivers the events after the cursor. It returns nil when the subscription is no longer active.
func (w *worker) follow(ctx context.Context) error {
	_, held, err := w.cfg.Log.Look(ctx, w.hook.cursor)
	if err != nil {
		return err
	}
	if !held {
		w.cfg.Logger.WarnContext(ctx, "webhook parked: the log has gone back", "webhook", w.hook.id, "position", w.hook.cursor.Position)
		return w.store.park(ctx, &w.hook, wentBack)
	}
	if err := pause(ctx, time.Until(w.hook.due)); err != nil {
		return err
	}
	stream, err := w.cfg.Feed.Open(ctx, w.hook.cursor.Position)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		items, err := stream.Next(ctx, skipEvery)
		if archived, ok := errors.AsType[*feed.ArchivedError](err); ok {
			w.cfg.Logger.WarnContext(ctx, "webhook parked: its next events are in the archive", "webhook", w.hook.id, "position", w.hook.cursor.Position)
			return w.store.park(ctx, &w.hook, archived.Error()+"; attach it with server archive attach, and resume, or resume after a later position")
		}
		if err != nil && !errors.Is(err, feed.ErrQuiet) {
			return err
		}
		confirmed := false
		for i := range items {
			item := &items[i]
			if w.takes(item) {
				if !confirmed {
					if err := w.confirm(ctx); err != nil {
						return err
					}
					confirmed = true
				}
				if active, err := w.deliver(ctx, item); !active || err != nil {
					return err
				}
			}
			w.at = feed.Point{Position: item.Position, ID: item.ID}
		}
		if w.at != w.hook.cursor && time.Since(w.stored) >= skipEvery {
			if err := w.skip(ctx); err != nil {
				return err
			}
		}
	}
}

// confirm returns errFenced if the subscription has changed since this worker took it. It is called after events were read and before
// the first of them is sent: so an event is never sent against a change that was made before the event was recorded.
func (w *worker) confirm(ctx context.Context) error {
	held, err := w.store.renew(ctx, []uuid.UUID{w.hook.id}, []int64{w.hook.epoch}, w.cfg.Lease)
	if err == nil && len(held) == 0 {
		return errFenced
	}
	return err
}

func (w *worker) takes(item *feed.Item) bool {
	h := &w.hook
	return (len(h.Types) == 0 || slices.Contains(h.Types, item.Type)) && (len(h.Accounts) == 0 || slices.Contains(h.Accounts, item.Subject))
}

func (w *worker) skip(ctx context.Context) error {
	err := w.store.skip(ctx, &w.hook, w.at)
	if err == nil {
		w.hook.cursor, w.stored = w.at, time.Now()
	}
	return err
}

// deliver sends an event until it is delivered. It reports whether the subscription is still active.
func (w *worker) deliver(ctx context.Context, item *feed.Item) (active bool, err error) {
	for ctx.Err() == nil {
		a := &attempt{event: *item, to: w.at, parkAfter: w.cfg.ParkAfter, keep: w.cfg.KeepDeliveries}
		a.result = w.send(ctx, item)
		if !a.delivered() && ctx.Err() != nil {
			break // the attempt was cut short, which is not the receiver's failure
		}
		if a.delivered() {
			a.to = feed.Point{Position: item.Position, ID: item.ID}
		} else {
			a.retryIn = max(w.backoff(), a.retryAfter)
		}
		state, err := w.record(ctx, a)
		if err != nil {
			return false, err
		}
		w.cfg.Observe(a.delivered())
		w.hook.cursor, w.stored = a.to, time.Now()
		if a.delivered() {
			w.hook.attempts = 0
			return true, nil
		}
		w.logFailure(ctx, a, state)
		if state != Active {
			return false, nil
		}
		w.hook.attempts++
		if err := pause(ctx, a.retryIn); err != nil {
			return false, err
		}
		if err := w.confirm(ctx); err != nil {
			return false, err
		}
	}
	return false, ctx.Err()
}

// gone reports whether the receiver wants no more events.
func (r *result) gone() bool { return r.status == http.StatusGone }

func (w *worker) send(ctx context.Context, item *feed.Item) result {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = pause(sending, grace)
		cancel()
	})
	defer stop()
	now := time.Now()
	secrets := [][]byte{w.hook.secret}
	if w.hook.previous != nil && now.Before(w.hook.previousUntil) {
		secrets = append(secrets, w.hook.previous)
	}
	return w.sender.send(sending, w.hook.url, message{id: item.ID, body: item.JSON, secrets: secrets}, now)
}

// backoff returns the pause after the next failure. It doubles with each failure. Half of it is random, so that receivers that failed
// together are not called together.
func (w *worker) backoff() time.Duration {
	d := w.cfg.LongestRetry
	if n := w.hook.attempts; n < 30 {
		d = min(d, w.cfg.FirstRetry<<n)
	}
	return d/2 + rand.N(d/2+1)
}

// record stores an attempt. While the database is unavailable it retries, because an event whose delivery is not recorded is sent again.
func (w *worker) record(ctx context.Context, a *attempt) (State, error) {
	for {
		recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timeout)
		state, err := w.store.record(recording, &w.hook, a)
		cancel()
		if err == nil || errors.Is(err, errFenced) {
			return state, err
		}
		w.cfg.Logger.WarnContext(ctx, "recording the delivery of a webhook failed; retrying", "webhook", w.hook.id, "error", err)
		if pause(ctx, recordEvery) != nil {
			return "", fmt.Errorf("record a delivery: %w", err)
		}
	}
}

// logFailure logs a failed attempt. Of the URL it logs only the host: the rest may be a secret of the receiver's.
func (w *worker) logFailure(ctx context.Context, a *attempt, state State) {
	host := ""
	if u, err := url.Parse(w.hook.url); err == nil {
		host = u.Host
	}
	log := w.cfg.Logger.With("webhook", w.hook.id, "host", host, "position", a.event.Position, "error", a.err)
	switch {
	case state == Parked:
		log.WarnContext(ctx, "webhook parked: its receiver has failed for too long; resume it when it works again")
	case state == Disabled:
		log.WarnContext(ctx, "webhook disabled: its receiver is gone")
	default:
		log.DebugContext(ctx, "delivering a webhook failed; retrying", "attempt", w.hook.attempts+1, "in", a.retryIn)
	}
}

// pause waits, or returns the error of ctx if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
