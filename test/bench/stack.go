package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/postgres"
	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

// The responses are as long as those of the service.
const (
	receipt = `{"account_id":"00000000-0000-4000-8000-000000000001","event_id":"00000000-0000-7000-8000-000000000001",` +
		`"position":1000000,"version":1000,"type":"MoneyDeposited","recorded_at":"2026-01-02T15:04:05.000000Z"}`
	balance = `{"account_id":"00000000-0000-4000-8000-000000000001","owner":"Ada Lovelace","currency":"EUR","balance":"1000.00",` +
		`"available":"1000.00","status":"active","version":1000,"position":1000000,"updated_at":"2026-01-02T15:04:05.000000Z"}`
)

// runChi serves a bare chi router until ctx ends: bench chi.
func runChi(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench chi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8081", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	router := chi.NewRouter()
	router.Get("/livez", func(http.ResponseWriter, *http.Request) {})
	router.Post("/deposits", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, receipt)
	})
	router.Get("/accounts/{id}/balance", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, balance)
	})
	server := &http.Server{Addr: *addr, Handler: router, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startBare starts a bare handler in a separate process.
func (b *bench) startBare(ctx context.Context) (*testbed.Process, error) {
	return b.testbed.StartProgram(ctx, b.self, "chi")
}

// bare returns a turn of the bare handler, which gets a load's requests instead of the service: the limit of the HTTP stack
// and the load generator.
func (b *bench) bare(p *testbed.Process, c load.Config, into *report.Series) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		c.Duration = b.duration
		r, err := b.generate(ctx, p.Addr, c)
		if err == nil && r.Errors > 0 {
			err = fmt.Errorf("%d errors: %s", r.Errors, r.FirstError)
		}
		*into = append(*into, r.Rate)
		return fmt.Sprintf("bare handler %.0f/s", r.Rate), err
	}
}

// oneClient compares how long a single caller waits for a deposit and for a bare INSERT over the same driver. The write side
// has a bar for that. For comparison it also measures the service, whose responses come over HTTP and whose deposits have a
// key, relative to a bare INSERT plus a bare handler.
func (b *bench) oneClient(ctx context.Context) (lines []report.Line, err error) {
	direct := report.Line{
		ID: "LAT", What: "one caller: a deposit through internal/command, p50", Versus: "INSERT over pgx, p50", Unit: "ms",
		Rule: report.Rule{Must: 1.6, Goal: 1.2, AtMost: true},
	}
	http := report.Line{
		ID: "LAT HTTP", What: "one client: POST /deposits, a key on it, p50", Versus: "INSERT over pgx + bare chi handler, p50s", Unit: "ms",
	}
	db, err := b.baseline(ctx, "lat_baseline")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.DropDatabase(context.WithoutCancel(ctx), db)) }()
	bare, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.Stop()) }()
	at, err := b.open(ctx, "lat", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	s := &subject{site: at, load: b.depositLoad()}
	s.load.Conns = 1
	if err := s.warm(ctx); err != nil {
		return nil, err
	}
	var handler report.Series
	err = b.alternate(ctx,
		func(ctx context.Context) (string, error) {
			p50, err := b.insertAlone(ctx, db)
			direct.Baseline = append(direct.Baseline, p50)
			return fmt.Sprintf("INSERT over pgx p50 %.3f ms", p50), err
		},
		func(ctx context.Context) (string, error) {
			p50, err := b.doAlone(ctx, at)
			direct.Measured = append(direct.Measured, p50)
			return fmt.Sprintf("internal/command p50 %.3f ms", p50), err
		},
		func(ctx context.Context) (string, error) {
			p50, err := b.answerAlone(ctx, bare)
			handler = append(handler, p50)
			return fmt.Sprintf("bare handler p50 %.3f ms", p50), err
		},
		s.turn("one client"))
	if err != nil {
		return nil, err
	}
	s.fill(&http)
	http.Measured = s.seen.p50
	for i, p50 := range handler {
		http.Baseline = append(http.Baseline, direct.Baseline[i]+p50)
	}
	direct.Notes = append(direct.Notes, "the write side ran in this process, and the projections of a server followed its log; like the INSERT, "+
		"its deposits had no key")
	http.Notes = append(http.Notes, fmt.Sprintf("the bare handler's p50 was %.3f ms; beside the INSERT alone the deposit took %.2f times as long",
		handler.Median(), http.Measured.Median()/direct.Baseline.Median()))
	return []report.Line{direct, http}, nil
}

// answerAlone returns the median latency, in milliseconds, of a single client's request to the bare handler.
func (b *bench) answerAlone(ctx context.Context, bare *testbed.Process) (p50 float64, err error) {
	c := b.depositLoad()
	c.Conns, c.Duration = 1, b.duration
	r, err := b.generate(ctx, bare.Addr, c)
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%d errors: %s", r.Errors, r.FirstError)
	}
	return r.Latency.P50 / 1e3, err
}

// doAlone returns the median latency, in milliseconds, of a deposit through the write side in this process, on a server's
// database.
func (b *bench) doAlone(ctx context.Context, at *site) (p50 float64, err error) {
	if err := b.testbed.Checkpoint(ctx); err != nil {
		return 0, err
	}
	pool, err := postgres.NewPool(ctx, at.db.URL, postgres.WithGenericPlans())
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	service, err := command.New(command.Config{Store: eventstore.New(pool)})
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- service.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()

	amount, err := money.ParseDecimal("1.00")
	if err != nil {
		return 0, err
	}
	currency, err := money.ParseCurrency("EUR")
	if err != nil {
		return 0, err
	}
	accounts := make([]uuid.UUID, min(b.accounts, 100))
	for i := range accounts {
		accounts[i] = uuid.New()
		open := command.Request{AccountID: accounts[i], Command: account.Open{Owner: "Bench", Currency: currency}}
		if _, err := service.Do(ctx, open); err != nil {
			return 0, err
		}
	}
	return b.median(func(i int) error {
		deposit := command.Request{AccountID: accounts[i%len(accounts)], Command: account.Deposit{Amount: amount, Currency: currency}}
		_, err := service.Do(ctx, deposit)
		return err
	})
}

// median returns the median latency, in milliseconds, of a function that is called repeatedly for the length of a round.
func (b *bench) median(do func(i int) error) (float64, error) {
	seen := load.NewLatencies()
	deadline := time.Now().Add(b.duration)
	for i := 0; ; i++ {
		start := time.Now()
		if start.After(deadline) {
			return seen.Quantiles().P50 / 1e3, nil
		}
		if err := do(i); err != nil {
			return 0, err
		}
		seen.Add(time.Since(start))
	}
}

// insertAlone returns the median latency, in milliseconds, of inserting the baseline's row over one connection of the
// server's driver.
func (b *bench) insertAlone(ctx context.Context, db testbed.Database) (float64, error) {
	if err := b.testbed.Checkpoint(ctx); err != nil {
		return 0, err
	}
	conn, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Prepare(ctx, "insert", baselineInsert+"select "+fmt.Sprintf(baselineRow, "$1::bigint")); err != nil {
		return 0, err
	}
	return b.median(func(i int) error {
		_, err := conn.Exec(ctx, "insert", 1+i%b.accounts)
		return err
	})
}
