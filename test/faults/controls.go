package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/test/faults/internal/load"
	"passbook/test/faults/internal/oracle"
	"passbook/test/faults/internal/wire"
	"passbook/test/faults/internal/world"
)

// controlTime is how long the suite may take to catch a control.
const controlTime = 40 * time.Second

// control is a service that is broken on purpose, to check that the suite notices. A control breaks SQL: it rewrites the
// append function, or changes a statement on its way. The binary is the real one.
type control struct {
	name string
	// invariants are those that the suite must find violated; one is enough.
	invariants []string
	// overlay breaks the database.
	overlay func(ctx context.Context, conn *pgx.Conn) error
	// rules change the statements that an instance sends to the database.
	rules func(st *stage) []*wire.Rule
	// act provokes the violation while the load runs; then runs after the load has ended.
	act  func(ctx context.Context, st *stage) error
	then func(ctx context.Context, w *world.World) error
}

// stage is the world of a control.
type stage struct {
	w *world.World
	// rules are those of the control, for all instances.
	rules []*wire.Rule
	// held names the instances whose statements wait at the hold rule.
	held sync.Map
	// reached is how many have waited; flips is how many wait to flip.
	reached atomic.Int64
}

// holding returns a rule that delays a statement of an instance until the stage releases it.
func (st *stage) holding(instance, match string) *wire.Rule {
	return &wire.Rule{Match: match, Hold: func() {
		for first := true; ; first = false {
			if _, held := st.held.Load(instance); !held {
				return
			}
			if first {
				st.reached.Add(1)
			}
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // the delay is the purpose
		}
	}}
}

// verdict is the result of a control.
type verdict struct {
	name   string
	caught oracle.Violation
	after  time.Duration
	err    error
}

// intact returns the same control with an unbroken service: the suite must find nothing there.
func (k control) intact() control {
	whole := control{name: k.name, act: k.act, then: k.then}
	if k.rules != nil {
		whole.rules = func(st *stage) []*wire.Rule {
			return slices.DeleteFunc(k.rules(st), func(r *wire.Rule) bool { return r.Old != "" || r.Then != "" })
		}
	}
	return whole
}

// play runs a control until the suite has caught it, or its time is over.
func play(ctx context.Context, c *world.Cluster, o world.Options, k control) (v verdict) {
	v.name = k.name
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	st := &stage{}
	var proxies []*wire.Proxy
	o.Overlay = k.overlay
	o.Load = load.Config{Accounts: 6, Clients: 8, Readers: 2, Pause: 4 * time.Millisecond, Resend: 0.5, Bulk: 0.1}
	if k.rules != nil {
		o.Via = func(instance, addr string) (string, error) {
			rules := k.rules(st)
			st.rules = append(st.rules, rules...)
			if k.then == nil {
				rules = append(rules, st.holding(o.Name+"-"+instance, begin), st.holding(o.Name+"-flip", lockLive))
			}
			p, err := wire.New(ctx, addr, rules...)
			if err != nil {
				return "", err
			}
			proxies = append(proxies, p)
			return p.Addr(), nil
		}
	}
	defer func() {
		for _, p := range proxies {
			p.Close()
		}
	}()
	w, err := world.New(ctx, c, o)
	if err != nil {
		v.err = err
		return v
	}
	defer w.Close()
	st.w = w
	began := time.Now()
	v.caught, v.err = st.watch(ctx, k)
	v.after = time.Since(began)
	for _, p := range proxies {
		v.err = errors.Join(v.err, p.Stale())
	}
	return v
}

// watch runs the load and the control's act, and calls the oracle until it finds the expected violation.
func (st *stage) watch(ctx context.Context, k control) (oracle.Violation, error) {
	st.w.Load.Start()
	acted := make(chan error, 1)
	actCtx, stop := context.WithCancel(ctx)
	var acting sync.WaitGroup
	defer acting.Wait()
	defer stop()
	// Release what is held in any case, or nothing could end.
	defer st.held.Clear()
	if k.act != nil {
		acting.Go(func() { acted <- k.act(actCtx, st) })
	}
	for ctx.Err() == nil {
		select {
		case err := <-acted:
			if err != nil {
				return oracle.Violation{}, err
			}
			if k.then != nil || len(k.invariants) == 0 {
				finish, cancel := context.WithTimeout(ctx, 5*time.Second)
				st.w.Load.Finish(finish)
				cancel()
				if k.then != nil {
					if err := k.then(ctx, st.w); err != nil {
						return oracle.Violation{}, err
					}
				}
			}
			if len(k.invariants) == 0 {
				return st.whole(ctx)
			}
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
		if _, err := st.w.Check(ctx); err != nil && ctx.Err() == nil {
			return oracle.Violation{}, err
		}
		for _, v := range st.w.Violations() {
			if slices.Contains(k.invariants, v.Invariant) {
				return v, nil
			}
		}
	}
	return oracle.Violation{}, fmt.Errorf("not caught within %s, with %d commands acknowledged and %d statements matched; found: %s",
		controlTime, st.w.Load.Acknowledged(), st.matched(), brief(st.w.Violations()))
}

// matched returns how many statements the control's rules have matched.
func (st *stage) matched() (n int64) {
	for _, r := range st.rules {
		n += r.Hits()
	}
	return n
}

// whole checks an unbroken service with the oracle.
func (st *stage) whole(ctx context.Context) (oracle.Violation, error) {
	if _, err := st.w.Check(ctx); err != nil {
		return oracle.Violation{}, err
	}
	if all := st.w.Violations(); len(all) > 0 {
		return oracle.Violation{}, fmt.Errorf("the service is not broken, but the suite has found%s", brief(all))
	}
	return oracle.Violation{}, nil
}

func brief(all []oracle.Violation) string {
	var b strings.Builder
	for i, v := range all {
		if i == 5 {
			fmt.Fprintf(&b, " and %d more", len(all)-i)
			break
		}
		b.WriteString(" " + v.String() + ";")
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()
}
