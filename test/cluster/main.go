// Command cluster runs Passbook beyond one machine, and breaks it: three NATS servers, a primary of two instances that relay, and two
// followers, under load. It kills the stream's leader, stops a node, kills the instance that relays and a follower, and
// deletes the stream. In the end every acknowledged deposit must be in the log exactly once, every event of the log in the stream
// exactly once, and the followers equal to the primary at its position.
//
//	cluster -server bin/server -nats bin/nats-server [-clients N] [-settle 500ms] [-rounds N]
//
// It exits 1 if anything was lost, is there twice, or differs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"passbook/internal/localpg"
	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// patience bounds every wait for a recovery.
const patience = 60 * time.Second

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	server := flags.String("server", "bin/server", "the server's binary")
	natsServer := flags.String("nats", "bin/nats-server", "the nats-server's binary")
	clients := flags.Int("clients", 8, "how many clients deposit at once")
	settle := flags.Duration("settle", 500*time.Millisecond, "how long to load between faults")
	rounds := flags.Int("rounds", 1, "how often to go through the faults")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "passbook-cluster-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user than root
		return err
	}
	began := time.Now()
	w, err := start(ctx, *server, *natsServer, dir)
	defer func() {
		w.stop()
		if err != nil {
			err = fmt.Errorf("%w; the logs are in %s", err, dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "3 NATS servers, 2 instances of the primary, 2 followers, after %v; %d clients\n", time.Since(began).Round(time.Second), *clients)
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	l := newLoad(w.primaries)
	var group errgroup.Group
	for n := range *clients {
		group.Go(func() error { return l.deposits(loading, n) })
	}
	for range *rounds {
		for _, f := range w.faults() {
			if err := w.suffer(ctx, f, *settle, out); err != nil {
				stopLoad()
				return errors.Join(err, group.Wait())
			}
		}
	}
	stopLoad()
	if err := group.Wait(); err != nil {
		return err
	}
	err = w.audit(ctx, l, out)
	fmt.Fprintf(out, "%v in all\n", time.Since(began).Round(time.Second))
	return err
}

// world is all that runs.
type world struct {
	postgres  *localpg.Server
	nats      nodes.Cluster
	js        jetstream.JetStream
	primaries []*process
	followers []*process
	closers   []func()
}

// start starts everything and waits until it is ready. The world is to be stopped also after an error.
func start(ctx context.Context, server, natsServer, dir string) (*world, error) {
	w := &world{}
	server, err := filepath.Abs(server)
	if err != nil {
		return w, err
	}
	if w.nats, err = nodes.New(ctx, natsServer, dir, 3); err != nil {
		return w, err
	}
	if err := w.nats.Start(); err != nil {
		return w, err
	}
	nc, err := stream.Connect(stream.Options{URL: w.nats.URLs(), Name: "audit"})
	if err != nil {
		return w, err
	}
	w.closers = append(w.closers, nc.Close)
	if w.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second)); err != nil {
		return w, err
	}
	if w.postgres, err = localpg.Start(ctx, localpg.Options{DataDir: filepath.Join(dir, "primary")}); err != nil {
		return w, err
	}
	for _, name := range []string{"primary-1", "primary-2"} {
		p, err := newProcess(ctx, name, dir, server, nil, "DATABASE_URL="+w.postgres.URL(), "PASSBOOK_RELAY_NATS_URL="+w.nats.URLs())
		if err != nil {
			return w, err
		}
		w.primaries = append(w.primaries, p)
	}
	for _, name := range []string{"follower-1", "follower-2"} {
		p, err := newProcess(ctx, name, dir, server, []string{"follow", w.nats.URLs()},
			"PASSBOOK_DATA_DIR="+filepath.Join(dir, name), "PASSBOOK_PRIMARY_URL="+w.primaries[0].url)
		if err != nil {
			return w, err
		}
		w.followers = append(w.followers, p)
	}
	for _, p := range append(append([]*process(nil), w.primaries...), w.followers...) {
		if err := p.start(); err != nil {
			return w, err
		}
	}
	for _, p := range append(append([]*process(nil), w.primaries...), w.followers...) {
		if err := nodes.Await(ctx, patience, p.name+" is ready", func() bool { return p.ready(ctx) }); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) stop() {
	for _, p := range append(append([]*process(nil), w.followers...), w.primaries...) {
		p.stop()
	}
	w.nats.Kill()
	for _, closer := range w.closers {
		closer()
	}
	if w.postgres != nil {
		_ = w.postgres.Stop(context.Background())
	}
}
