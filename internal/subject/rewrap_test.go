package subject_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
	"passbook/internal/subject"
)

func masters(t testing.TB, of ...byte) *subject.MasterKey {
	t.Helper()
	var keys [][]byte
	for _, b := range of {
		keys = append(keys, bytes.Repeat([]byte{b}, 32))
	}
	m, err := subject.NewMasterKey(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRewrap changes the master key: an instance with both opens what is sealed under either; two rewraps at once, the first of which is
// interrupted, and a third leave every key under the new one; and destroyed keys stay destroyed.
func TestRewrap(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	old, pool := b.instance(t)
	person, erased := uuid.New(), uuid.New()
	e := sealed(t, subject.NewCodec(old), pool, uuid.New(), person, account.OwnerChanged{Owner: "Zoë"})
	const others = 1500 // more than one step
	for range others / 100 {
		events := make([]eventstore.NewEvent, 100)
		for i := range events {
			events[i] = eventstore.NewEvent{StreamID: uuid.New(), Version: 1, Type: "OwnerChanged", Payload: []byte(`{"owner":"Ada"}`)}
		}
		if err := subject.NewCodec(old).Seal(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Destroy(t.Context(), erased); err != nil {
		t.Fatal(err)
	}
	both := masters(t, 2, 1)
	if !opens(t, subject.NewKeys(open(t, b.keys), both, false), e) {
		t.Error("with both keys the event does not open")
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, err := both.Rewrap(ctx, pool, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) || first.Again != 1000 || first.Total != others+1 {
		t.Errorf("interrupted: %+v, %v", first, err)
	}
	var group sync.WaitGroup
	results := make([]subject.Rewrapped, 2)
	for i := range results {
		group.Go(func() {
			var err error
			if results[i], err = both.Rewrap(t.Context(), open(t, b.keys), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := results[0].Again + results[1].Again; n != others+1-1000 {
		t.Errorf("the two have wrapped %d keys, want %d", n, others+1-1000)
	}
	if again, err := both.Rewrap(t.Context(), pool, nil); err != nil || again.Again != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if !opens(t, subject.NewKeys(open(t, b.keys), masters(t, 2), false), e) {
		t.Error("with the new key alone the event does not open")
	}
	if err := subject.NewKeys(pool, masters(t, 1), false).Prepare(t.Context()); !errors.Is(err, subject.ErrMasterKey) {
		t.Errorf("the old key alone: %v", err)
	}
	var destroyed int
	if err := pool.QueryRow(t.Context(), "select count(*) from subject_keys where wrapped is null").Scan(&destroyed); err != nil || destroyed != 1 {
		t.Errorf("%d keys are destroyed, %v", destroyed, err)
	}
}

// TestRewrapUnknown expects keys of another master key to be reported, and the others to be wrapped.
func TestRewrapUnknown(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	one, pool := b.instance(t)
	two := subject.NewKeys(open(t, b.keys), masters(t, 2, 1), false)
	for _, keys := range []*subject.Keys{one, two} {
		_ = sealed(t, subject.NewCodec(keys), pool, uuid.New(), uuid.New(), account.OwnerChanged{Owner: "Zoë"})
	}
	got, err := masters(t, 3, 2).Rewrap(t.Context(), pool, nil)
	if !errors.Is(err, subject.ErrMasterKey) || got != (subject.Rewrapped{Total: 2, Again: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
}
