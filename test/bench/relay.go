package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
	"passbook/test/internal/machines"
	"passbook/test/internal/nodes"
)

const (
	// relayEvents is how many events the relay has to catch up with at most.
	relayEvents = 400_000
	// relayTimeout bounds a round, and natsTimeout the start of the NATS servers.
	relayTimeout = 10 * time.Minute
	natsTimeout  = time.Minute
	relayStream  = "PASSBOOK"
)

// relay is P10.
func (b *bench) relay(ctx context.Context) (lines []report.Line, err error) {
	if len(b.bulkRates) == 0 {
		return nil, errors.New("P2 has failed")
	}
	js, urls, stop, err := b.startNATS(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	db, err := b.testbed.CreateDatabase(ctx, "p10")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.DropDatabase(context.WithoutCancel(ctx), db)) }()
	events := min(b.events, relayEvents)
	log := testbed.Log{Events: events, Accounts: b.accounts, Hot: events / 10}
	if err := b.testbed.Fill(ctx, db, log, func(int) {}); err != nil {
		return nil, err
	}
	line := report.Line{
		ID: "P10", What: fmt.Sprintf("the relay catching up with %s events, three NATS servers", count(events)), Versus: "POST /commands (P2)",
		Unit: "events/s", Baseline: b.bulkRates, Rule: report.Rule{Must: 0.5, Goal: 1},
	}
	var server, postgres, micros report.Series
	err = b.alternate(ctx, func(ctx context.Context) (string, error) {
		r, err := b.catchUp(ctx, db, js, urls, uint64(events))
		if err != nil {
			return "", err
		}
		line.Measured = append(line.Measured, r.rate)
		server, postgres = append(server, r.cpu.Server/r.took.Seconds()), append(postgres, r.cpu.Postgres/r.took.Seconds())
		micros = append(micros, r.cpu.Server*1e6/float64(events))
		line.Usage = &report.Usage{PeakMiB: r.peakMiB}
		return fmt.Sprintf("the relay published %.0f/s, with %.1f µs of processor time an event", r.rate, micros[len(micros)-1]), nil
	})
	if err != nil {
		return nil, err
	}
	line.Usage.Server, line.Usage.Postgres = server.Median(), postgres.Median()
	line.Notes = []string{fmt.Sprintf("server relay used %.1f µs of processor time for each event; \"server\" is that process", micros.Median())}
	return []report.Line{line}, nil
}

// startNATS starts three NATS servers and waits until they have a leader. The caller calls stop.
func (b *bench) startNATS(ctx context.Context) (js jetstream.JetStream, urls string, stop func(), err error) {
	dir, err := os.MkdirTemp(b.dir, "passbook-bench-nats-")
	if err != nil {
		return nil, "", nil, err
	}
	var cluster nodes.Cluster
	var nc *nats.Conn
	stop = func() {
		nc.Close()
		cluster.Kill()
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	binary := filepath.Join(filepath.Dir(b.self), "nats-server")
	if _, err := os.Stat(binary); err != nil {
		return nil, "", nil, fmt.Errorf("%w: make bench builds it", err)
	}
	if cluster, err = nodes.New(ctx, binary, dir, machines.Local, machines.Local, machines.Local); err != nil {
		return nil, "", nil, err
	}
	if err := cluster.Start(); err != nil {
		return nil, "", nil, err
	}
	nc, err = nats.Connect(cluster.URLs(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return nil, "", nil, err
	}
	if js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(time.Second)); err != nil {
		return nil, "", nil, err
	}
	err = nodes.Await(ctx, natsTimeout, "the NATS servers have a leader", func() bool { _, err := js.AccountInfo(ctx); return err == nil })
	return js, cluster.URLs(), stop, err
}

// caughtUp is a round of P10.
type caughtUp struct {
	rate    float64
	took    time.Duration
	cpu     testbed.CPU
	peakMiB float64
}

// catchUp has a relay publish a log of n events to a new stream. The round begins when the stream has its first messages.
func (b *bench) catchUp(ctx context.Context, db testbed.Database, js jetstream.JetStream, urls string, n uint64) (c caughtUp, err error) {
	if err := js.DeleteStream(ctx, relayStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return c, err
	}
	if err := b.testbed.Checkpoint(ctx); err != nil {
		return c, err
	}
	relay, err := b.testbed.StartRelay(ctx, db, urls)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, relay.Stop()) }()
	var first, last uint64
	var began time.Time
	before := b.testbed.CPU(relay)
	err = nodes.Await(ctx, relayTimeout, "the stream has the log", func() bool {
		s, err := js.Stream(ctx, relayStream)
		if err != nil {
			return false
		}
		if last = s.CachedInfo().State.LastSeq; first == 0 && last > 0 {
			first, began = last, time.Now()
		}
		return last == n
	})
	c.took = time.Since(began)
	c.rate, c.peakMiB = float64(last-first)/c.took.Seconds(), relay.PeakMiB()
	after := b.testbed.CPU(relay)
	c.cpu = testbed.CPU{Server: after.Server - before.Server, Postgres: after.Postgres - before.Postgres}
	return c, err
}
