package eventstore_test

import (
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	if v, err := store.Status(t.Context(), 0, uuid.Nil); err != nil || v != (eventstore.Status{Contains: true}) {
		t.Errorf("an empty log: %+v, %v", v, err)
	}
	if v, err := store.Status(t.Context(), 1, uuid.Nil); err != nil || v.Contains {
		t.Errorf("a position of an empty log: %+v, %v", v, err)
	}
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	if _, err := pool.Exec(t.Context(), `insert into events
select n, gen_random_uuid(), 1, ($1::uuid[])[n], 'T', 1, '{}', '{}', now() from generate_series(1, 2) as n`, ids); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		position int64
		event    uuid.UUID
		contains bool
	}{
		{0, uuid.Nil, true},
		{1, ids[0], true},
		{1, uuid.Nil, true},
		{1, ids[1], false},
		{2, ids[1], true},
		{3, uuid.Nil, false},
		{1 << 62, ids[0], false},
	} {
		v, err := store.Status(t.Context(), tt.position, tt.event)
		if want := (eventstore.Status{Head: eventstore.Head{Position: 2, EventID: ids[1]}, Contains: tt.contains}); err != nil || v != want {
			t.Errorf("%d, %s: %+v, %v", tt.position, tt.event, v, err)
		}
	}
}
