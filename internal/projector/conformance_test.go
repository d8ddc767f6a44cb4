package projector_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/projector/storetest"
)

// summed is a row of the table that TestConformance keeps its read model in.
type summed struct {
	Stream uuid.UUID `key:"stream"`
	Sum    int64     `sum:"sum"`
}

const (
	createSumsSQL = `create table sums (generation bigint, stream uuid, sum bigint, primary key (generation, stream))`

	readSumsSQL = `select p.position, s.stream, s.sum from projections p left join sums s on s.generation = p.generation where p.id = 'sums'`
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Connect {
		t.Helper()
		url := pgtest.URL(t)
		return func(tracer pgx.QueryTracer) *pgxpool.Pool { return newPool(t, url, postgres.WithTracer(tracer)) }
	}, func(t *testing.T, pool *pgxpool.Pool) storetest.Home {
		t.Helper()
		if _, err := pool.Exec(t.Context(), createSumsSQL); err != nil {
			t.Fatal(err)
		}
		home := storetest.Home{
			Define: func(projector.Store) *projector.Projection {
				p := projector.DefineSums[summed]("sums", 1, "sums")
				projector.On(p, func(s *projector.Sums[summed], at projector.Event, e storetest.Added) error {
					s.Add(summed{Stream: at.StreamID, Sum: e.N})
					return nil
				})
				return p
			},
			Read: func(ctx context.Context) (sums map[uuid.UUID]int64, position int64, err error) {
				sums = make(map[uuid.UUID]int64)
				rows, _ := pool.Query(ctx, readSumsSQL) //nolint:rowserrcheck // ForEachRow does
				var (
					stream *uuid.UUID
					sum    *int64
				)
				_, err = pgx.ForEachRow(rows, []any{&position, &stream, &sum}, func() error {
					if stream != nil {
						sums[*stream] = *sum
					}
					return nil
				})
				return sums, position, err
			},
		}
		home.Other = func() storetest.Home { return home }
		return home
	})
}
