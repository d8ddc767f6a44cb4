package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// pollEvery is how often a replay's progress is polled if it cannot be streamed.
const pollEvery = 250 * time.Millisecond

// Projections returns the state of all projections.
func (c *Client) Projections(ctx context.Context) ([]Projection, error) {
	req, err := newListProjectionsRequest(ctx, c.base)
	list, _, err := ask[ProjectionList](c, again, req, err)
	if err != nil {
		return nil, err
	}
	return list.Projections, nil
}

// Projection returns the state of one projection, such as balances.
func (c *Client) Projection(ctx context.Context, id string) (*Projection, error) {
	req, err := newGetProjectionRequest(ctx, c.base, id)
	p, _, err := ask[Projection](c, again, req, err)
	return p, err
}

// Pause stops a projection from applying events. Reads continue.
func (c *Client) Pause(ctx context.Context, id string) (*Projection, error) {
	req, err := newPauseProjectionRequest(ctx, c.base, id)
	p, _, err := ask[Projection](c, again, req, err)
	return p, err
}

// Resume makes a paused projection continue.
func (c *Client) Resume(ctx context.Context, id string) (*Projection, error) {
	req, err := newResumeProjectionRequest(ctx, c.base, id)
	p, _, err := ask[Projection](c, again, req, err)
	return p, err
}

// Rollback makes the previous generation of a read model live again. The client does not retry it, since a second rollback
// would undo the first.
func (c *Client) Rollback(ctx context.Context, id string) (*Projection, error) {
	req, err := newRollbackProjectionRequest(ctx, c.base, id)
	p, _, err := ask[Projection](c, once, req, err)
	return p, err
}

// StartReplay begins to rebuild a read model from the log while it keeps serving. If a replay of it is already running, it
// fails with a *Problem with the code replay-running and the ReplayID of that replay.
func (c *Client) StartReplay(ctx context.Context, projection string) (*Replay, error) {
	req, err := newStartReplayRequest(ctx, c.base, projection)
	r, _, err := ask[Replay](c, once, req, err)
	return r, err
}

// Replay returns the state of a replay.
func (c *Client) Replay(ctx context.Context, projection string, id uuid.UUID) (*Replay, error) {
	req, err := newGetReplayRequest(ctx, c.base, projection, id, &getReplayParams{})
	r, _, err := ask[Replay](c, again, req, err)
	return r, err
}

// CancelReplay cancels a replay; the live read model is untouched.
func (c *Client) CancelReplay(ctx context.Context, projection string, id uuid.UUID) (*Replay, error) {
	req, err := newCancelReplayRequest(ctx, c.base, projection, id)
	r, _, err := ask[Replay](c, again, req, err)
	return r, err
}

// Replays returns at most limit of a projection's latest replays and rollbacks, latest first.
func (c *Client) Replays(ctx context.Context, projection string, limit int32) ([]Replay, error) {
	req, err := newListReplaysRequest(ctx, c.base, projection, &listReplaysParams{Limit: limit})
	list, _, err := ask[ReplayList](c, again, req, err)
	if err != nil {
		return nil, err
	}
	return list.Replays, nil
}

// FollowReplay iterates over the progress of a replay until it is over, by a stream, or by polling if there is none. It
// waits for a restarting server for as long as [WithRetryFor] says. It stops at an error.
func (c *Client) FollowReplay(ctx context.Context, projection string, id uuid.UUID) iter.Seq2[Replay, error] {
	return func(yield func(Replay, error) bool) {
		polling := false
		for {
			over, err := c.watchReplay(ctx, projection, id, &polling, func(r Replay) bool { return yield(r, nil) })
			if err != nil {
				yield(Replay{}, err)
				return
			}
			if over {
				return
			}
			if err := pause(ctx, pollEvery); err != nil {
				yield(Replay{}, err)
				return
			}
		}
	}
}

// watchReplay passes on the progress of a replay until the stream ends, or once if there is no stream. It reports whether
// to stop, because the replay is over or the caller has stopped.
func (c *Client) watchReplay(
	ctx context.Context, projection string, id uuid.UUID, polling *bool, tell func(Replay) bool,
) (over bool, err error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := newGetReplayRequest(reading, c.base, projection, id, &getReplayParams{})
	if err != nil {
		return false, fmt.Errorf("client: %w", err)
	}
	told := func(text []byte) (bool, error) {
		var r Replay
		if err := json.Unmarshal(text, &r); err != nil {
			return false, fmt.Errorf("client: replay: %w", err)
		}
		return !tell(r) || r.State != ReplayStateRunning, nil
	}
	if *polling {
		got, err := c.send(req, again)
		if err != nil {
			return false, err
		}
		return told(got.body)
	}
	req.Header.Set("Accept", streamOrProblem+", application/json;q=0.5")
	got, err := c.open(req)
	var p *Problem
	if errors.As(err, &p) && (p.Code == "too-many-streams" || p.Code == "caller-share-used" || p.Status == http.StatusNotAcceptable) {
		*polling = true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
		defer func() { _ = got.stream.Close() }()
		*polling = true
		text, err := io.ReadAll(io.LimitReader(got.stream, 1<<20))
		if err != nil {
			return false, nil // try again
		}
		return told(text)
	}
	for m := range messages(got.stream, cancel) {
		if len(m.data) == 0 {
			continue
		}
		if over, err := told(m.data); over || err != nil {
			return over, err
		}
	}
	return false, ctx.Err()
}

// Failures iterates over a projection's events that could not be applied, in order of position. It stops at an error.
func (c *Client) Failures(ctx context.Context, projection string) iter.Seq2[Failure, error] {
	const size = 100
	return func(yield func(Failure, error) bool) {
		for after := int64(0); ; {
			req, err := newListFailuresRequest(ctx, c.base, projection, &listFailuresParams{After: after, Limit: size})
			list, _, err := ask[FailureList](c, again, req, err)
			if err != nil {
				yield(Failure{}, err)
				return
			}
			for i := range list.Failures {
				after = list.Failures[i].Position
				if !yield(list.Failures[i], nil) {
					return
				}
			}
			if len(list.Failures) < size {
				return
			}
		}
	}
}

// RetryFailure makes the server retry the event that waits at a position, and then the account's later events.
func (c *Client) RetryFailure(ctx context.Context, projection string, position int64) (*Failure, error) {
	req, err := newRetryFailureRequest(ctx, c.base, projection, position)
	f, _, err := ask[Failure](c, again, req, err)
	return f, err
}
