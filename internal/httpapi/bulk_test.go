package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"passbook/internal/account"
	"passbook/internal/command"
)

// plainClient does not check responses against the specification, which needs complete ones.
var plainClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// bulk sends a body to POST /commands and returns the results, whatever the media type.
func (a *harness) bulk(mediaType, query, body string, header ...string) (status int, results []map[string]any) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.url+"/commands"+query, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Content-Type", mediaType)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := plainClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if got := response.Header.Get("Content-Type"); response.StatusCode == http.StatusOK && got != mediaType {
		a.t.Errorf("a response in %s to a request in %s", got, mediaType)
	}
	switch {
	case response.StatusCode != http.StatusOK:
		var one map[string]any
		err = json.Unmarshal(raw, &one)
		results = append(results, one)
	case mediaType == "application/json":
		err = json.Unmarshal(raw, &results)
	default:
		lines := bufio.NewScanner(strings.NewReader(string(raw)))
		for lines.Scan() && err == nil {
			var one map[string]any
			err = json.Unmarshal(lines.Bytes(), &one)
			results = append(results, one)
		}
	}
	if err != nil {
		a.t.Fatalf("%v: %s", err, raw)
	}
	return response.StatusCode, results
}

const deposit1 = `{"command":"deposit","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"1.00"}`

// TestBulkLogsAnOutageOnce expects one log line per request, not per item, for an unavailable database.
func TestBulkLogsAnOutageOnce(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{do: func(command.Request) (command.Result, error) { return command.Result{}, errUnavailable }})
	for range 2 {
		status, results := a.bulk("application/x-ndjson", "", strings.Repeat(deposit1+"\n", 50))
		if status != http.StatusOK || len(results) != 50 || results[49]["status"] != 503.0 {
			t.Fatalf("%d, %d results, the last %v", status, len(results), results[len(results)-1])
		}
	}
	if n := strings.Count(a.log.String(), "the database is unavailable"); n != 2 {
		t.Errorf("logged %d times in two requests", n)
	}
}

func TestBulkResultsAreInOrder(t *testing.T) {
	t.Parallel()
	items := []string{
		`{"command":"open","owner":"Ada","currency":"EUR"}`,
		`{"command":"deposit","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"-1"}`,
		`{"command":"steal"}`,
		`[]`,
		`{"command":"deposit","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":1,"owner":"x"}`,
		deposit1,
		`{"command":"close","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","reason":"done"}`,
		`{"command":"close"}`,
		`{"command":"withdraw","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":1,"if_version":"x"}`,
		`{"command":"withdraw","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":1,"idempotency_key":""}`,
	}
	want := []float64{201, 422, 422, 422, 422, 201, 200, 422, 422, 422}
	for mediaType, body := range map[string]string{
		"application/x-ndjson": strings.Join(items, "\n\n"),
		"application/json":     "[" + strings.Join(items, ",\n") + "]",
	} {
		t.Run(mediaType, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{})
			status, results := a.bulk(mediaType, "", body)
			if status != http.StatusOK || len(results) != len(want) {
				t.Fatalf("%d: %v", status, results)
			}
			for i, r := range results {
				if r["status"] != want[i] {
					t.Errorf("item %d: %v, want %v", i, r, want[i])
				}
				if want[i] < 300 && (r["position"] == nil || r["event_id"] == nil) || want[i] >= 400 && r["code"] == nil {
					t.Errorf("item %d: %v", i, r)
				}
			}
		})
	}
}

func TestUnreadableBulkBodies(t *testing.T) {
	t.Parallel()
	long := `{"command":"deposit","reference":"` + strings.Repeat("x", 300<<10) + `"}`
	for name, test := range map[string]struct {
		mediaType, body string
		status          int       // of the response
		items           []float64 // of the results
	}{
		"no commands":         {"application/x-ndjson", "\n\n", 200, nil},
		"an empty array":      {"application/json", " [ ] ", 200, nil},
		"a line broken":       {"application/x-ndjson", deposit1 + "\n{\n" + deposit1, 200, []float64{201, 400, 201}},
		"a line too long":     {"application/x-ndjson", deposit1 + "\n" + long + "\n" + deposit1, 200, []float64{201, 413, 201}},
		"an element too long": {"application/json", "[" + deposit1 + "," + long + "," + deposit1 + "]", 200, []float64{201, 413, 201}},
		"an array broken":     {"application/json", "[" + deposit1 + ",{]", 200, []float64{201, 400}},
		"an array cut off":    {"application/json", "[" + deposit1, 200, []float64{201, 400}},
		"an array and more":   {"application/json", "[" + deposit1 + "] 1", 200, []float64{201, 400}},
		"no array":            {"application/json", deposit1, 400, []float64{400}},
		"nothing at all":      {"application/json", "", 400, []float64{400}},
		"another media type":  {"text/plain", deposit1, 415, []float64{415}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, results := serve(t, &service{}).bulk(test.mediaType, "", test.body)
			if status != test.status || len(results) != len(test.items) {
				t.Fatalf("%d: %v", status, results)
			}
			for i, r := range results {
				if r["status"] != test.items[i] {
					t.Errorf("item %d: %v, want %v", i, r, test.items[i])
				}
			}
		})
	}
}

func TestBulkAtomic(t *testing.T) {
	t.Parallel()
	refused := &account.Refusal{Code: "insufficient-funds", Field: "amount", Detail: "too much"}
	calls := 0
	s := &service{do: func(r command.Request) (command.Result, error) {
		calls++
		if calls == 5 {
			return command.Result{}, refused
		}
		return recorded(r, 7, 3), nil
	}}
	a := serve(t, s)
	statuses := func(body string) string {
		t.Helper()
		status, results := a.bulk("application/x-ndjson", "?atomic=true", body)
		got := fmt.Sprint(status, ":")
		for _, r := range results {
			got += fmt.Sprint(" ", r["status"])
		}
		return got
	}
	three := strings.Repeat(deposit1+"\n", 3)
	for _, test := range []struct{ body, want string }{
		{three, "200: 201 201 201"},
		{three, "200: 424 422 424"}, // the fifth call is refused
		{deposit1 + "\n{\n" + deposit1, "200: 424 400 424"},
		{strings.Repeat(deposit1+"\n", 1001), "413: 413"},
	} {
		if got := statuses(test.body); got != test.want {
			t.Errorf("%q…: %s, want %s", test.body[:20], got, test.want)
		}
	}
	if calls != 5 {
		t.Errorf("%d commands were tried, want 5: an atomic request with an unreadable command is not applied", calls)
	}
}

// TestBulkKeys expects a key of the whole request to give each command its own key, and a command's own key to take precedence.
func TestBulkKeys(t *testing.T) {
	t.Parallel()
	var keys []*command.Key
	s := &service{do: func(r command.Request) (command.Result, error) {
		keys = append(keys, r.Key)
		return recorded(r, 7, 3), nil
	}}
	a := serve(t, s)
	own := strings.Replace(deposit1, `{`, `{"idempotency_key":"mine",`, 1)
	a.bulk("application/x-ndjson", "", deposit1+"\n"+deposit1+"\n"+own, "Idempotency-Key", "whole")
	a.bulk("application/json", "", "["+own+"]")
	if len(keys) != 4 || keys[0].Hash == keys[1].Hash || keys[2].Hash != keys[3].Hash || keys[0].Hash == keys[2].Hash {
		t.Errorf("keys %v", keys)
	}
}

// TestAtomicKeys expects either all or none of the commands of an atomic request to have keys: a retry after a lost response
// replays the commands without a key of their own like the others.
func TestAtomicKeys(t *testing.T) {
	t.Parallel()
	var keys []*command.Key
	s := &service{do: func(r command.Request) (command.Result, error) {
		keys = append(keys, r.Key)
		return recorded(r, 7, 3), nil
	}}
	a := serve(t, s)
	keysOf := func(lines ...string) []*command.Key {
		t.Helper()
		keys = nil
		if status, results := a.bulk("application/x-ndjson", "?atomic=true", strings.Join(lines, "\n")); status != http.StatusOK || len(keys) != len(lines) {
			t.Fatal(status, results)
		}
		return keys
	}
	own := strings.Replace(deposit1, `{`, `{"idempotency_key":"mine",`, 1)
	other := strings.Replace(own, "mine", "another", 1)
	changed := strings.Replace(deposit1, `"1.00"`, `"2.00"`, 1)
	for _, k := range keysOf(deposit1, deposit1) {
		if k != nil {
			t.Errorf("without any key: %v", k)
		}
	}
	first := keysOf(deposit1, own, deposit1, other)
	seen := map[[16]byte]bool{}
	for i, k := range first {
		if k == nil || seen[k.Hash] || k.Fingerprint == [16]byte{} || k.Refusal == nil {
			t.Fatalf("command %d: key %+v", i, k)
		}
		seen[k.Hash] = true
	}
	for i, k := range keysOf(deposit1, own, deposit1, other) {
		if k.Hash != first[i].Hash || k.Fingerprint != first[i].Fingerprint {
			t.Errorf("command %d has another key when it is retried", i)
		}
	}
	if again := keysOf(changed, own, deposit1, other)[0]; again.Hash != first[0].Hash || again.Fingerprint == first[0].Fingerprint {
		t.Error("a command without a key of its own can change undetected")
	}
	if fewer := keysOf(deposit1, own)[1]; fewer.Hash != first[1].Hash || fewer.Fingerprint == first[1].Fingerprint {
		t.Error("the same key with fewer commands is the same request")
	}
	a.bulk("application/x-ndjson", "", own)
	if alone := keys[len(keys)-1]; alone.Hash != first[1].Hash || alone.Fingerprint == first[1].Fingerprint {
		t.Error("the same key on a command that is not atomic is the same request")
	}
	if again := keysOf(deposit1, other)[0]; again.Hash == first[0].Hash {
		t.Error("the keys of two requests collide")
	}
}

// TestBulkIsStreamed sends a long sequence of commands and receives results meanwhile: neither side waits for the end, and memory
// does not grow with the length.
func TestBulkIsStreamed(t *testing.T) { //nolint:paralleltest // it measures the heap, which other tests fill
	a := serve(t, &service{})
	body, feed := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/commands", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	const total = 50_000
	sent := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		line := []byte(deposit1 + "\n")
		_, err := feed.Write(line)
		<-first // the first result arrives before the second command is sent
		for i := 1; i < total && err == nil; i++ {
			_, err = feed.Write(line)
		}
		sent <- errors.Join(err, feed.Close())
	}()
	response, err := plainClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	read := 0
	var before, after runtime.MemStats
	for lines.Scan() {
		read++
		switch read {
		case 1:
			close(first)
		case total / 10:
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err := errors.Join(lines.Err(), <-sent); err != nil || read != total {
		t.Fatalf("read %d of %d results: %v", read, total, err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestBulkClientDisconnects closes the connection in the middle; the server ends the request and leaks no goroutine (goleak).
func TestBulkClientDisconnects(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{})
	ctx, cancel := context.WithCancel(t.Context())
	body, feed := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/commands", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	go func() { _, _ = feed.Write([]byte(deposit1 + "\n")) }()
	response, err := plainClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = response.Body.Close()
	_ = feed.Close()
}

// TestBulksOnOneConnection sends one long body after another on one keep-alive connection: each gets all its results.
func TestBulksOnOneConnection(t *testing.T) {
	t.Parallel()
	const items = 3000
	a := serve(t, new(service))
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for n := range 5 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/commands", strings.NewReader(strings.Repeat(deposit1+"\n", items)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-ndjson")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if got := strings.Count(string(text), "\n"); err != nil || got != items {
			t.Fatalf("request %d has %d results, %v", n, got, err)
		}
	}
}
