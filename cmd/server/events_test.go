package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"passbook/internal/httpapi/apitest"
)

// follow opens a stream of events and returns a channel with its events, closed when the stream ends.
func (p *process) follow(t *testing.T, query string) <-chan event.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/events"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r) //nolint:bodyclose // the cleanup closes it
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	events := make(chan event.Event, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var e event.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Errorf("%s: %v", data, err)
			}
			events <- e
		}
	}()
	t.Cleanup(func() { cancel(); _ = response.Body.Close(); <-done })
	return events
}

func await(t *testing.T, events <-chan event.Event, position string) event.Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok || e.Extensions()["position"] != position {
			t.Fatalf("got %v instead of the event at position %s", e, position)
		}
		return e
	case <-time.After(30 * time.Second):
		t.Fatalf("no event at position %s", position)
	}
	return event.Event{}
}

// TestFeedEndToEnd reads the log as CloudEvents, in pages and live, and stops the server while a stream is open.
func TestFeedEndToEnd(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), private(t))
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	live := p.follow(t, "")
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	other := a.call("POST", "/accounts", `{"owner":"Bob","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"90071992547409.93","reference":"a \"b\""}`, 201)
	a.call("POST", "/transfers", `{"from_account_id":"`+id+`","to_account_id":"`+other+`","amount":"1"}`, 201)
	for i, want := range []string{"AccountCreated", "AccountCreated", "MoneyDeposited", "TransferSent", "TransferReceived"} {
		if e := await(t, live, string(rune('1'+i))); e.Type() != want || e.Validate() != nil || e.Extensions()["correlationid"] == nil {
			t.Errorf("%v", e)
		}
	}
	opened := p.follow(t, "?after=0&subject="+id)
	if e := await(t, opened, "1"); !strings.Contains(string(e.Data()), `"overdraft_limit":"0.00"`) {
		t.Errorf("%s", e.Data())
	}
	if e := await(t, opened, "3"); !strings.Contains(string(e.Data()), `"amount":"90071992547409.93","currency":"EUR"`) {
		t.Errorf("%s", e.Data())
	}
	await(t, opened, "4")
	of := p.follow(t, "?after=1&subject="+id+"&type=TransferSent")
	await(t, of, "4")

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/events?subject="+id, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := a.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	batch, err := cehttp.NewEventsFromHTTPResponse(response)
	if err != nil || len(batch) != 3 {
		t.Fatalf("%v, %v", batch, err)
	}
	var deposit struct {
		Amount, Currency, Reference string
	}
	if err := batch[1].DataAs(&deposit); err != nil || deposit.Amount != "90071992547409.93" || deposit.Currency != "EUR" || deposit.Reference != `a "b"` || batch[1].Subject() != id {
		t.Errorf("%v: %+v, %v", batch[1], deposit, err)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil { // an error if requests are still open after drainTimeout
		t.Errorf("with streams open the server stopped with %v", p.err)
	}
	for _, stream := range []<-chan event.Event{live, of, opened} {
		if e, ok := <-stream; ok {
			t.Errorf("%v after the end", e)
		}
	}
}
