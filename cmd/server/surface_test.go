package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

var (
	surfaceRequests = flag.Int("surface.requests", 1500, "requests of TestWholeSurface")
	surfaceSeed     = flag.Uint64("surface.seed", 1, "seed of TestWholeSurface; it and a request's number determine the request")
)

// TestWholeSurface sends a real server requests that api/openapi.yaml allows and requests that it does not: wrong types,
// missing and repeated fields, huge numbers, deep nesting, invalid UTF-8, odd methods, headers, paths and parameters.
// Every response conforms to the document, none is a 5xx, and afterwards the books add up (I10).
func TestWholeSurface(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	p := launch(t, bin, "DATABASE_URL="+url)
	p.awaitReady(t, 60*time.Second)
	g, err := newSurface()
	if err != nil {
		t.Fatal(err)
	}
	a := api{t, apitest.Client(t), p.base}
	for _, id := range g.accounts {
		a.call("POST", "/accounts", `{"account_id":"`+id+`","owner":"Ada","currency":"EUR","overdraft_limit":"50"}`, 201)
		a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1000"}`, 201)
	}
	statuses := make([]int, *surfaceRequests)
	var group errgroup.Group
	group.SetLimit(8)
	for n := range *surfaceRequests {
		group.Go(func() (err error) {
			r := g.request(rand.New(rand.NewPCG(*surfaceSeed, uint64(n))))
			if statuses[n], err = r.send(t.Context(), p.base); err != nil {
				t.Errorf("request %d of seed %d: %v\n%.2000q", n, *surfaceSeed, err, r.text)
			}
			return nil
		})
	}
	_ = group.Wait()
	counts := make(map[int]int)
	for _, status := range statuses {
		counts[status]++
	}
	t.Logf("statuses: %v", counts)
	for _, status := range []int{200, 201, 304, 400, 404, 405, 409, 412, 415, 422} {
		if counts[status] == 0 {
			t.Errorf("none of %d requests got %d: the generated requests are too narrow", len(statuses), status)
		}
	}
	for _, projection := range []string{"balances", "transactions", "totals", "holds", "stats"} {
		a.call("POST", "/projections/"+projection+"/resume", "", 200)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil { // a data race makes the server fail
		t.Errorf("the server stopped with %v", p.err)
	}
	for line := range strings.Lines(p.out.String()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") {
			t.Errorf("the server logged %.2000s", line)
		}
	}
	if code, out := runVerify(t, bin, url); code != 0 {
		t.Errorf("verify: %s", out)
	}
}

// rawRequest is a request as sent over the wire.
type rawRequest struct {
	method, target, text string
	waits                bool // waits for a position, which may never be reached
}

// send sends the request and checks the response against the document.
func (r *rawRequest) send(ctx context.Context, base string) (status int, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return 0, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	written := make(chan struct{})
	go func() { // a server may answer, and close, before it has read everything
		defer close(written)
		_, _ = io.WriteString(conn, r.text)
	}()
	defer func() { <-written }()
	defer func() { _ = conn.Close() }()
	request := &http.Request{Method: r.method}
	answers := bufio.NewReader(conn)
	response, err := http.ReadResponse(answers, request) //nolint:bodyclose // it goes with the connection
	if err == nil && response.StatusCode == http.StatusContinue {
		response, err = http.ReadResponse(answers, request) //nolint:bodyclose // it goes with the connection
	}
	if err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	return response.StatusCode, r.check(request, response)
}

// check reads a response, unless it is endless, and returns an error that says what is wrong with it.
func (r *rawRequest) check(request *http.Request, response *http.Response) error {
	status := response.StatusCode
	if response.Header.Get("X-Request-Id") == "" {
		if status == http.StatusBadRequest || status == http.StatusRequestHeaderFieldsTooLarge {
			return nil // by net/http, to malformed HTTP: the service has not seen it
		}
		return fmt.Errorf("status %d, and no X-Request-Id", status)
	}
	if response.Header.Get("Content-Type") == "text/event-stream" && status == http.StatusOK {
		return nil // endless
	}
	body, err := io.ReadAll(response.Body)
	if errors.Is(err, syscall.ECONNRESET) && len(r.text) > 64<<10 {
		return nil // the refused body was still being sent
	}
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	behind := r.method == http.MethodHead || bytes.Contains(body, []byte(`"projection-behind"`))
	if status >= 500 && !(status == http.StatusServiceUnavailable && r.waits && behind) {
		return fmt.Errorf("status %d: %.1000s", status, body)
	}
	if request.URL, err = url.ParseRequestURI(r.target); err != nil {
		return fmt.Errorf("status %d for an unparsable target: %w", status, err)
	}
	problems, err := apitest.Check(request, response, body)
	if err != nil || len(problems) == 0 {
		return err
	}
	return fmt.Errorf("status %d, which does not conform to api/openapi.yaml: %s: %.1000s", status, strings.Join(problems, "; "), body)
}
