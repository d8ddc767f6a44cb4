package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"passbook/test/internal/nodes"
)

// fault is something that goes wrong, and is put right by repair, if that is not nil.
type fault struct {
	name string
	// impossible is why the fault cannot be injected here, or empty.
	impossible string
	begin      func(ctx context.Context) error
	// without are the followers that get no events until the repair; during, if not nil, checks them until then.
	without []*process
	during  func(ctx context.Context) error
	repair  func(ctx context.Context) error
}

func (w *world) faults(l *load) []fault {
	all := append(w.nodeFaults(), w.serverFaults()...)
	return append(all, fault{
		name:  "delete the stream",
		begin: w.deleteStream,
	}, fault{
		name:    "restore the primary to an earlier moment",
		begin:   func(ctx context.Context) error { return w.restorePrimary(ctx, l) },
		without: w.followers,
		repair:  w.beginEpoch,
	})
}

// nodeFaults are those of the NATS server that leads the stream.
func (w *world) nodeFaults() []fault {
	var node *nodes.Node
	leader := func(do func(ctx context.Context) error) func(ctx context.Context) error {
		return func(ctx context.Context) (err error) {
			if node, err = w.leader(ctx); err != nil {
				return err
			}
			return do(ctx)
		}
	}
	return []fault{
		{
			name:   "kill the NATS server that leads the stream",
			begin:  leader(func(context.Context) error { node.Kill(); return nil }),
			repair: func(context.Context) error { return node.Start() },
		},
		{
			name:   "stop the NATS server that leads the stream with SIGSTOP",
			begin:  leader(func(context.Context) error { return node.Pause() }),
			repair: func(context.Context) error { return node.Resume() },
		},
		{
			name:       "cut off the NATS server that leads the stream",
			impossible: w.cannotCutOff(),
			begin:      leader(func(ctx context.Context) error { return node.Machine.CutOff(ctx) }),
			repair:     func(ctx context.Context) error { return node.Machine.Heal(ctx) },
		},
	}
}

// serverFaults are those of Passbook's processes.
func (w *world) serverFaults() []fault {
	var victim *process
	first, second := w.followers[0], w.followers[1]
	return []fault{
		{
			name: "kill the instance that relays",
			begin: func(ctx context.Context) (err error) {
				if victim, err = w.relaying(ctx); err != nil {
					return err
				}
				victim.kill()
				return nil
			},
			repair: func(context.Context) error { return victim.start() },
		},
		{
			name:    "kill a follower",
			begin:   func(context.Context) error { first.kill(); return nil },
			without: []*process{first},
			repair:  func(context.Context) error { return first.start() },
		},
		{
			name:       "cut off a follower",
			impossible: w.cannotCutOff(),
			begin:      func(ctx context.Context) error { return second.machine.CutOff(ctx) },
			without:    []*process{second},
			during:     second.servesWhatItHas,
			repair:     func(ctx context.Context) error { return second.machine.Heal(ctx) },
		},
	}
}

func (w *world) cannotCutOff() string {
	if w.network == nil {
		return "it needs root and network namespaces"
	}
	return ""
}

// servesWhatItHas returns once a follower that is cut off has noticed, and returns an error unless it goes on to serve reads.
func (p *process) servesWhatItHas(ctx context.Context) error {
	if err := nodes.Await(ctx, patience, p.name+" notices that it gets no events", func() bool {
		return p.metric(ctx, "passbook_follower_following") == 0
	}); err != nil {
		return err
	}
	if !p.ready(ctx) || p.position(ctx) == 0 {
		return fmt.Errorf("%s does not serve what it has while it is cut off", p.name)
	}
	return nil
}

// suffer lets a fault happen and measures how long it takes to recover.
func (w *world) suffer(ctx context.Context, f fault, settle time.Duration) (result, error) {
	r := result{name: f.name, skipped: f.impossible, goingOn: -1}
	if r.skipped != "" {
		return r, nil
	}
	sleep(ctx, settle)
	if err := f.begin(ctx); err != nil {
		return r, err
	}
	began := time.Now()
	sleep(ctx, settle)
	// Two nodes of three, and one instance of two, go on: only a follower that is down or cut off needs the repair.
	following := slices.DeleteFunc(slices.Clone(w.followers), func(p *process) bool { return slices.Contains(f.without, p) })
	if len(following) > 0 {
		if err := w.catchUp(ctx, following); err != nil {
			return r, err
		}
		r.goingOn = time.Since(began) - settle
	}
	if f.during != nil {
		if err := f.during(ctx); err != nil {
			return r, err
		}
	}
	began = time.Now()
	if f.repair != nil {
		if err := f.repair(ctx); err != nil {
			return r, fmt.Errorf("repair: %w", err)
		}
	}
	if err := w.catchUp(ctx, w.all()); err != nil {
		return r, fmt.Errorf("after the repair: %w", err)
	}
	if err := w.awaitReplicas(ctx); err != nil {
		return r, fmt.Errorf("after the repair: %w", err)
	}
	r.healed = time.Since(began)
	return r, nil
}

// catchUp waits until servers show what the log has now.
func (w *world) catchUp(ctx context.Context, servers []*process) error {
	head, err := head(ctx, w.postgres.URL())
	if err != nil {
		return err
	}
	for _, p := range servers {
		if err := nodes.Await(ctx, patience, fmt.Sprintf("%s reaches position %d", p.name, head), func() bool {
			return p.position(ctx) >= head
		}); err != nil {
			return fmt.Errorf("%w (it is at %d)", err, p.position(ctx))
		}
	}
	return nil
}

// awaitReplicas waits until the stream has a leader and all its replicas are current.
func (w *world) awaitReplicas(ctx context.Context) error {
	var last *jetstream.ClusterInfo
	err := nodes.Await(ctx, patience, "all replicas of the stream are current", func() bool {
		s, err := w.js.Stream(ctx, w.stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		last = s.CachedInfo().Cluster
		current := 0
		for _, replica := range last.Replicas {
			if replica.Current && !replica.Offline {
				current++
			}
		}
		return last.Leader != "" && current == len(w.nats)-1
	})
	if err != nil && last != nil {
		for _, replica := range last.Replicas {
			err = fmt.Errorf("%w; %s: current %t, offline %t, %d behind, active %v ago",
				err, replica.Name, replica.Current, replica.Offline, replica.Lag, replica.Active)
		}
	}
	return err
}

// leader returns the node that leads the stream.
func (w *world) leader(ctx context.Context) (*nodes.Node, error) {
	var leader *nodes.Node
	err := nodes.Await(ctx, patience, "the stream has a leader", func() bool {
		s, err := w.js.Stream(ctx, w.stream)
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

// relaying returns the instance that publishes.
func (w *world) relaying(ctx context.Context) (*process, error) {
	published := func(p *process) float64 { return p.metric(ctx, "passbook_relay_published_events_total") }
	before := make(map[*process]float64)
	for _, p := range w.primaries {
		before[p] = published(p)
	}
	var found *process
	err := nodes.Await(ctx, patience, "an instance relays", func() bool {
		for _, p := range w.primaries {
			if before[p] >= 0 && published(p) > before[p] {
				found = p
			}
		}
		return found != nil
	})
	return found, err
}

// deleteStream deletes the stream, also if NATS answers late.
func (w *world) deleteStream(ctx context.Context) error {
	return nodes.Await(ctx, patience, "the stream is deleted", func() bool {
		err := w.js.DeleteStream(ctx, w.stream)
		return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
