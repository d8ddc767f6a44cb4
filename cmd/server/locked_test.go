package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// TestLockedProjectionsAreUnavailable locks the table projections, as a migration or an operator would: requests that need
// it get 503 after the time limit of any query, and succeed once the lock is released.
func TestLockedProjectionsAreUnavailable(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	p := launch(t, bin, "DATABASE_URL="+url)
	p.awaitReady(t, 60*time.Second)
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `lock table projections in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 20 * time.Second} // twice what a query may take
	var asking sync.WaitGroup
	for _, request := range []string{
		"GET /projections", "GET /projections/stats", "GET /projections/balances/failures", "GET /readyz",
		"POST /projections/totals/pause", "POST /projections/totals/resume", "POST /projections/totals/replay",
		"POST /projections/totals/rollback", "POST /projections/totals/failures/1/retry",
	} {
		asking.Go(func() {
			method, path, _ := strings.Cut(request, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, p.base+path, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			began := time.Now()
			response, err := client.Do(r)
			if err != nil {
				t.Errorf("%s: %v", request, err)
				return
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: %d after %s", request, response.StatusCode, time.Since(began))
			}
		})
	}
	asking.Wait()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyTrue(t, 30*time.Second, "the service is ready again", func() bool { return p.ready(t.Context(), t) })
}
