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

// controlTime bounds a control: one that is not caught by then is not caught.
const controlTime = 40 * time.Second

// control is a service that is broken on purpose, to see that the suite notices. What is broken is SQL: the function that
// appends is replaced by one made from it, or a statement is changed on its way. The binary is the real one.
type control struct {
	name string
	// invariants are those that the suite is to find violated; one of them is enough.
	invariants []string
	// overlay breaks the database.
	overlay func(ctx context.Context, conn *pgx.Conn) error
	// rules break what an instance says to the database.
	rules func(st *stage) []*wire.Rule
	// act is what makes it show, beside the load; then is done with the load at its end.
	act  func(ctx context.Context, st *stage) error
	then func(w *world.World)
}

// stage is where a control is played.
type stage struct {
	w *world.World
	// held names the instances whose statements with the hold rule wait.
	held sync.Map
	// reached is how many have waited, flips those that wait to flip.
	reached atomic.Int64
}

// holding is a rule that keeps a statement of an instance waiting for as long as the stage says.
func (st *stage) holding(instance, match string) *wire.Rule {
	return &wire.Rule{Match: match, Hold: func() {
		for first := true; ; first = false {
			if _, held := st.held.Load(instance); !held {
				return
			}
			if first {
				st.reached.Add(1)
			}
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // it is what holding is
		}
	}}
}

// verdict is what became of a control.
type verdict struct {
	name   string
	caught oracle.Violation
	after  time.Duration
	err    error
}

// intact is the same stage with a service that is whole: nothing is to be found there.
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

// watch lets the load run, and what is to happen beside it, and asks the oracle until it has found what it is to find.
func (st *stage) watch(ctx context.Context, k control) (oracle.Violation, error) {
	st.w.Load.Start()
	acted := make(chan error, 1)
	actCtx, stop := context.WithCancel(ctx)
	var acting sync.WaitGroup
	defer acting.Wait()
	defer stop()
	// What is held goes on, whatever happened, or nothing could end.
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
					k.then(st.w)
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
	return oracle.Violation{}, fmt.Errorf("not caught within %s; what was seen: %s", controlTime, brief(st.w.Violations()))
}

// whole asks the oracle about a service that is not broken.
func (st *stage) whole(ctx context.Context) (oracle.Violation, error) {
	if _, err := st.w.Check(ctx); err != nil {
		return oracle.Violation{}, err
	}
	if all := st.w.Violations(); len(all) > 0 {
		return oracle.Violation{}, fmt.Errorf("the service is whole, and the suite has found%s", brief(all))
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
