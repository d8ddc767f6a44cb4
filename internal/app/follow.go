package app

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/config"
	"passbook/internal/follow"
	"passbook/internal/httpapi"
)

// addFollower adds what fills the log from the stream to the workers, and returns its readiness check. After each batch of events
// it calls appended.
func (a *app) addFollower(ctx context.Context, cfg config.Config, d *Database, registry prometheus.Registerer, appended func(),
) (func() httpapi.Check, error) {
	// Only the owner may write the log but by the function append, which takes no times.
	pool, err := a.pool(ctx, d.OwnerURL, "passbook follower", 2, time.Minute)
	if err != nil {
		return nil, err
	}
	conn, err := connectNATS(cfg, cfg.FollowURL, "passbook follower")
	if err != nil {
		return nil, err
	}
	f, err := follow.New(follow.Config{Pool: pool, Conn: conn, Stream: cfg.StreamName, Appended: appended, Logger: cfg.Log})
	if err != nil {
		conn.Close()
		return nil, err
	}
	registerFollower(registry, f)
	a.workers = append(a.workers, func(ctx context.Context) error {
		defer conn.Close()
		return f.Run(ctx)
	})
	return func() httpapi.Check { return followerCheck(f.Status()) }, nil
}

// followerCheck reports whether a follower has what was in the stream when it started. One that has cannot become unready by
// the loss of NATS: it serves what it has, and min_position tells its callers what that is.
func followerCheck(s follow.Status) httpapi.Check {
	check := httpapi.Check{Name: "follower", OK: s.CaughtUp && s.State != follow.Halted}
	switch {
	case s.State == follow.Halted:
		check.Detail = "has halted: its log is not a copy of the stream; the server's log says what to do"
	case !s.CaughtUp:
		check.Detail = fmt.Sprintf("has not caught up yet: it is at position %d of %d", s.Position, s.End)
	default:
		check.Detail = fmt.Sprintf("%s at position %d of %d", s.State, s.Position, s.End)
	}
	if s.State == follow.Unavailable {
		check.Detail += ": " + s.Error
	}
	return check
}

// registerFollower registers the state of a follower.
func registerFollower(registry prometheus.Registerer, f *follow.Follower) {
	gauge := func(name, help string, value func(follow.Status) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "passbook_follower_" + name, Help: help},
			func() float64 { return value(f.Status()) }))
	}
	gauge("position", "Position of the last event in this follower's log.", func(s follow.Status) float64 { return float64(s.Position) })
	gauge("lag_events", "Events in the stream, as last seen, that are not in this follower's log.",
		func(s follow.Status) float64 { return float64(max(0, s.End-s.Position)) })
	gauge("following", "1 while the follower receives events.", func(s follow.Status) float64 { return oneIf(s.State == follow.Following) })
	gauge("halted", "1 if the follower's log is not a copy of the stream.", func(s follow.Status) float64 { return oneIf(s.State == follow.Halted) })
}
