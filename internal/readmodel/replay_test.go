package readmodel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// TestReplaysMakeTheSameRows rebuilds each read model in chunks of another size than the live batches.
func TestReplaysMakeTheSameRows(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	all := everyKind(t)
	suspended := uuid.New()
	all = append(all, accountEvent{suspended, account.AccountCreated{Owner: "o", Currency: eur}}, accountEvent{suspended, account.AccountSuspended{}})
	appendAll(t, pool, all)
	projections := []*projector.Projection{readmodel.Balances(), readmodel.Transactions(), readmodel.Totals(), readmodel.Holds(), readmodel.Stats()}
	engine, err := projector.New(projector.Config{
		Pool: pool, Log: eventstore.New(pool), Instance: "test", Batch: 7, ReplayBatch: 5, ReadBatch: 2, Poll: time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, projections...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { _ = engine.Run(running); close(ended) }()
	defer func() { stop(); <-ended }()
	until := func(holds func(projector.Status) bool) {
		t.Helper()
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			status, err := engine.Projections(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(status, func(s projector.Status) bool { return !holds(s) }) {
				return
			}
			<-ticker.C
		}
	}
	until(func(s projector.Status) bool { return s.Generation > 0 && s.Lag == 0 })
	for _, p := range projections {
		if _, err := engine.StartReplay(ctx, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	until(func(s projector.Status) bool { return s.Generation > 1 })
	for _, p := range projections {
		for _, table := range p.Tables {
			live, rebuilt := generation(t, pool, table, 1), generation(t, pool, table, 2)
			if diff := cmp.Diff(live, rebuilt); diff != "" || len(live) == 0 {
				t.Errorf("%s (-live +rebuilt):\n%s", table, diff)
			}
		}
	}
}

// everyKind returns a history with each of the 17 types of events.
func everyKind(t *testing.T) []accountEvent {
	t.Helper()
	histories := rapid.Custom(func(t *rapid.T) []accountEvent {
		h, _ := history(t, 200)
		return h
	})
	for seed := range 1000 {
		all, kinds := histories.Example(seed), make(map[string]bool)
		for _, h := range all {
			kinds[h.event.EventType()] = true
		}
		if len(kinds) == 17 {
			return all
		}
	}
	t.Fatal("found no such history")
	return nil
}

// generation returns the rows of a generation of a table, each as text without its first column.
func generation(t *testing.T, pool *pgxpool.Pool, table string, n int) []string {
	t.Helper()
	r, _ := pool.Query(t.Context(), fmt.Sprintf(`select r::text from %s r where generation = %d`, table, n))
	all, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range all {
		_, all[i], _ = strings.Cut(row, ",")
	}
	slices.Sort(all)
	return all
}
