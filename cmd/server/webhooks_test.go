package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"passbook/client"
	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// subscriber is a receiver of webhooks.
type subscriber struct {
	url string

	mu        sync.Mutex
	positions []int64
	last      *http.Request
	body      []byte
	block     func(position int64) // may be nil
}

func subscribe(t *testing.T) *subscriber {
	t.Helper()
	s := new(subscriber)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *subscriber) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, rest, _ := strings.Cut(string(body), `"position":"`)
	digits, _, _ := strings.Cut(rest, `"`)
	position, _ := strconv.ParseInt(digits, 10, 64)
	s.mu.Lock()
	s.positions, s.last, s.body = append(s.positions, position), r, body
	block := s.block
	s.mu.Unlock()
	if block != nil {
		block(position)
	}
}

// got are the positions that have arrived, and how often each has.
func (s *subscriber) got() (first []int64, times map[int64]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times = make(map[int64]int)
	for _, p := range s.positions {
		if times[p]++; times[p] == 1 {
			first = append(first, p)
		}
	}
	return first, times
}

// TestWebhooksSurviveAKill kills the process that delivers in the middle of a delivery. The other one goes on, misses nothing and
// keeps the order; and a replay of a projection sends nothing.
func TestWebhooksSurviveAKill(t *testing.T) {
	t.Parallel()
	bin, database := build(t), pgtest.URL(t)
	settings := []string{"DATABASE_URL=" + database, "PASSBOOK_WEBHOOKS_ALLOW_PRIVATE=true"}
	one := launch(t, bin, settings...)
	one.awaitReady(t, time.Minute)
	two := launch(t, bin, settings...) // it finds the lease taken
	to := subscribe(t)
	sending := make(chan struct{})
	to.block = func(position int64) {
		if position != 6 {
			return
		}
		select {
		case <-sending: // by the other process
		default:
			close(sending)
			<-one.done
		}
	}
	a := api{t, apitest.Client(t), one.base}
	a.call("POST", "/webhooks", `{"url":"`+to.url+`"}`, 201)
	two.awaitReady(t, time.Minute)
	b := api{t, a.client, two.base}
	id := b.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	for range 9 {
		b.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1"}`, 201)
	}
	<-sending
	var owned bool
	if err := connect(t, database).QueryRow(t.Context(), "select owner <> '' from webhooks").Scan(&owned); err != nil || !owned {
		t.Fatalf("the webhook has no owner: %v", err)
	}
	_ = one.cmd.Process.Kill()
	<-one.done
	want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	eventuallyTrue(t, time.Minute, "all events are delivered", func() bool { first, _ := to.got(); return len(first) >= len(want) })
	first, times := to.got()
	if !slices.Equal(first, want) {
		t.Errorf("positions %v", first)
	}
	replay := b.call("POST", "/projections/balances/replay", "", 202)["id"].(string)
	b.awaitReplay(replay)
	b.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1"}`, 201)
	eventuallyTrue(t, time.Minute, "the last event is delivered", func() bool { _, times := to.got(); return times[11] > 0 })
	if _, after := to.got(); after[10] != times[10] || after[1] != times[1] {
		t.Errorf("the replay sent %v, before it %v", after, times)
	}
}

// TestWebhookCommands manages a webhook from the command line, and verifies what arrives.
func TestWebhookCommands(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), "DATABASE_URL="+pgtest.URL(t), "PASSBOOK_WEBHOOKS_ALLOW_PRIVATE=true", "PASSBOOK_LOG_LEVEL=debug")
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	to := subscribe(t)
	webhooks := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := invoke(t.Context(), append([]string{"webhooks"}, append(args, "--server", p.base)...), "HOME=/")
		if code != want {
			t.Fatalf("webhooks %v: %d %s%s", args, code, stdout, stderr)
		}
		return stdout + stderr
	}
	lines := func(out string) []string { return strings.Split(strings.TrimSpace(out), "\n") }
	created := lines(webhooks(exitOK, "create", to.url+"/hook?token=hush", "--type", "MoneyDeposited,MoneyWithdrawn"))
	id, secret := strings.TrimPrefix(created[0], "webhook "), created[len(created)-1]
	account := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":"5"}`, 201)["account_id"].(string)
	eventuallyTrue(t, time.Minute, "the deposit is delivered", func() bool { first, _ := to.got(); return slices.Equal(first, []int64{2}) })
	to.verify(t, secret)
	eventuallyTrue(t, time.Minute, "it is recorded", func() bool { return len(lines(webhooks(exitOK, "deliveries", id))) == 2 })
	for _, one := range []struct{ out, has string }{
		{webhooks(exitOK, "list"), "active"},
		{webhooks(exitOK, "list", "--json"), `"state":"active"`},
		{webhooks(exitOK, "show", id), "MoneyDeposited, MoneyWithdrawn"},
		{webhooks(exitOK, "deliveries", id), "delivered"},
		{webhooks(exitOK, "pause", id), "paused"},
		{webhooks(exitOK, "resume", id, "--after", "0"), "active"},
		{webhooks(exitFailed, "create", "https://ada:hush@example.com"), "url must not have a user or password"},
		{webhooks(exitFailed, "create", to.url, "--type", "MoneyLost"), "must be one of"},
		{webhooks(exitFailed, "resume", id, "--after", "99"), "The log does not reach the position"},
		{webhooks(exitSettings, "show", "7"), "is not a UUID"},
		{webhooks(exitOK, "update", id, "--type", "AccountClosed", "--account", account), "AccountClosed"},
		{webhooks(exitOK, "update", id, "--url", to.url+"/moved"), "/moved"},
		{webhooks(exitOK, "show", id), account},
		{webhooks(exitOK, "show", id), "AccountClosed"},
		{webhooks(exitOK, "update", id, "--all-accounts", "--type", "MoneyDeposited,MoneyWithdrawn"), "accounts        all"},
		{webhooks(exitFailed, "update", id, "--url", "ftp://example.com"), "url must"},
		{webhooks(exitSettings, "update", id), "say what to change"},
		{webhooks(exitSettings, "update", id, "--type", "MoneyDeposited", "--all-types"), "exclude each other"},
		{webhooks(exitSettings, "update", id, "--account", "7"), "is not a UUID"},
		{webhooks(exitSettings, "update", id, "--url", ""), "--url"},
	} {
		if !strings.Contains(one.out, one.has) {
			t.Errorf("%q is not in %s", one.has, one.out)
		}
	}
	eventuallyTrue(t, time.Minute, "it is sent again after resume --after 0", func() bool { _, times := to.got(); return times[2] == 2 })
	rotated := lines(webhooks(exitOK, "rotate", id, "--overlap", "1h"))
	a.call("POST", "/withdrawals", `{"account_id":"`+account+`","amount":"1"}`, 201)
	eventuallyTrue(t, time.Minute, "the withdrawal is delivered", func() bool { _, times := to.got(); return times[3] > 0 })
	to.verify(t, secret)
	to.verify(t, rotated[len(rotated)-1])
	p.metricsHave(t, `passbook_webhooks{state="active"} 1`, `passbook_webhooks{state="parked"} 0`, `passbook_webhook_lag_events 0`,
		`passbook_webhook_deliveries_total{outcome="delivered"} 3`, `passbook_webhook_deliveries_total{outcome="failed"} 0`)
	webhooks(exitOK, "delete", id)
	webhooks(exitFailed, "show", id)
	for _, hidden := range []string{"whsec_", "hush", strings.TrimPrefix(secret, "whsec_")} {
		if strings.Contains(p.out.String(), hidden) {
			t.Errorf("the server logged %q", hidden)
		}
	}
	followClient(t, p.base, to.url)
}

// verify checks the signature of what arrived last.
func (s *subscriber) verify(t *testing.T, secret string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = hook.Verify(s.body, s.last.Header)
	}
	if err != nil {
		t.Error(err)
	}
}

// metricsHave waits until the metrics have these lines: a delivery is recorded after it has arrived.
func (p *process) metricsHave(t *testing.T, want ...string) {
	t.Helper()
	var text string
	eventuallyTrue(t, time.Minute, fmt.Sprintf("the metrics have %v", want), func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		text = string(body)
		return err == nil && !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(text, line+"\n") })
	})
}

// followClient goes the same way with the Go client.
func followClient(t *testing.T, base, url string) {
	t.Helper()
	c, err := client.New(base)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	made, err := c.CreateWebhook(ctx, client.CreateWebhook{URL: url, Types: []client.EventType{"AccountClosed"}})
	if err != nil {
		t.Fatal(err)
	}
	changed, err := c.ChangeWebhook(ctx, made.ID, client.ChangeWebhook{Types: new([]client.EventType{}), State: client.ChangeWebhookStatePaused})
	if err != nil || len(changed.Types) != 0 || changed.State != client.WebhookStatePaused || changed.URL != url || changed.LastError != nil {
		t.Errorf("%+v %v", changed, err)
	}
	for d, err := range c.Deliveries(ctx, made.ID) {
		t.Errorf("%+v %v", d, err)
	}
	if err := c.DeleteWebhook(ctx, made.ID); err != nil {
		t.Error(err)
	}
	if all, err := c.Webhooks(ctx); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}
