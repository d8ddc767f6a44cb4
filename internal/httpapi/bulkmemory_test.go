package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"passbook/internal/command"
	"passbook/internal/httpapi"
)

// TestBulkMemoryIsShared has memory for three requests: a fourth is refused, and served once one of the three has ended.
func TestBulkMemoryIsShared(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{bulk: httpapi.BulkLimits{Memory: 1 << 20, Wait: 50 * time.Millisecond}})
	hold := func() (end func()) {
		body, feed := io.Pipe()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/commands", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-ndjson")
		go func() { _, _ = io.WriteString(feed, deposit1+"\n") }()
		response, err := plainClient.Do(request) //nolint:bodyclose // end does
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response, err)
		}
		return func() {
			_ = feed.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Error(err)
			}
			_ = response.Body.Close()
		}
	}
	ends := []func(){hold(), hold(), hold()}
	for _, query := range []string{"", "?atomic=true"} {
		got := a.send("POST", "/commands"+query, strings.Repeat(deposit1+"\n", 200), "Content-Type", "application/x-ndjson")
		if code, _ := got.problem(t); got.status != http.StatusServiceUnavailable || code != "overloaded" || got.header.Get("Retry-After") == "" {
			t.Errorf("beyond the budget: %d %s", got.status, got.text)
		}
	}
	ends[0]()
	if status, results := a.bulk("application/x-ndjson", "", deposit1); status != http.StatusOK || len(results) != 1 {
		t.Errorf("after one has ended: %d %v", status, results)
	}
	ends[1]()
	ends[2]()
}

// TestBulkMemoryIsReleased sends, one request after another, many times as much as fits in memory: commands that are applied,
// refused, bad and too large, and truncated bodies.
func TestBulkMemoryIsReleased(t *testing.T) {
	t.Parallel()
	calls := 0
	a := serve(t, &service{
		bulk: httpapi.BulkLimits{Memory: 1 << 20, Wait: 10 * time.Second},
		do: func(r command.Request) (command.Result, error) {
			if calls++; calls%3 == 0 {
				return command.Result{}, errors.New("unexpected")
			}
			return recorded(r, 7, 3), nil
		},
	})
	long := `{"command":"deposit","reference":"` + strings.Repeat("x", 300<<10) + `"}`
	for range 10 {
		for _, try := range []struct {
			mediaType, query, body string
			results                int
		}{
			{"application/x-ndjson", "", strings.Repeat(deposit1+"\n", 2000), 2000},
			{"application/x-ndjson", "", strings.Repeat(`{"command":"deposit","a":1,"b":2}`+"\n", 300), 300},
			{"application/x-ndjson", "?atomic=true", strings.Repeat("{}\n", 100), 100},
			{"application/json", "", "[" + deposit1 + "]", 1},
			{"application/json", "", "[" + deposit1 + "," + long, 2},
		} {
			status, results := a.bulk(try.mediaType, try.query, try.body)
			if status != http.StatusOK || len(results) != try.results {
				t.Fatalf("%s%s: %d with %d results, the first %v", try.mediaType, try.query, status, len(results), results[0])
			}
		}
	}
}

// TestBulkErrorsAreBounded sends a request with more bad fields than the problems may name.
func TestBulkErrorsAreBounded(t *testing.T) {
	t.Parallel()
	item := new(strings.Builder)
	item.WriteString(`{"command":"deposit"`)
	for i := range 30 {
		fmt.Fprintf(item, `,"field%d":1`, i)
	}
	item.WriteString("}\n")
	a := serve(t, &service{})
	for _, query := range []string{"", "?atomic=true"} {
		status, results := a.bulk("application/x-ndjson", query, strings.Repeat(item.String(), 500))
		if status != http.StatusOK || len(results) != 500 {
			t.Fatalf("%s: %d with %d results", query, status, len(results))
		}
		named := 0
		for i, r := range results {
			errs, _ := r["errors"].([]any)
			named += len(errs)
			if detail, _ := r["detail"].(string); r["status"] != 422.0 || !strings.Contains(detail, "fields are not valid") ||
				len(errs) < 32 && strings.Contains(detail, "errors says why") {
				t.Fatalf("%s: result %d is %v", query, i, r)
			}
		}
		// A chunk of a stream is whatever has arrived, so that there may be several.
		if named < 1024 || query != "" && named > 1024 || named > 10*1024 {
			t.Errorf("%s: %d errors are named", query, named)
		}
	}
}
