package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"passbook/test/internal/nodes"
)

const streamName = "PASSBOOK"

// fault is something that goes wrong, and is put right by repair, if that is not nil.
type fault struct {
	name          string
	begin, repair func(ctx context.Context) error
}

func (w *world) faults() []fault {
	var node *nodes.Node
	var victim *process
	leads := func(ctx context.Context) (err error) { node, err = w.leader(ctx); return err }
	return []fault{
		{
			"kill the NATS server that leads the stream",
			func(ctx context.Context) error {
				if err := leads(ctx); err != nil {
					return err
				}
				node.Kill()
				return nil
			},
			func(context.Context) error { return node.Start() },
		},
		{
			"stop the NATS server that leads the stream with SIGSTOP",
			func(ctx context.Context) error { return errors.Join(leads(ctx), node.Pause()) },
			func(context.Context) error { return node.Resume() },
		},
		{
			"kill the instance that relays",
			func(ctx context.Context) error {
				return nodes.Await(ctx, patience, "an instance relays", func() bool {
					for _, p := range w.primaries {
						if p.metric(ctx, `passbook_relay_state{state="publishing"}`) == 1 {
							victim = p
							p.kill()
							return true
						}
					}
					return false
				})
			},
			func(context.Context) error { return victim.start() },
		},
		{
			"kill a follower",
			func(context.Context) error { w.followers[0].kill(); return nil },
			func(context.Context) error { return w.followers[0].start() },
		},
		{
			"delete the stream",
			func(ctx context.Context) error { return w.js.DeleteStream(ctx, streamName) },
			nil,
		},
	}
}

// suffer lets a fault happen and prints how long it took until both followers had what was acknowledged after it.
func (w *world) suffer(ctx context.Context, f fault, settle time.Duration, out io.Writer) error {
	sleep(ctx, settle)
	if err := f.begin(ctx); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	began := time.Now()
	sleep(ctx, settle)
	// Two nodes of three, and one instance of two, go on: only a follower that is dead has to be started to get on.
	following := w.followers
	if f.name == "kill a follower" {
		following = w.followers[1:]
	}
	if err := w.catchUp(ctx, following); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	took := time.Since(began) - settle
	if f.repair != nil {
		if err := f.repair(ctx); err != nil {
			return fmt.Errorf("%s: repair: %w", f.name, err)
		}
		if err := w.catchUp(ctx, w.followers); err != nil {
			return fmt.Errorf("%s: after the repair: %w", f.name, err)
		}
	}
	fmt.Fprintf(out, "%-56s followers had %v of events to catch up on after %v\n", f.name, settle, took.Round(10*time.Millisecond))
	return nil
}

// catchUp waits until followers have what the log has now.
func (w *world) catchUp(ctx context.Context, followers []*process) error {
	var head int64
	if err := nodes.Await(ctx, patience, "an instance of the primary returns its head", func() bool {
		for _, p := range w.primaries {
			head = max(head, p.position(ctx))
		}
		return head > 0
	}); err != nil {
		return err
	}
	for _, p := range followers {
		if err := nodes.Await(ctx, patience, fmt.Sprintf("%s reaches position %d", p.name, head), func() bool {
			return p.position(ctx) >= head
		}); err != nil {
			return fmt.Errorf("%w (it is at %d)", err, p.position(ctx))
		}
	}
	return nil
}

// leader returns the node that leads the stream.
func (w *world) leader(ctx context.Context) (*nodes.Node, error) {
	var leader *nodes.Node
	err := nodes.Await(ctx, patience, "the stream has a leader", func() bool {
		s, err := w.js.Stream(ctx, streamName)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for _, node := range w.nats {
			if node.Name == s.CachedInfo().Cluster.Leader {
				leader = node
			}
		}
		return leader != nil
	})
	return leader, err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
