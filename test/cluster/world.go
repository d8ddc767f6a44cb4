package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/localpg"
	"passbook/internal/stream"
	"passbook/test/internal/machines"
	"passbook/test/internal/nodes"
)

// world is all that runs. The NATS servers and the followers are on machines of their own, if there is a network of machines.
type world struct {
	server, dir string
	network     *machines.Network // nil if all run on this machine
	postgres    *localpg.Server
	dataDir     string // of the primary's PostgreSQL
	backup      string // the file of the last one
	nats        nodes.Cluster
	js          jetstream.JetStream
	stream      string
	primaries   []*process
	followers   []*process
	closers     []func()
}

// start starts everything and waits until it is ready. The world is to be stopped also after an error.
func start(ctx context.Context, server, natsServer, dir string, network *machines.Network) (*world, error) {
	w := &world{dir: dir, network: network, dataDir: filepath.Join(dir, "primary"), stream: firstStream}
	var err error
	if w.server, err = filepath.Abs(server); err != nil {
		return w, err
	}
	if err := w.startNATS(ctx, natsServer); err != nil {
		return w, err
	}
	if w.postgres, err = localpg.Start(ctx, localpg.Options{DataDir: w.dataDir}); err != nil {
		return w, err
	}
	for _, name := range []string{"primary-1", "primary-2"} {
		p, err := newProcess(ctx, machines.Local, name, dir, w.server, nil,
			"DATABASE_URL="+w.postgres.URL(), "PASSBOOK_RELAY_NATS_URL="+w.nats.URLs())
		if err != nil {
			return w, err
		}
		w.primaries = append(w.primaries, p)
	}
	for _, name := range []string{"follower-1", "follower-2"} {
		on, err := w.machine(ctx, name)
		if err != nil {
			return w, err
		}
		p, err := newProcess(ctx, on, name, dir, w.server, []string{"follow", w.nats.URLs()},
			"PASSBOOK_DATA_DIR="+filepath.Join(dir, name), "PASSBOOK_PRIMARY_URL="+w.primaries[0].url)
		if err != nil {
			return w, err
		}
		w.followers = append(w.followers, p)
	}
	for _, p := range w.all() {
		if err := p.start(); err != nil {
			return w, err
		}
	}
	return w, w.awaitReady(ctx, w.all())
}

// startNATS starts the NATS servers, and connects to them.
func (w *world) startNATS(ctx context.Context, binary string) error {
	on := make([]*machines.Machine, 3)
	var err error
	for i := range on {
		if on[i], err = w.machine(ctx, fmt.Sprintf("nats-%d", i+1)); err != nil {
			return err
		}
	}
	if w.nats, err = nodes.New(ctx, binary, w.dir, on...); err != nil {
		return err
	}
	if err := w.nats.Start(); err != nil {
		return err
	}
	nc, err := stream.Connect(stream.Options{URL: w.nats.URLs(), Name: "audit"})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, nc.Close)
	w.js, err = jetstream.New(nc.Conn, jetstream.WithDefaultTimeout(2*time.Second))
	return err
}

func (w *world) machine(ctx context.Context, name string) (*machines.Machine, error) {
	if w.network == nil {
		return machines.Local, nil
	}
	return w.network.Add(ctx, name)
}

// all returns all servers.
func (w *world) all() []*process {
	return append(append([]*process(nil), w.primaries...), w.followers...)
}

func (w *world) awaitReady(ctx context.Context, all []*process) error {
	for _, p := range all {
		if err := nodes.Await(ctx, patience, p.name+" is ready", func() bool { return p.ready(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// describe prints what runs where.
func (w *world) describe(out io.Writer) {
	where := "all on one network address"
	if w.network != nil {
		where = "NATS servers and followers each in a network namespace"
	}
	fmt.Fprintf(out, "3 NATS servers, 2 instances of the primary, 2 followers; %s\n", where)
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
