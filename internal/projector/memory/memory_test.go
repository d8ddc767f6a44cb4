package memory_test

import (
	"context"
	"maps"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/projector/memory"
	"passbook/internal/projector/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type sums map[uuid.UUID]int64

// Apply implements memory.Fold.
func (s sums) Apply(model sums) {
	for stream, n := range s {
		model[stream] += n
	}
}

func add(s sums, at projector.Event, e storetest.Added) error {
	s[at.StreamID] += e.N
	return nil
}

func database(t *testing.T) storetest.Connect {
	t.Helper()
	url := pgtest.URL(t)
	return func(tracer pgx.QueryTracer) *pgxpool.Pool {
		pool, err := postgres.NewPool(t.Context(), url, postgres.WithTracer(tracer))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
}

func home() storetest.Home {
	store := memory.New(func() sums { return make(sums) })
	return storetest.Home{
		Store: store,
		Define: func(store projector.Store) *projector.Projection {
			p := projector.DefineIn(store, "sums", 1, func() any { return make(sums) })
			p.PerInstance = true
			projector.On(p, add)
			return p
		},
		Fold: func(stream uuid.UUID, n int64) any { return sums{stream: n} },
		Read: func(context.Context) (copied map[uuid.UUID]int64, position int64, err error) {
			store.Read(func(model sums, at int64) { copied, position = maps.Clone(model), at })
			return copied, position, nil
		},
		Lose:  home,
		Other: home,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, database, func(*testing.T, *pgxpool.Pool) storetest.Home { return home() })
}
