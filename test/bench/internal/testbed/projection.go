package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// CatchUp waits until the balances projection has applied the whole log, and says how long that took.
func (p *Process) CatchUp(ctx context.Context, timeout time.Duration) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var (
		status struct {
			Lag   int64  `json:"lag"`
			State string `json:"state"`
			Error string `json:"error"`
		}
		callErr error
	)
	err := p.await(ctx, pollEvery, func() bool {
		if err := p.Call(ctx, http.MethodGet, "/projections/balances", "", http.StatusOK, &status); err != nil {
			if ctx.Err() == nil {
				callErr = err
			}
			return callErr != nil
		}
		return status.Lag == 0
	})
	if err = errors.Join(err, callErr); err != nil {
		return 0, fmt.Errorf("the projection did not catch up (%s, %d behind, %s): %w", status.State, status.Lag, status.Error, err)
	}
	return time.Since(start), nil
}

// Replay is a finished replay.
type Replay struct {
	Total int64
	Took  time.Duration
}

// Replay rebuilds the balances projection and waits until the new generation is live.
func (p *Process) Replay(ctx context.Context, timeout time.Duration) (Replay, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var r struct {
		ReplayID   string    `json:"id"`
		State      string    `json:"state"`
		Error      string    `json:"error"`
		Total      int64     `json:"total"`
		StartedAt  time.Time `json:"started_at"`
		FinishedAt time.Time `json:"finished_at"`
	}
	if err := p.Call(ctx, http.MethodPost, "/projections/balances/replay", "", http.StatusAccepted, &r); err != nil {
		return Replay{}, err
	}
	path := "/projections/balances/replays/" + r.ReplayID
	var callErr error
	err := p.await(ctx, 10*pollEvery, func() bool {
		callErr = p.Call(ctx, http.MethodGet, path, "", http.StatusOK, &r)
		return callErr != nil || r.State != "running"
	})
	if err = errors.Join(err, callErr); err != nil {
		return Replay{}, fmt.Errorf("replay: %w", err)
	}
	if r.State != "completed" {
		return Replay{}, fmt.Errorf("the replay is %s: %s", r.State, r.Error)
	}
	return Replay{Total: r.Total, Took: r.FinishedAt.Sub(r.StartedAt)}, nil
}
