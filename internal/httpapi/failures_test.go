package httpapi_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"passbook/internal/projector"
	"passbook/internal/query"
)

const failuresPath = "/projections/balances/failures"

func (s *service) Replays(ctx context.Context, id string, limit int) ([]projector.Replay, error) {
	r, err := s.StartReplay(ctx, id)
	all := make([]projector.Replay, min(limit, 3))
	for i := range all {
		all[i] = r
	}
	return all, err
}

func (s *service) Rollback(ctx context.Context, id string) (projector.Status, error) {
	return s.Projection(ctx, id)
}

func (s *service) Failures(ctx context.Context, id string, after int64, limit int) ([]projector.Failure, error) {
	f, err := s.RetryFailure(ctx, id, after+1)
	all := make([]projector.Failure, min(limit, 2))
	for i := range all {
		all[i] = f
		all[i].Position += int64(i)
	}
	return all, err
}

func (s *service) RetryFailure(_ context.Context, id string, position int64) (projector.Failure, error) {
	if s.failure != nil {
		return s.failure(id)
	}
	return projector.Failure{
		Position: position, EventID: eventID, Type: "MoneyDeposited", StreamID: accountID, Error: "no room", Attempts: 4,
		Parked: true, Waiting: 3, FirstFailedAt: moment, LastTriedAt: moment,
	}, nil
}

func (s *service) Stats(_ context.Context, w query.Wait) (query.Stats, int64, error) {
	if w.MinPosition > 42 {
		return query.Stats{}, 42, query.ErrBehind
	}
	return query.Stats{
		AsOf: moment, Last1: 3, Last10: 2.5, Last60: .5, Active: 7, Suspended: 1, Closed: 2,
		Moved: []query.Moved{{Currency: sampleAccount(accountID).Currency, Amount: "12.34", Movements: 2}},
	}, 42, nil
}

func TestFailures(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	got := a.send("GET", failuresPath, "")
	if got.status != 200 || strings.Count(got.text, `"position"`) != 2 || got.header.Get("Link") != "" {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
	for _, member := range []string{`"error":"no room"`, `"waiting":3`, `"account_id":"` + accountID.String() + `"`} {
		if !strings.Contains(got.text, member) {
			t.Errorf("%s has no %s", got.text, member)
		}
	}
	got = a.send("GET", failuresPath+"?after=6&limit=1", "")
	if want := `<` + failuresPath + `?after=7&limit=1>; rel="next"`; got.header.Get("Link") != want {
		t.Errorf("Link is %q, want %q", got.header.Get("Link"), want)
	}
	got = a.send("POST", failuresPath+"/7/retry", "")
	if got.status != 202 || got.json(t)["position"] != 7.0 {
		t.Errorf("%d %s", got.status, got.text)
	}
	for _, path := range []string{failuresPath + "?limit=0", failuresPath + "?after=-1", "/projections/balances/replays?limit=x"} {
		if got := a.send("GET", path, ""); got.status != 400 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	for _, position := range []string{"0", "x", "99999999999999999999"} {
		if got := a.send("POST", failuresPath+"/"+position+"/retry", ""); got.status != 400 {
			t.Errorf("retry of %s: %d %s", position, got.status, got.text)
		}
	}
}

func TestErrorsOfFailuresAndGenerations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err     error
		request string
		status  int
		code    string
	}{
		{projector.ErrUnknownFailure, "POST " + failuresPath + "/7/retry", 404, "failure-not-found"},
		{projector.ErrUnknownProjection, "POST " + failuresPath + "/7/retry", 404, "projection-not-found"},
		{projector.ErrUnknownProjection, "GET " + failuresPath, 404, "projection-not-found"},
		{projector.ErrUnknownProjection, "GET /projections/balances/replays", 404, "projection-not-found"},
		{projector.ErrNoPreviousGeneration, "POST /projections/balances/rollback", 409, "no-previous-generation"},
		{projector.ErrRollbackFailed, "POST /projections/balances/rollback", 409, "rollback-failed"},
		{&projector.ReplayRunningError{Replay: sampleReplay("balances")}, "POST /projections/balances/rollback", 409, "replay-running"},
		{errUnavailable, "POST /projections/balances/rollback", 503, "unavailable"},
	} {
		t.Run(tt.code+" "+tt.request, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{
				status:  func(string) (projector.Status, error) { return projector.Status{}, tt.err },
				replay:  func(string) (projector.Replay, error) { return projector.Replay{}, tt.err },
				failure: func(string) (projector.Failure, error) { return projector.Failure{}, tt.err },
			})
			method, path, _ := strings.Cut(tt.request, " ")
			got := a.send(method, path, "")
			if code, _ := got.problem(t); got.status != tt.status || code != tt.code {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
}

func TestGenerationsAndStats(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	if got := a.send("GET", "/projections/balances/replays?limit=2", ""); strings.Count(got.text, `"kind":"replay"`) != 2 {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := a.send("POST", "/projections/balances/rollback", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.text)
	}
	got := a.send("GET", "/stats", "")
	if got.status != 200 || got.header.Get("Passbook-Position") != "42" ||
		!strings.Contains(got.text, `"moved":[{"amount":"12.34","currency":"EUR","movements":2}]`) ||
		!strings.Contains(got.text, `"accounts":{"active":7,"closed":2,"suspended":1}`) {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
	got = a.send("GET", "/stats?min_position=43", "", "Prefer", "wait=1")
	if code, _ := got.problem(t); got.status != 503 || code != "projection-behind" || got.header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
}

var eventStreams = []string{"Accept", "text/event-stream"}

// TestReplayStream reads a replay's progress to its end.
func TestReplayStream(t *testing.T) {
	t.Parallel()
	var looked atomic.Int64
	states := []struct {
		state     projector.ReplayState
		processed int64
	}{{"running", 10}, {"running", 10}, {"running", 30}, {"completed", 42}}
	a := serve(t, &service{replay: func(id string) (projector.Replay, error) {
		at := states[min(looked.Add(1), int64(len(states)))-1]
		r := sampleReplay(id)
		r.State, r.Processed = at.state, at.processed
		if at.state == "completed" {
			r.FinishedAt = moment
		}
		return r, nil
	}})
	got := a.send("GET", replayPath, "", eventStreams...)
	if got.status != 200 || got.header.Get("Content-Type") != "text/event-stream" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", got.status, got.header)
	}
	var names []string
	for line := range strings.Lines(got.text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "event: "); ok {
			names = append(names, name)
		}
	}
	// Unchanged progress is not sent again.
	if strings.Join(names, " ") != "progress progress completed" || !strings.Contains(got.text, `"processed":42`) {
		t.Errorf("%s", got.text)
	}
	if got := a.send("HEAD", replayPath, "", eventStreams...); got.status != 200 || got.text != "" {
		t.Errorf("HEAD: %d %s", got.status, got.text)
	}
}

// TestStreamOfUnknownReplay expects an error before the stream begins to get the same response as without a stream.
func TestStreamOfUnknownReplay(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{replay: func(string) (projector.Replay, error) { return projector.Replay{}, projector.ErrUnknownReplay }})
	if got := a.send("GET", replayPath, "", eventStreams...); got.status != 404 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// TestReplayStreamsAreBounded opens the allowed number of streams and one more, and stops the service.
func TestReplayStreamsAreBounded(t *testing.T) {
	t.Parallel()
	s := &service{stopping: make(chan struct{}), auth: &callers{}}
	a := serve(t, s)
	const most, share = 32, 8
	keys := []string{"projections:read", "projections:read+events:read", "projections:read+accounts:read", "projections:read+metrics:read", "projections:admin"}
	open := make([]*http.Response, most)
	for i := range open {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+replayPath, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Authorization", "Bearer "+keys[i/share])
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if open[i], err = client.Do(r); err != nil { //nolint:bodyclose // deferred below
			t.Fatal(err)
		}
		defer func() { _ = open[i].Body.Close() }()
		if line, err := bufio.NewReader(open[i].Body).ReadString('\n'); err != nil || line != "event: progress\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if i == share-1 {
			got := a.send("GET", replayPath, "", "Accept", "text/event-stream, application/problem+json", "Authorization", "Bearer "+keys[0])
			if code, _ := got.problem(t); got.status != 429 || code != "caller-share-used" || got.header.Get("Retry-After") == "" {
				t.Errorf("beyond the share: %d %s", got.status, got.text)
			}
		}
	}
	got := a.send("GET", replayPath, "", "Accept", "text/event-stream, application/problem+json", "Authorization", "Bearer "+keys[4])
	if code, _ := got.problem(t); got.status != 503 || code != "too-many-streams" || got.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", got.status, got.text)
	}
	close(s.stopping) // else the streams, which never end, would keep the test's server open
	for _, response := range open {
		for buf := make([]byte, 1024); ; {
			if _, err := response.Body.Read(buf); err != nil {
				break // its end
			}
		}
	}
}
