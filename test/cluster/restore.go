package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"passbook/internal/localpg"
	"passbook/test/internal/nodes"
)

const firstStream = "PASSBOOK"

// restorePrimary takes a backup of the primary under load, restores it when the log has gone on, and checks that the relays halt while the
// service continues.
func (w *world) restorePrimary(ctx context.Context, l *load) error {
	w.backup = filepath.Join(w.dir, fmt.Sprintf("backup-%d.dump", l.epoch()))
	before := l.highest()
	if _, err := w.runServer(ctx, w.dataDir, "backup", w.backup); err != nil {
		return err
	}
	after := l.highest()
	if err := nodes.Await(ctx, patience, "the log goes on after the backup", func() bool { return l.highest() > after+100 }); err != nil {
		return err
	}
	for _, p := range w.primaries {
		p.kill()
	}
	if err := w.postgres.Stop(ctx); err != nil {
		return err
	}
	w.dataDir = filepath.Join(w.dir, fmt.Sprintf("primary-%d", l.epoch()+1))
	if _, err := w.runServer(ctx, w.dataDir, "restore", w.backup); err != nil {
		return err
	}
	var err error
	if w.postgres, err = localpg.Start(ctx, localpg.Options{DataDir: w.dataDir}); err != nil {
		return err
	}
	head, err := head(ctx, w.postgres.URL())
	if err != nil {
		return err
	}
	if head < before {
		return fmt.Errorf("the backup ends at position %d, and %d was acknowledged before it was taken", head, before)
	}
	l.restored(head)
	for _, p := range w.primaries {
		p.set("DATABASE_URL", w.postgres.URL())
		if err := p.start(); err != nil {
			return err
		}
	}
	if err := w.awaitReady(ctx, w.primaries); err != nil {
		return err
	}
	return w.awaitHalted(ctx, l)
}

// awaitHalted waits until both relays have halted and say what to do, while the service takes commands.
func (w *world) awaitHalted(ctx context.Context, l *load) error {
	for _, p := range w.primaries {
		if err := nodes.Await(ctx, patience, "the relay of "+p.name+" halts", func() bool {
			return p.metric(ctx, `passbook_relay_state{state="halted"}`) == 1
		}); err != nil {
			return err
		}
		log, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		if !strings.Contains(string(log), "set PASSBOOK_RELAY_STREAM to a new name") {
			return fmt.Errorf("%s does not say what to do", p.name)
		}
		if !p.ready(ctx) {
			return fmt.Errorf("%s is not ready because its relay has halted", p.name)
		}
	}
	taken := l.highest()
	return nodes.Await(ctx, patience, "the primary takes commands while its relays are halted", func() bool { return l.highest() > taken })
}

// beginEpoch does what a halted relay says: the old stream gets another subject, the relays a new stream, and the followers are made
// anew: one on an empty database, after it has halted because its log is not what the new stream has, and one from the backup.
func (w *world) beginEpoch(ctx context.Context) error {
	old, epoch := w.stream, 0
	_, _ = fmt.Sscanf(old, firstStream+"_%d", &epoch)
	if err := nodes.Await(ctx, patience, "the old stream has another subject", func() bool { return w.setAside(ctx, old) == nil }); err != nil {
		return err
	}
	w.stream = fmt.Sprintf("%s_%d", firstStream, max(epoch, 1)+1)
	for _, p := range w.primaries {
		p.stop()
		p.set("PASSBOOK_RELAY_STREAM", w.stream)
		if err := p.start(); err != nil {
			return err
		}
	}
	if err := w.awaitReady(ctx, w.primaries); err != nil {
		return err
	}
	var group errgroup.Group
	for i, p := range w.followers {
		group.Go(func() error { return w.makeAnew(ctx, p, i == 0) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return w.awaitReady(ctx, w.followers)
}

// makeAnew has a follower follow the new stream: with its old log, on which it must halt, and then on an empty database; or from
// the backup.
func (w *world) makeAnew(ctx context.Context, p *process, empty bool) error {
	p.stop()
	p.set("PASSBOOK_RELAY_STREAM", w.stream)
	if empty {
		if err := p.haltsOnAnotherHistory(ctx); err != nil {
			return err
		}
	}
	data := filepath.Join(w.dir, p.name)
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if !empty {
		if _, err := w.runServer(ctx, data, "restore", w.backup); err != nil {
			return err
		}
	}
	return p.start()
}

// setAside gives a stream a subject that no relay publishes to.
func (w *world) setAside(ctx context.Context, name string) error {
	s, err := w.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	config := s.CachedInfo().Config
	if slices.Equal(config.Subjects, []string{before(name)}) {
		return nil
	}
	config.Subjects = []string{before(name)}
	_, err = w.js.UpdateStream(ctx, config)
	return err
}

func before(name string) string { return "passbook.before." + strings.ToLower(name) + ".>" }

// haltsOnAnotherHistory runs the follower, which has events that the primary has lost, until it halts.
func (p *process) haltsOnAnotherHistory(ctx context.Context) error {
	if err := p.start(); err != nil {
		return err
	}
	defer p.stop()
	if err := nodes.Await(ctx, patience, p.name+" halts on a stream with another history", func() bool {
		return p.metric(ctx, "passbook_follower_halted") == 1
	}); err != nil {
		return err
	}
	if p.ready(ctx) {
		return fmt.Errorf("%s is ready although it has halted", p.name)
	}
	return nil
}

// head returns the last position of the log in a database.
func head(ctx context.Context, url string) (position int64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "select coalesce(max(position), 0) from events").Scan(&position)
	return position, err
}
