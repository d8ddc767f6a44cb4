package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/webhook"
)

const (
	hookPath   = "/webhooks/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"
	hookSecret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// subscriptions stands in for a webhook.Service: it has one subscription, and remembers what was asked for last.
type subscriptions struct {
	err     error
	created webhook.New
	changed webhook.Change
	overlap time.Duration
}

func (s *service) hook() (webhook.Webhook, error) {
	return webhook.Webhook{
		ID: replayID, URL: "https://example.com/hook", Filter: webhook.Filter{Types: []string{}, Accounts: []uuid.UUID{accountID}},
		State: webhook.Active, Position: 40, Lag: 2, Attempts: 1, FailingSince: moment, NextAttemptAt: moment, LastError: "refused",
		LastDeliveredAt: moment, PreviousSecretUntil: moment, CreatedAt: moment, UpdatedAt: moment,
	}, s.hooks.err
}

func (s *service) Webhooks(context.Context) ([]webhook.Webhook, error) {
	w, err := s.hook()
	return []webhook.Webhook{w}, err
}

func (s *service) Webhook(context.Context, uuid.UUID) (webhook.Webhook, error) { return s.hook() }

func (s *service) Deliveries(_ context.Context, _ uuid.UUID, _ int64, limit int) ([]webhook.Delivery, error) {
	return []webhook.Delivery{
		{Number: 8, Position: 41, EventID: eventID, Type: "MoneyDeposited", Attempt: 2, Delivered: true, Status: 204, Latency: 5 * time.Millisecond, At: moment},
		{Number: 7, Position: 41, EventID: eventID, Type: "MoneyDeposited", Attempt: 1, Error: "timeout", At: moment},
	}[:min(limit, 2)], s.hooks.err
}

func (s *service) CreateWebhook(_ context.Context, n webhook.New) (webhook.Webhook, string, error) {
	s.hooks.created = n
	w, err := s.hook()
	return w, hookSecret, err
}

func (s *service) ChangeWebhook(_ context.Context, _ uuid.UUID, c webhook.Change) (webhook.Webhook, error) {
	s.hooks.changed = c
	return s.hook()
}

func (s *service) DeleteWebhook(context.Context, uuid.UUID) error { return s.hooks.err }

func (s *service) RotateSecret(_ context.Context, _ uuid.UUID, overlap time.Duration) (webhook.Webhook, string, error) {
	s.hooks.overlap = overlap
	w, err := s.hook()
	return w, hookSecret, err
}

func (s *service) CheckURL(text string) error {
	if strings.HasPrefix(text, "https://") {
		return nil
	}
	return errors.New("must begin with https://")
}

func TestWebhookBodies(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for _, test := range []struct {
		method, path, body string
		status             int
		errs               map[string]string
	}{
		{"POST", "/webhooks", `{"url":"https://example.com"}`, 201, nil},
		{"POST", "/webhooks", `{"url":"https://example.com","types":["MoneyDeposited"],"accounts":["` + accountID.String() + `"],"after":0}`, 201, nil},
		{"POST", "/webhooks", `{}`, 422, map[string]string{"/url": "url is required"}},
		{"POST", "/webhooks", ``, 422, map[string]string{"/url": "url is required"}},
		{
			"POST", "/webhooks", `{"url":"http://10.0.0.1","types":["MoneyDeposited","MoneyLost"],"accounts":["ada"],"after":-1,"secret":"x"}`, 422,
			map[string]string{
				"/url": "url must begin with https://", "/types/1": "", "/accounts/0": "0 must be a UUID other than the nil UUID, such as 0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f",
				"/after": "after must be at least 0", "/secret": "secret is not a known field",
			},
		},
		{
			"POST", "/webhooks", `{"url":"https://example.com","accounts":[` + strings.TrimSuffix(strings.Repeat(`"`+accountID.String()+`",`, 101), ",") + `]}`, 422,
			map[string]string{"/accounts": "accounts must have at most 100 items"},
		},
		{"PATCH", hookPath, `{"state":"paused"}`, 200, nil},
		{"PATCH", hookPath, `{"types":null,"accounts":[]}`, 200, nil},
		{"PATCH", hookPath, `{"state":"parked","url":"http://x"}`, 422, map[string]string{"/state": "state must be one of active, paused", "/url": "url must begin with https://"}},
		{"POST", hookPath + "/resume", ``, 200, nil},
		{"POST", hookPath + "/resume", `{"after":7}`, 200, nil},
		{"POST", hookPath + "/resume", `{"after":1.5}`, 422, map[string]string{"/after": "after must be a whole number, not a number"}},
		{"POST", hookPath + "/rotate-secret", `{"overlap_seconds":60}`, 200, nil},
		{"POST", hookPath + "/rotate-secret", ``, 200, nil},
		{"POST", hookPath + "/rotate-secret", `{"overlap_seconds":604801}`, 422, map[string]string{"/overlap_seconds": "overlap_seconds must be at most 604800"}},
		{"GET", "/webhooks", ``, 200, nil},
		{"GET", hookPath, ``, 200, nil},
		{"GET", hookPath + "/deliveries", ``, 200, nil},
		{"GET", "/webhooks/7", ``, 400, map[string]string{"webhook_id": "webhook_id must be a UUID other than the nil UUID, such as 0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"}},
		{"DELETE", hookPath, ``, 204, nil},
	} {
		got := a.send(test.method, test.path, test.body)
		if got.status != test.status {
			t.Errorf("%s %s %.200s: %d %s", test.method, test.path, test.body, got.status, got.text)
			continue
		}
		secret := strings.Contains(got.text, hookSecret)
		if gives := got.status == 201 || got.status == 200 && strings.HasSuffix(test.path, "rotate-secret"); secret != gives || secret && got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: gives the secret: %v, %v", test.method, test.path, secret, got.header)
		}
		if test.errs == nil {
			continue
		}
		_, errs := got.problem(t)
		for where, want := range test.errs {
			if detail, ok := errs[where]; !ok || want != "" && detail != want {
				t.Errorf("%s %s %.200s: at %s %q, not %q", test.method, test.path, test.body, where, detail, want)
			}
		}
		if len(errs) != len(test.errs) {
			t.Errorf("%s %s %.200s: %v", test.method, test.path, test.body, errs)
		}
	}
	if strings.Contains(a.log.String(), "whsec_") {
		t.Error("a secret is in the log")
	}
}

func TestWhatIsAskedOfWebhooks(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	a.send("POST", "/webhooks", `{"url":"https://example.com","types":["MoneyDeposited"],"accounts":["`+accountID.String()+`"],"after":0}`)
	if n := s.hooks.created; n.URL != "https://example.com" || len(n.Types) != 1 || n.Types[0] != "MoneyDeposited" || n.Accounts[0] != accountID || n.After == nil || *n.After != 0 {
		t.Errorf("created %+v", n)
	}
	a.send("POST", "/webhooks", `{"url":"https://example.com"}`)
	if n := s.hooks.created; n.After != nil || len(n.Types)+len(n.Accounts) != 0 {
		t.Errorf("created %+v", n)
	}
	a.send("PATCH", hookPath, `{"types":null,"state":"active"}`, "Content-Type", "application/merge-patch+json")
	if c := s.hooks.changed; c.URL != nil || c.Types == nil || *c.Types == nil || len(*c.Types) != 0 || c.Accounts != nil || *c.State != webhook.Active || c.After != nil {
		t.Errorf("changed %+v", c)
	}
	a.send("POST", hookPath+"/resume", `{"after":0}`)
	if c := s.hooks.changed; *c.State != webhook.Active || c.After == nil || *c.After != 0 {
		t.Errorf("resumed %+v", c)
	}
	a.send("POST", hookPath+"/rotate-secret", `{"overlap_seconds":0}`)
	if s.hooks.overlap != 0 {
		t.Errorf("overlap %v", s.hooks.overlap)
	}
	a.send("POST", hookPath+"/rotate-secret", ``)
	if s.hooks.overlap != webhook.Overlap {
		t.Errorf("overlap %v", s.hooks.overlap)
	}
	if got := a.send("GET", hookPath+"/deliveries?limit=2", ""); got.header.Get("Link") != "<"+hookPath+`/deliveries?before=7&limit=2>; rel="next"` {
		t.Errorf("link %s", got.header.Get("Link"))
	}
	if got := a.send("POST", "/webhooks", `{"url":"https://example.com"}`); got.header.Get("Location") != hookPath {
		t.Errorf("location %s", got.header.Get("Location"))
	}
}

func TestErrorsOfWebhooks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{webhook.ErrNotFound, http.StatusNotFound, "webhook-not-found"},
		{webhook.ErrTooMany, http.StatusConflict, "too-many-webhooks"},
		{webhook.ErrBeyondLog, http.StatusUnprocessableEntity, "invalid-body"},
		{errUnavailable, http.StatusServiceUnavailable, "unavailable"},
	} {
		a := serve(t, &service{hooks: subscriptions{err: test.err}})
		got := a.send("POST", "/webhooks", `{"url":"https://example.com"}`)
		if code, _ := got.problem(t); got.status != test.status || code != test.code || strings.Contains(got.text, "whsec_") {
			t.Errorf("%v: %d %s", test.err, got.status, got.text)
		}
	}
	gone := serve(t, &service{hooks: subscriptions{err: webhook.ErrNotFound}})
	for _, path := range []string{"GET ", "DELETE ", "GET /deliveries", "POST /resume", "POST /rotate-secret"} {
		method, rest, _ := strings.Cut(path, " ")
		if got := gone.send(method, hookPath+rest, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}
