package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"passbook/internal/localpg"
	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

// paced is the rate at which lag, bytes and reads beside writes are measured: one at which no processor is short.
const paced = 500

// figures is a table of what was measured.
type figures struct{ rows [][2]string }

func (f *figures) add(what, format string, args ...any) {
	f.rows = append(f.rows, [2]string{what, fmt.Sprintf(format, args...)})
}

func (f *figures) print(out io.Writer) {
	fmt.Fprint(out, "\n| what | figure |\n|---|---|\n")
	for _, row := range f.rows {
		fmt.Fprintf(out, "| %s | %s |\n", row[0], row[1])
	}
}

// measure measures rates, lag, reads and sizes before anything goes wrong, each for a while.
func (w *world) measure(ctx context.Context, l *load, p *probe, d time.Duration) (*figures, error) {
	f := &figures{}
	if err := w.measureWrites(ctx, l, p, d, f); err != nil {
		return f, err
	}
	if err := w.measureReads(ctx, l, d, f); err != nil {
		return f, err
	}
	l.setRate(0)
	sleep(ctx, time.Second) // until the last requests have ended
	if err := w.catchUp(ctx, w.all()); err != nil {
		return f, err
	}
	if err := w.measureSizes(ctx, f); err != nil {
		return f, err
	}
	if err := w.measureCopies(ctx, f); err != nil {
		return f, err
	}
	return f, w.measureConsumers(ctx, d, f)
}

// measureWrites loads the primary as much as it can take, and then at a rate.
func (w *world) measureWrites(ctx context.Context, l *load, p *probe, d time.Duration, f *figures) error {
	for _, perSecond := range []int{unlimited, paced} {
		what := fmt.Sprintf("%d deposits a second", paced)
		if perSecond == unlimited {
			what = "deposits, each client one after another"
		}
		l.setRate(perSecond)
		sleep(ctx, time.Second)
		from, acknowledged, used, links, head := time.Now(), l.count(), w.usage(), linkBytes(), l.highest()
		sleep(ctx, d)
		seconds := time.Since(from).Seconds()
		if perSecond == unlimited {
			f.add(what, "%.0f/s acknowledged", float64(l.count()-acknowledged)/seconds)
		}
		f.add(what+": lag of a follower", "%s", p.since(from))
		f.add(what+": processors", "%s", w.usage().minus(used).per(seconds))
		if events := float64(l.highest() - head); perSecond == paced && w.network != nil && events > 0 {
			now := linkBytes()
			for _, m := range []string{"nats-1", "nats-2", "nats-3", "follower-1"} {
				// What the bridge's end of a link receives is what the machine sends.
				f.add("network of "+m+", bytes for an event", "%.0f in, %.0f out",
					float64(now[m].out-links[m].out)/events, float64(now[m].in-links[m].in)/events)
			}
		}
		l.setRate(paced)
		if err := w.catchUp(ctx, w.all()); err != nil {
			return err
		}
	}
	return nil
}

// measureReads reads balances from one follower, alone and while it follows.
func (w *world) measureReads(ctx context.Context, l *load, d time.Duration, f *figures) error {
	for _, perSecond := range []int{0, paced} {
		what := fmt.Sprintf("reads of a follower, %d connections", readers)
		if perSecond > 0 {
			what += fmt.Sprintf(", at %d deposits a second", perSecond)
		}
		l.setRate(perSecond)
		if err := w.catchUp(ctx, w.all()); err != nil {
			return err
		}
		used := w.usage()
		rate, took, err := w.followers[0].readBalances(ctx, l.accounts(), d)
		if err != nil {
			return err
		}
		f.add(what, "%.0f/s, %s", rate, took)
		f.add(what+": processors", "%s", w.usage().minus(used).per(d.Seconds()))
	}
	return nil
}

// measureSizes measures what an event takes on disk, with the load stopped.
func (w *world) measureSizes(ctx context.Context, f *figures) error {
	s, err := w.js.Stream(ctx, w.stream)
	if err != nil {
		return err
	}
	events := float64(s.CachedInfo().State.Msgs)
	f.add("disk of the stream on each NATS server, bytes for an event", "%.0f (of %.0f events)", float64(s.CachedInfo().State.Bytes)/events, events)
	var files int64
	_ = filepath.Walk(filepath.Join(w.nats[0].Dir(), "jetstream"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files += info.Size()
		}
		return nil
	})
	f.add("the same with the files of the replication", "%.0f", float64(files)/events)
	url, err := localpg.Attach(ctx, filepath.Join(w.dir, w.followers[0].name))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var log, all float64
	if err := conn.QueryRow(ctx, `select pg_total_relation_size('events'), sum(pg_total_relation_size(c.oid))
		from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace`).Scan(&log, &all); err != nil {
		return err
	}
	f.add("disk of a follower, bytes for an event", "%.0f for the log, %.0f with the read models", log/events, all/events)
	return nil
}

// measureCopies measures how fast the relay publishes the log to a new stream, and how fast a follower is rebuilt, nothing else
// running.
func (w *world) measureCopies(ctx context.Context, f *figures) error {
	end := func() int64 {
		s, err := w.js.Stream(ctx, w.stream)
		if err != nil {
			return 0
		}
		return int64(s.CachedInfo().State.LastSeq)
	}
	log := end()
	second := w.primaries[1] // two relays that see the stream deleted hinder each other at first
	second.stop()
	if err := w.deleteStream(ctx); err != nil {
		return err
	}
	if err := nodes.Await(ctx, patience, "the relay has published all again", func() bool { return end() >= log }); err != nil {
		return err
	}
	s, err := w.js.Stream(ctx, w.stream)
	if err != nil {
		return err
	}
	f.add("a relay publishing a log that is there", "%.0f events/s (%d events)", float64(log)/time.Since(s.CachedInfo().Created).Seconds(), log)
	if err := second.start(); err != nil {
		return err
	}
	p := w.followers[1]
	if err := w.catchUp(ctx, w.followers); err != nil {
		return err
	}
	p.stop()
	if err := os.RemoveAll(filepath.Join(w.dir, p.name)); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	if err := nodes.Await(ctx, patience, p.name+" has its first event", func() bool { return p.metric(ctx, "passbook_follower_position") > 0 }); err != nil {
		return err
	}
	began := time.Now()
	first := p.metric(ctx, "passbook_follower_position")
	if err := nodes.Await(ctx, patience, p.name+" has all events", func() bool { return p.metric(ctx, "passbook_follower_position") >= float64(log) }); err != nil {
		return err
	}
	stored := time.Since(began).Seconds()
	if err := w.catchUp(ctx, w.followers); err != nil {
		return err
	}
	f.add("a rebuilt follower", "%.0f events/s into its log; %.0f events/s until its totals had them all", (float64(log)-first)/stored,
		(float64(log)-first)/time.Since(began).Seconds())
	return nil
}

// consumers is how many consumers read the stream at once.
const consumers = 50

// measureConsumers has consumers read the stream from its first message, nothing else running.
func (w *world) measureConsumers(ctx context.Context, d time.Duration, f *figures) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var received, size atomic.Int64
	var group errgroup.Group
	began, used := time.Now(), w.usage()
	for range consumers {
		group.Go(func() error { return w.consume(ctx, &received, &size) })
	}
	err := group.Wait()
	seconds := time.Since(began).Seconds()
	f.add(fmt.Sprintf("%d consumers reading the stream, together", consumers), "%.0f messages/s, %.0f MB/s of bodies",
		float64(received.Load())/seconds, float64(size.Load())/1e6/seconds)
	f.add(fmt.Sprintf("%d consumers reading the stream: processors", consumers), "%s", w.usage().minus(used).per(seconds))
	return err
}

// consume reads the stream from its first message to its last, and again, until ctx ends.
func (w *world) consume(ctx context.Context, received, size *atomic.Int64) error {
	nc, err := stream.Connect(stream.Options{URL: w.nats.URLs(), Name: "consumer"})
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc.Conn, jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		consumer, err := js.OrderedConsumer(ctx, w.stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
		if err != nil {
			sleep(ctx, 20*time.Millisecond) // not connected yet
			continue
		}
		messages, err := consumer.Messages()
		if err != nil {
			return err
		}
		for more := true; more; {
			msg, err := messages.Next(jetstream.NextContext(ctx))
			if err != nil {
				break
			}
			received.Add(1)
			size.Add(int64(len(msg.Data())))
			about, err := msg.Metadata()
			more = err == nil && about.NumPending > 0
		}
		messages.Stop()
	}
	return nil
}
