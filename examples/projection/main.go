// Command projection maintains its own read model next to a running Passbook: deposits by currency and day, in a table
// in the service's database. It applies the log up to its current end, prints the table and exits. The next run continues
// from there.
//
//	go run ./examples/projection "$DATABASE_URL"
//
// The URL must name the owner of the schema, because the program creates a table: for a private PostgreSQL that is
// user=passbook, not the passbook_app that the server connects as.
//
// A separate process can be deployed, and can fail, independently. Inside the service a projection is a line in a list:
// docs/guide/add-a-projection.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/postgres"
	"passbook/internal/projector"
)

// depositsOfDay is the sum and the number of deposits in a currency on a day (UTC).
type depositsOfDay struct {
	Currency string    `key:"currency"`
	Day      time.Time `key:"day"`
	Deposits int64     `sum:"deposits"`
	Amount   int64     `sum:"amount"`
}

const (
	// The generation comes first in the key, so that a replay can build new rows next to the live ones.
	createSQL = `create table if not exists daily_deposits (
    generation bigint not null, currency text not null, day date not null, deposits bigint not null, amount numeric not null,
    primary key (generation, currency, day))`

	readSQL = `select d.currency, d.day::text, d.deposits, d.amount::text from projections p
join daily_deposits d on d.generation = p.generation where p.id = 'daily_deposits' order by d.day, d.currency`
)

func dailyDeposits() *projector.Projection {
	p := projector.DefineSums[depositsOfDay]("daily_deposits", 1, "daily_deposits")
	projector.On(p, func(s *projector.Sums[depositsOfDay], at projector.Event, e account.MoneyDeposited) error {
		s.Add(depositsOfDay{Currency: e.Amount.Currency().Code(), Day: at.RecordedAt.UTC(), Deposits: 1, Amount: e.Amount.Minor()})
		return nil
	})
	return p
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: projection DATABASE_URL")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	pool, err := postgres.NewPool(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := createTable(ctx, pool); err != nil {
		return err
	}
	engine, err := projector.New(projector.Config{
		Pool: pool, Log: eventstore.New(pool), Transient: postgres.IsUnavailable, Instance: "example " + uuid.NewString(),
		Decode: func(eventType string, schemaVersion int, payload []byte) (any, error) {
			return eventjson.Decode(eventType, schemaVersion, payload)
		},
	}, dailyDeposits())
	if err != nil {
		return err
	}
	if err := catchUp(ctx, engine); err != nil {
		return err
	}
	return list(ctx, pool, out)
}

func createTable(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, createSQL)
	if denied, ok := errors.AsType[*pgconn.PgError](err); ok && denied.Code == "42501" {
		return fmt.Errorf("create the table: %w; use the URL of the schema's owner (for a private PostgreSQL: user=passbook)", err)
	}
	if err != nil {
		return fmt.Errorf("create the table: %w", err)
	}
	return nil
}

// catchUp runs the engine until the projection has applied the log's current events. A service would leave it running.
func catchUp(ctx context.Context, engine *projector.Engine) error {
	running, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return engine.Run(running) })
	defer func() { stop(); _ = group.Wait() }() // Run returns nil once it is stopped
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := engine.Projection(ctx, "daily_deposits")
		switch {
		case err != nil:
			return err
		case st.Error != "":
			return fmt.Errorf("stopped at position %d: %s", st.ErrorPosition, st.Error)
		case st.Lag == 0 && st.Owner != "":
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func list(ctx context.Context, pool *pgxpool.Pool, out io.Writer) error {
	rows, _ := pool.Query(ctx, readSQL) //nolint:rowserrcheck // ForEachRow does
	var (
		currency, day, amount string
		deposits              int64
	)
	_, err := pgx.ForEachRow(rows, []any{&currency, &day, &deposits, &amount}, func() error {
		_, err := fmt.Fprintf(out, "%s %s: %d deposits, %s in minor units\n", day, currency, deposits, amount)
		return err
	})
	return err
}
