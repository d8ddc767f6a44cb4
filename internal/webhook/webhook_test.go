package webhook_test

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/feed"
	"passbook/internal/pgtest"
	"passbook/internal/webhook"
)

// verify checks a request by the rules of Standard Webhooks.
func verify(t *testing.T, secret string, r *received) error {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return hook.Verify(r.body, r.header)
}

// TestEventsAreDelivered delivers what the filter takes from the head on, in order, signed, and as the feed has it.
func TestEventsAreDelivered(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	i.deposit(ada, 3)
	to := receive(t, nil)
	w, secret := i.create(webhook.New{URL: to.url})
	last := i.deposit(ada, 20)
	i.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Lag == 0 && w.Position == last })
	if got, want := to.positions(), span(5, last); !slices.Equal(got, want) {
		t.Errorf("positions %v, want %v", got, want)
	}
	page, err := i.feed.Page(t.Context(), 4, feed.Filter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for n, r := range to.all() {
		if err := verify(t, secret, &r); err != nil {
			t.Errorf("position %d: %v", r.position, err)
		}
		if string(r.body) != string(page.Items[n].JSON) || r.header.Get("Webhook-Id") != page.Items[n].ID.String() ||
			r.header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
			t.Errorf("position %d: %v %s", r.position, r.header, r.body)
		}
	}
	log := i.deliveries(w.ID)
	if d := log[0]; len(log) != 20 || d.Number != 20 || d.Position != last || d.Attempt != 1 || !d.Delivered || d.Status != 204 ||
		d.Error != "" || d.Type != "MoneyDeposited" || d.EventID != page.Items[19].ID || d.At.IsZero() {
		t.Errorf("%d deliveries, the last of them %+v", len(log), d)
	}
}

// TestFilters has subscriptions with every kind of filter, from the beginning of the log, and one whose filter takes nothing, whose
// cursor moves all the same.
func TestFilters(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada, bob := i.open(), i.open() // 1, 2
	i.deposit(ada, 2)              // 3, 4
	last := i.deposit(bob, 1)      // 5
	for name, test := range map[string]struct {
		webhook.Filter
		after int64
		want  []int64
	}{
		"all":              {want: span(1, 5)},
		"after":            {after: 3, want: span(4, 5)},
		"type":             {Filter: webhook.Filter{Types: []string{"AccountCreated", "AccountClosed"}}, want: span(1, 2)},
		"account":          {Filter: webhook.Filter{Accounts: []uuid.UUID{ada}}, want: []int64{1, 3, 4}},
		"type and account": {Filter: webhook.Filter{Types: []string{"MoneyDeposited"}, Accounts: []uuid.UUID{bob}}, want: []int64{5}},
		"nothing":          {Filter: webhook.Filter{Types: []string{"AccountClosed"}}},
	} {
		to := receive(t, nil)
		w, _ := i.create(webhook.New{URL: to.url, Filter: test.Filter, After: &test.after})
		i.until(w.ID, name+": the cursor is at the head", func(w webhook.Webhook) bool { return w.Position == last })
		if got := to.positions(); !slices.Equal(got, test.want) {
			t.Errorf("%s: positions %v, want %v", name, got, test.want)
		}
	}
	beyond := last + 1
	if _, _, err := i.CreateWebhook(t.Context(), webhook.New{URL: "http://127.0.0.1", After: &beyond}); !errors.Is(err, webhook.ErrBeyondLog) {
		t.Errorf("beyond the log: %v", err)
	}
}

// TestAReceiverRecovers is one that is down for a while: it is tried again and again, the same event first, and misses nothing.
func TestAReceiverRecovers(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	to := receive(t, status(http.StatusServiceUnavailable))
	w, _ := i.create(webhook.New{URL: to.url})
	last := i.deposit(ada, 3)
	failing := i.until(w.ID, "it has failed three times", func(w webhook.Webhook) bool { return w.Attempts >= 3 })
	if failing.FailingSince.IsZero() || failing.NextAttemptAt.IsZero() || failing.LastError != "the receiver returned 503 Service Unavailable" ||
		failing.Lag != 3 || failing.State != webhook.Active {
		t.Errorf("failing: %+v", failing)
	}
	to.respond(nil)
	well := i.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	if !well.FailingSince.IsZero() || well.Attempts != 0 || well.LastError != "" || well.LastDeliveredAt.IsZero() {
		t.Errorf("recovered: %+v", well)
	}
	if got := firsts(to.positions()); !slices.Equal(got, span(2, last)) {
		t.Errorf("positions %v", got)
	}
	ids := make(map[string]bool)
	for _, r := range to.all() {
		if r.position == 2 {
			ids[r.header.Get("Webhook-Id")] = true
		}
	}
	if len(ids) != 1 {
		t.Errorf("an event was sent with the ids %v", ids)
	}
	log := i.deliveries(w.ID)
	first := log[len(log)-1]
	if first.Attempt != 1 || first.Delivered || first.Status != 503 || first.Error == "" || log[0].Attempt != 1 || !log[0].Delivered {
		t.Errorf("deliveries: first %+v, last %+v", first, log[0])
	}
}

// TestRetryAfterIsHonoured has a receiver that asks for more time than the backoff is.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	to := receive(t, func(w http.ResponseWriter, _ *received) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	w, _ := i.create(webhook.New{URL: to.url})
	i.deposit(ada, 1)
	w = i.until(w.ID, "it has failed", func(w webhook.Webhook) bool { return w.Attempts == 1 })
	if wait := w.NextAttemptAt.Sub(w.FailingSince); wait < 599*time.Second || wait > 601*time.Second {
		t.Errorf("the next attempt is after %v", wait)
	}
	to.respond(nil)
	i.change(w.ID, webhook.Change{State: new(webhook.Active)}) // an operator need not wait
	i.until(w.ID, "it is delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	if got := len(to.all()); got != 2 {
		t.Errorf("%d requests", got)
	}
}

// TestTheBackoffSurvivesARestart stops an instance between two attempts; the next instance keeps to the time of the next one.
func TestTheBackoffSurvivesARestart(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	patient := func(c *webhook.Config) { c.FirstRetry, c.LongestRetry = time.Hour, time.Hour }
	one := start(t, url, "one", patient)
	to := receive(t, status(http.StatusInternalServerError))
	w, _ := one.create(webhook.New{URL: to.url})
	one.open()
	one.until(w.ID, "it has failed", func(w webhook.Webhook) bool { return w.Attempts == 1 })
	one.stop()
	two := start(t, url, "two", patient)
	eventually(t, "the other instance has the lease", func() bool { return two.owner() == "two" })
	if got := len(to.all()); got != 1 {
		t.Errorf("%d requests", got)
	}
}

// TestStatesThatWait brings a subscription into each state in which nothing is sent, and out of it.
func TestStatesThatWait(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	for state, bring := range map[webhook.State]func(id uuid.UUID, to *receiver){
		webhook.Disabled: func(_ uuid.UUID, to *receiver) {
			to.respond(status(http.StatusGone))
			i.deposit(ada, 1)
		},
		webhook.Parked: func(id uuid.UUID, to *receiver) {
			to.respond(status(http.StatusNotFound))
			i.deposit(ada, 1)
			i.until(id, "it has failed", func(w webhook.Webhook) bool { return w.Attempts > 1 })
			i.exec("update webhooks set failing_since = failing_since - interval '23 hours 59 minutes' where id = $1", id)
			n := i.get(id).Attempts
			if w := i.until(id, "it has failed again", func(w webhook.Webhook) bool { return w.Attempts > n+1 }); w.State != webhook.Active {
				t.Errorf("%s before a day had passed", w.State)
			}
			i.exec("update webhooks set failing_since = failing_since - interval '1 minute' where id = $1", id)
		},
		webhook.Paused: func(id uuid.UUID, _ *receiver) {
			i.change(id, webhook.Change{State: new(webhook.Paused)})
			i.deposit(ada, 1)
		},
	} {
		to := receive(t, nil)
		w, _ := i.create(webhook.New{URL: to.url})
		begin := w.Position
		bring(w.ID, to)
		w = i.until(w.ID, "it is "+string(state), func(w webhook.Webhook) bool { return w.State == state })
		if w.Position != begin || state != webhook.Paused && w.LastError == "" {
			t.Errorf("%s: %+v", state, w)
		}
		sent := len(to.all())
		last := i.deposit(ada, 2)
		if n := len(to.all()); n != sent {
			t.Errorf("%s: %d requests more", state, n-sent)
		}
		to.respond(nil)
		i.change(w.ID, webhook.Change{State: new(webhook.Active)})
		w = i.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
		if got := firsts(to.positions()); !slices.Equal(got, span(begin+1, last)) || w.LastError != "" {
			t.Errorf("%s: positions %v", state, got)
		}
	}
}

// TestACursorThatTheLogDoesNotHave parks: what was lost cannot be told, so an operator says where to go on.
func TestACursorThatTheLogDoesNotHave(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	to := receive(t, nil)
	w, _ := i.create(webhook.New{URL: to.url})
	i.change(w.ID, webhook.Change{State: new(webhook.Paused)})
	i.exec("update webhooks set last_event_id = gen_random_uuid()")
	last := i.deposit(ada, 2)
	i.change(w.ID, webhook.Change{State: new(webhook.Active)})
	w = i.until(w.ID, "it is parked", func(w webhook.Webhook) bool { return w.State == webhook.Parked })
	if len(to.all()) > 0 || w.LastError == "" {
		t.Errorf("%v %+v", to.positions(), w)
	}
	i.change(w.ID, webhook.Change{State: new(webhook.Active), After: new(int64(1))})
	i.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	if got := to.positions(); !slices.Equal(got, span(2, last)) {
		t.Errorf("positions %v", got)
	}
}

// TestRotation has both secrets sign for the overlap, and the new one alone after it.
func TestRotation(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	to := receive(t, nil)
	w, old := i.create(webhook.New{URL: to.url})
	rotated, secret, err := i.RotateSecret(t.Context(), w.ID, time.Hour)
	if err != nil || secret == old || rotated.PreviousSecretUntil.Before(time.Now().Add(59*time.Minute)) {
		t.Fatalf("rotated until %v: %v", rotated.PreviousSecretUntil, err)
	}
	i.deposit(ada, 1)
	i.until(w.ID, "the first is delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	first := to.all()[0]
	if e1, e2 := verify(t, old, &first), verify(t, secret, &first); e1 != nil || e2 != nil {
		t.Errorf("during the overlap: %v, %v", e1, e2)
	}
	_, third, err := i.RotateSecret(t.Context(), w.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	i.deposit(ada, 1)
	i.until(w.ID, "the second is delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	second := to.all()[len(to.all())-1]
	if e1, e2 := verify(t, secret, &second), verify(t, third, &second); e1 == nil || e2 != nil {
		t.Errorf("after the overlap: %v, %v", e1, e2)
	}
	if _, _, err := i.RotateSecret(t.Context(), uuid.New(), 0); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("of no webhook: %v", err)
	}
}

// TestAnotherInstanceTakesOver cuts the owner off from the database while an event is being sent, again and again: whatever was
// recorded or not, the other instance misses no event and keeps their order.
func TestAnotherInstanceTakesOver(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	writer := start(t, url, "writer", func(c *webhook.Config) { c.Ready = func() bool { return false } })
	ada := writer.open()
	sending, proceed := make(chan struct{}), make(chan struct{})
	var stuck atomic.Bool
	to := receive(t, func(w http.ResponseWriter, r *received) {
		if r.position == 4 && stuck.CompareAndSwap(false, true) {
			close(sending)
			<-proceed
		}
		w.WriteHeader(http.StatusOK)
	})
	w, _ := writer.create(webhook.New{URL: to.url})
	owner := start(t, url, "owner", nil)
	last := writer.deposit(ada, 6)
	<-sending
	other := start(t, url, "other", nil)
	owner.pool.Close() // it can neither record, renew nor release
	other.until(w.ID, "the other instance has delivered all", func(w webhook.Webhook) bool { return w.Position == last })
	close(proceed)
	owner.stop()
	if got := firsts(to.positions()); !slices.Equal(got, span(2, last)) {
		t.Errorf("positions %v", to.positions())
	}
	if w := other.get(w.ID); w.Position != last {
		t.Errorf("the cursor went to %d", w.Position)
	}
}

// TestAStalledOwnerCannotMoveTheCursor lets an owner finish an attempt after another instance has taken its subscription.
func TestAStalledOwnerCannotMoveTheCursor(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	owner := start(t, url, "owner", func(c *webhook.Config) { c.Lease = time.Hour })
	ada := owner.open()
	sending, proceed := make(chan struct{}), make(chan struct{})
	var stuck atomic.Bool
	to := receive(t, func(w http.ResponseWriter, _ *received) {
		if stuck.CompareAndSwap(false, true) {
			close(sending)
			<-proceed
		}
		w.WriteHeader(http.StatusOK)
	})
	w, _ := owner.create(webhook.New{URL: to.url})
	owner.deposit(ada, 1)
	<-sending
	other := start(t, url, "other", nil)
	eventually(t, "the other instance has the lease", func() bool {
		other.exec("update webhooks set lease_until = '-infinity' where owner = 'owner'") // as if it had not renewed it
		return other.owner() == "other"
	})
	other.until(w.ID, "the other instance has delivered it", func(w webhook.Webhook) bool { return w.Position == 2 })
	close(proceed)
	last := other.deposit(ada, 3)
	other.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Position == last })
	if got := to.positions(); !slices.Equal(got, append([]int64{2}, span(2, last)...)) {
		t.Errorf("positions %v", got)
	}
	if log := other.deliveries(w.ID); len(log) != 4 {
		t.Errorf("%d deliveries were recorded", len(log))
	}
}

// TestOneInstanceDelivers has three instances of one database, none of which fails: nothing is sent twice.
func TestOneInstanceDelivers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	all := []*instance{start(t, url, "one", nil), start(t, url, "two", nil), start(t, url, "three", nil)}
	ada := all[0].open()
	to := receive(t, nil)
	w, _ := all[1].create(webhook.New{URL: to.url})
	last := all[2].deposit(ada, 30)
	all[0].until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Position == last })
	if got := to.positions(); !slices.Equal(got, span(2, last)) {
		t.Errorf("positions %v", got)
	}
}

// TestDeletedWhileSending deletes a subscription while an event is being sent: nothing more is, and nothing is left of it.
func TestDeletedWhileSending(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	ada := i.open()
	sending, proceed := make(chan struct{}, 10), make(chan struct{})
	to := receive(t, func(w http.ResponseWriter, _ *received) {
		sending <- struct{}{}
		<-proceed
		w.WriteHeader(http.StatusOK)
	})
	w, _ := i.create(webhook.New{URL: to.url})
	i.deposit(ada, 3)
	<-sending
	if err := i.DeleteWebhook(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	i.stop()
	if n := len(to.all()); n != 1 {
		t.Errorf("%d requests", n)
	}
	other := start(t, i.pool.Config().ConnString(), "other", nil)
	if _, err := other.Webhook(t.Context(), w.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := other.Deliveries(t.Context(), w.ID, 0, 10); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("its deliveries: %v", err)
	}
	if err := other.DeleteWebhook(t.Context(), w.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

// TestTheLogOfDeliveriesIsBounded keeps the latest attempts of each subscription, and pages through them.
func TestTheLogOfDeliveriesIsBounded(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", func(c *webhook.Config) { c.KeepDeliveries = 5 })
	ada := i.open()
	to := receive(t, nil)
	w, _ := i.create(webhook.New{URL: to.url})
	quiet, _ := i.create(webhook.New{URL: to.url, Filter: webhook.Filter{Accounts: []uuid.UUID{ada}, Types: []string{"AccountClosed"}}})
	last := i.deposit(ada, 12)
	i.until(w.ID, "all are delivered", func(w webhook.Webhook) bool { return w.Position == last })
	if all := i.deliveries(w.ID); len(all) != 5 || all[0].Number != 12 || all[4].Number != 8 {
		t.Errorf("%+v", all)
	}
	page, err := i.Deliveries(t.Context(), w.ID, 11, 2)
	if err != nil || len(page) != 2 || page[0].Number != 10 {
		t.Errorf("%+v %v", page, err)
	}
	if all := i.deliveries(quiet.ID); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestTheNumberOfWebhooksIsBounded creates many at once.
func TestTheNumberOfWebhooksIsBounded(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", func(c *webhook.Config) { c.Ready = func() bool { return false } })
	var group errgroup.Group
	group.SetLimit(4)
	var mu sync.Mutex
	made := 0
	for range webhook.MaxWebhooks + 10 {
		group.Go(func() error {
			_, _, err := i.CreateWebhook(t.Context(), webhook.New{URL: "http://127.0.0.1/"})
			if err != nil && !errors.Is(err, webhook.ErrTooMany) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil || made != webhook.MaxWebhooks {
		t.Errorf("%d were made: %v", made, err)
	}
}

// TestAChangeHoldsAtOnce pauses a subscription through an instance that does not deliver it. Events recorded after that are not sent,
// although the instance that delivers is not told.
func TestAChangeHoldsAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	owner := start(t, url, "owner", func(c *webhook.Config) { c.Lease = time.Hour })
	other := start(t, url, "other", func(c *webhook.Config) { c.Ready = func() bool { return false } })
	ada := owner.open()
	to := receive(t, nil)
	w, _ := owner.create(webhook.New{URL: to.url})
	owner.deposit(ada, 1)
	owner.until(w.ID, "the first is delivered", func(w webhook.Webhook) bool { return w.Lag == 0 })
	other.change(w.ID, webhook.Change{State: new(webhook.Paused)})
	owner.deposit(ada, 1)
	eventually(t, "the owner has given up", func() bool { return owner.feed.Streams() == 0 })
	if got := to.positions(); !slices.Equal(got, []int64{2}) {
		t.Errorf("positions %v", got)
	}
}
