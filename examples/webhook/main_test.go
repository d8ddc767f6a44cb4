package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"passbook/client"
)

func TestReceive(t *testing.T) {
	t.Parallel()
	hook, err := standardwebhooks.NewWebhook("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil {
		t.Fatal(err)
	}
	const event = `{"type":"MoneyDeposited","position":"7"}`
	for name, test := range map[string]struct {
		signed, sent string
		apply        error
		want         int
	}{
		"signed":            {event, event, nil, http.StatusNoContent},
		"tampered with":     {event, strings.Replace(event, "7", "8", 1), nil, http.StatusUnauthorized},
		"no event":          {"hello", "hello", nil, http.StatusBadRequest},
		"cannot be applied": {event, event, errors.New("the database is unavailable"), http.StatusServiceUnavailable},
	} {
		now := time.Now()
		signature, err := hook.Sign("id", now, []byte(test.signed))
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(test.sent))
		request.Header.Set("Webhook-Id", "id")
		request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
		request.Header.Set("Webhook-Signature", signature)
		response := httptest.NewRecorder()
		applied := false
		receive(hook, func(e client.CloudEvent) error { applied = e.Position == 7; return test.apply }).ServeHTTP(response, request)
		if response.Code != test.want || applied != (test.want == 204 || test.want == 503) {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
	}
}
