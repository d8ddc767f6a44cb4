package copylog_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/copylog"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestInsert writes a history with its times into an empty log, whole or not at all, and into no other.
func TestInsert(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	log := eventstore.New(pool)
	stream, start := uuid.New(), time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	var history []eventstore.Event
	for i := range 3 {
		history = append(history, eventstore.Event{
			Position: int64(i + 1), StreamID: stream, Version: int64(i + 1), EventID: uuid.New(), Type: "MoneyDeposited", SchemaVersion: 1,
			Payload: []byte(`{"amount": 5}`), Metadata: []byte(`{}`), RecordedAt: start.Add(time.Duration(i) * time.Hour),
		})
	}
	for name, damage := range map[string]func(*eventstore.Event){
		"a position twice":          func(e *eventstore.Event) { e.Position = 2 },
		"a version twice":           func(e *eventstore.Event) { e.Version = 2 },
		"a payload that is no JSON": func(e *eventstore.Event) { e.Payload = []byte(`{`) },
	} {
		damaged := slices.Clone(history)
		damage(&damaged[2])
		if _, err := copylog.Insert(t.Context(), pool, eventstore.Head{}, damaged); err == nil {
			t.Errorf("%s was stored", name)
		}
	}
	if head, err := log.Head(t.Context()); err != nil || head != 0 {
		t.Fatalf("something of a damaged history is in the log: %d %v", head, err)
	}
	end := eventstore.Head{Position: 3, EventID: history[2].EventID}
	for _, how := range []string{"empty", "another"} { // the second finds a log that is not empty
		if head, err := copylog.Insert(t.Context(), pool, eventstore.Head{}, history); err != nil || head != end {
			t.Fatalf("on a log that is %s: %+v %v", how, head, err)
		}
	}
	events, err := log.ReadAfter(t.Context(), 0, 10)
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, e := range events {
		if e.Position != history[i].Position || e.EventID != history[i].EventID || !e.RecordedAt.Equal(history[i].RecordedAt) || string(e.Payload) != `{"amount": 5}` {
			t.Errorf("%+v", e)
		}
	}
	// The next append follows, and is recorded later.
	next := eventstore.NewEvent{StreamID: stream, Version: 4, EventID: uuid.New(), Type: "MoneyDeposited", SchemaVersion: 1, Payload: []byte(`{}`)}
	appended, err := log.Append(t.Context(), end, &eventstore.Batch{Events: []eventstore.NewEvent{next}})
	if err != nil || appended.Moved || !appended.RecordedAt.After(history[2].RecordedAt) {
		t.Errorf("%+v %v", appended, err)
	}
}
