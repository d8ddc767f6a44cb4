package playground

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
)

// TestHistory is the same for a seed and a day, and has an example of everything.
func TestHistory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	events, summary, err := History(1, now)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := History(1, now.Add(time.Hour))
	if err != nil || !reflect.DeepEqual(events, again) {
		t.Errorf("the same seed and day make another history: %v", err)
	}
	if other, _, err := History(2, now); err != nil || bytes.Equal(other[0].Payload, events[0].Payload) && other[0].EventID == events[0].EventID {
		t.Errorf("another seed makes the same history: %v", err)
	}
	if len(events) < 4500 || len(events) > 6500 || summary.Currencies < 3 || summary.To.After(now) || summary.To.Sub(summary.From) < 90*24*time.Hour {
		t.Errorf("%d events, %+v", len(events), summary)
	}
	types, states, overdrawn := make(map[string]int), make(map[uuid.UUID]account.State), 0
	for i, e := range events {
		types[e.Type]++
		if e.Position != int64(i+1) || i > 0 && e.RecordedAt.Before(events[i-1].RecordedAt) {
			t.Fatalf("event %d: position %d at %s", i, e.Position, e.RecordedAt)
		}
		state, err := account.Evolve(states[e.StreamID], e.Decoded.(account.Event))
		if err != nil {
			t.Fatal(err)
		}
		if states[e.StreamID] = state; state.Balance < 0 {
			overdrawn++
		}
	}
	for _, want := range eventjson.EventTypes() {
		// The history has no erasure, because its personal text is not sealed.
		if types[want] == 0 && want != "SubjectErased" {
			t.Errorf("there is no %s: %v", want, types)
		}
	}
	statuses, held := make(map[account.Status]int), 0
	for _, s := range states {
		statuses[s.Status]++
		held += len(s.Holds)
	}
	if len(statuses) != 3 || overdrawn < 10 || held == 0 {
		t.Errorf("statuses %v, %d events on overdrawn accounts, %d open holds", slices.Collect(maps.Keys(statuses)), overdrawn, held)
	}
	t.Logf("%d events: %v, statuses %v", len(events), types, statuses)
}

// TestOpenHoldsLast checks that the service does not end a hold as soon as it serves the history.
func TestOpenHoldsLast(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	for seed := range uint64(20) {
		events, _, err := History(seed, now)
		if err != nil {
			t.Fatal(err)
		}
		open := make(map[uuid.UUID]time.Time)
		for _, e := range events {
			switch event := e.Decoded.(type) {
			case account.HoldPlaced:
				open[event.HoldID] = event.ExpiresAt
			case account.HoldCaptured:
				delete(open, event.HoldID)
			case account.HoldReleased:
				delete(open, event.HoldID)
			case account.HoldExpired:
				delete(open, event.HoldID)
			}
		}
		for _, expires := range open {
			if expires.Before(now.AddDate(0, 0, 1)) {
				t.Errorf("seed %d: an open hold expires at %s", seed, expires)
			}
		}
	}
}
