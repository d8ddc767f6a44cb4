package webhook_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"passbook/internal/httpapi/feed"
	"passbook/internal/pgtest"
	"passbook/internal/webhook"
)

// TestALeaseTooFarAhead leaves a lease of a dead owner that ends in an hour, as after a failover to a server whose clock is behind.
func TestALeaseTooFarAhead(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	to := receive(t, nil)
	w, _ := i.create(webhook.New{URL: to.url})
	_, err := i.pool.Exec(t.Context(), `update webhooks set owner = 'dead', epoch = epoch + 1, lease_until = clock_timestamp() + interval '1 hour'`)
	if err != nil {
		t.Fatal(err)
	}
	i.deposit(i.open(), 1)
	i.until(w.ID, "all is delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
}

// unavailableLog fails every Look once it is set.
type unavailableLog struct {
	webhook.Log
	set atomic.Bool
}

func (l *unavailableLog) Look(ctx context.Context, seen feed.Point) (feed.Point, bool, error) {
	if l.set.Load() {
		return feed.Point{}, false, errors.New("the log is unavailable")
	}
	return l.Log.Look(ctx, seen)
}

// TestNoSecretIsLost rotates while the log cannot be read: a rotation that fails has changed nothing, because its secret was not
// returned.
func TestNoSecretIsLost(t *testing.T) {
	t.Parallel()
	log := new(unavailableLog)
	i := start(t, pgtest.URL(t), "one", func(c *webhook.Config) { log.Log, c.Log = c.Log, log })
	w, _ := i.create(webhook.New{URL: "https://receiver.example"})
	log.set.Store(true)
	if _, _, err := i.RotateSecret(t.Context(), w.ID, time.Hour); err == nil {
		t.Fatal("it succeeded without the log")
	}
	log.set.Store(false)
	if w, err := i.Webhook(t.Context(), w.ID); err != nil || !w.PreviousSecretUntil.IsZero() {
		t.Errorf("the secret was replaced: until %v, %v", w.PreviousSecretUntil, err)
	}
}
