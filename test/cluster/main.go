// Command cluster runs Passbook beyond one machine, and breaks it: three NATS servers, a primary of two instances that relay, and two
// followers, under load. As root on Linux, NATS servers and followers run in network namespaces. It kills, stops and cuts off
// the NATS server that leads the stream, kills the instance that relays and a follower, cuts a follower off, deletes the stream, and
// restores the primary to an earlier moment. In the end every acknowledged deposit that no restore undid must be in the log exactly
// once, every event of the log in the stream exactly once and at its position, and the followers equal to the primary.
//
//	cluster -server bin/server -nats bin/nats-server [-clients N] [-rate N] [-settle 500ms] [-rounds N] [-figures 20s] [-doc FILE]
//	        [-only TEXT] [-keep]
//
// It exits 1 if anything was lost, is there twice, or differs.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"passbook/test/internal/machines"
)

func main() {
	if !machines.Inside() {
		code, err := machines.Isolate()
		if err == nil {
			os.Exit(code)
		}
		fmt.Fprintf(os.Stdout, "%v: everything runs on one network address\n", err)
	}
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// patience bounds every wait for a recovery.
const patience = 2 * time.Minute

// options are what the command line says.
type options struct {
	server, nats    string
	clients, rounds int
	rate            int
	settle          time.Duration
	figures         time.Duration
	doc, only       string
	keep            bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&o.server, "server", "bin/server", "the server's binary")
	flags.StringVar(&o.nats, "nats", "bin/nats-server", "the nats-server's binary")
	flags.IntVar(&o.clients, "clients", 8, "how many clients deposit at once")
	flags.IntVar(&o.rate, "rate", 200, "how many deposits a second they send at most; -1 for as many as they can")
	flags.DurationVar(&o.settle, "settle", 500*time.Millisecond, "how long to load between faults")
	flags.IntVar(&o.rounds, "rounds", 1, "how often to go through the faults")
	flags.DurationVar(&o.figures, "figures", 0, "how long to measure each of the figures in docs/scaling.md; 0 for not at all")
	flags.StringVar(&o.doc, "doc", "", "document to write the tables to")
	flags.StringVar(&o.only, "only", "", "inject only the faults whose names contain this text")
	flags.BoolVar(&o.keep, "keep", false, "keep the logs and the data")
	return o, flags.Parse(args)
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	network, err := machines.NewNetwork(ctx)
	if err != nil && !machines.IsNone(err) {
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
	w, err := start(ctx, o.server, o.nats, dir, network)
	defer func() {
		w.stop()
		if err != nil {
			err = fmt.Errorf("%w; the logs are in %s", err, dir)
			return
		}
		if o.keep {
			fmt.Fprintf(out, "the logs are in %s\n", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if err != nil {
		return err
	}
	w.describe(out)
	l := newLoad(w.primaries, o.rate)
	var tables bytes.Buffer
	fmt.Fprintln(&tables, w.describeMachine(ctx))
	if err = w.attack(ctx, o, l, out, &tables); err == nil {
		err = w.audit(ctx, l, out)
	}
	_, _ = out.Write(tables.Bytes())
	if err == nil && o.doc != "" {
		err = writeDoc(o.doc, tables.Bytes())
	}
	fmt.Fprintf(out, "\n%v in all\n", time.Since(began).Round(time.Second))
	return err
}

// attack measures under load, if that is asked for, goes through the faults, and writes tables.
func (w *world) attack(ctx context.Context, o options, l *load, out, tables io.Writer) (err error) {
	loading, stopLoad := context.WithCancel(ctx)
	var group errgroup.Group
	for n := range o.clients {
		group.Go(func() error { return l.deposits(loading, n) })
	}
	p := &probe{load: l, follower: w.followers[0]}
	if o.figures > 0 {
		group.Go(func() error { p.run(loading); return nil })
	}
	defer func() {
		stopLoad()
		err = errors.Join(err, group.Wait())
	}()
	if o.figures > 0 {
		f, err := w.measure(ctx, l, p, o.figures)
		f.print(tables)
		if err != nil {
			return fmt.Errorf("figures: %w", err)
		}
		l.setRate(o.rate)
	}
	var results []result
	defer func() { printResults(tables, results) }()
	for range o.rounds {
		for _, f := range w.faults(l) {
			if !strings.Contains(f.name, o.only) {
				continue
			}
			began := time.Now()
			r, err := w.suffer(ctx, f, o.settle)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if r.lag = "–"; o.figures > 0 && r.skipped == "" {
				healed := time.Now()
				sleep(ctx, 3*time.Second)
				r.lag = p.since(healed)
			}
			results = append(results, r)
			fmt.Fprintf(out, "%5.1f s  %s\n", time.Since(began).Seconds(), f.name)
		}
	}
	return nil
}
