package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"passbook/internal/account"
	"passbook/internal/command"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := &service{do: func(r command.Request) (command.Result, error) {
		result := recorded(r, 7, 3)
		result.Replayed = r.Key != nil
		return result, nil
	}}
	a := serve(t, s)
	type hashes struct{ Hash, Fingerprint [16]byte }
	keyOf := func(path, body, key string) hashes {
		t.Helper()
		got := a.send("POST", path, body, "Idempotency-Key", key)
		r, _ := s.last()
		if got.status != http.StatusCreated || r.Key == nil || got.header.Get("Idempotency-Replayed") != "true" {
			t.Fatalf("%q: %d %s %v", key, got.status, got.text, got.header)
		}
		return hashes{r.Key.Hash, r.Key.Fingerprint}
	}
	first := keyOf("/deposits", deposit("1"), "k-1")
	if again := keyOf("/deposits", deposit("1"), `"k-1"`); again != first {
		t.Error("the quoted key is another key")
	}
	if other := keyOf("/deposits", deposit("1"), "k-2"); other.Hash == first.Hash || other.Fingerprint != first.Fingerprint {
		t.Error("another key with the same request")
	}
	if other := keyOf("/deposits", deposit("2"), "k-1"); other.Hash != first.Hash || other.Fingerprint == first.Fingerprint {
		t.Error("the same key with another body")
	}
	if other := keyOf("/withdrawals", deposit("1"), "k-1"); other.Hash != first.Hash || other.Fingerprint == first.Fingerprint {
		t.Error("the same key with another path")
	}
	id := accountID.String()
	for _, same := range []string{
		`{"amount":1,"account_id":"` + id + `"}`, `{ "account_id" : "` + id + `", "amount" : 1.00 }`,
		`{"amount":"1.0","account_id":"` + id + `"}`, `{"\u0061mount":"\u0031","account_id":"` + id + `"}`,
	} {
		if again := keyOf("/deposits", same, "k-1"); again != first {
			t.Errorf("%s is another request than %s", same, deposit("1"))
		}
	}
	for _, other := range []string{
		`{"amount":10,"account_id":"` + id + `"}`, `{"amount":0.1,"account_id":"` + id + `"}`,
		`{"amount":1,"account_id":"` + id + `","reference":"r"}`, `{"amount":1,"account_id":"` + id + `","reference":"\"r"}`,
		`{"amount":1,"account_id":"` + id + `","reference":"1.0"}`, `{"amount":1,"account_id":"` + id + `","reference":"1"}`,
	} {
		if again := keyOf("/deposits", other, "k-1"); again.Fingerprint == first.Fingerprint {
			t.Errorf("%s is the same request as %s", other, deposit("1"))
		}
	}
	keyOf("/deposits", deposit("1"), strings.Repeat("k", 255))
	for _, bad := range []string{" ", "a b", "ключ", strings.Repeat("k", 256), `"`, `""`, `"a`, `"a"b"`, `"a\b"`, `"a b"`, `"a\"`} {
		got := a.send("POST", "/deposits", deposit("1"), "Idempotency-Key", bad)
		if _, errs := got.problem(t); got.status != http.StatusBadRequest || errs["Idempotency-Key"] == "" {
			t.Errorf("%q: %d %s", bad, got.status, got.text)
		}
	}
	if got := a.send("POST", "/deposits", deposit("1"), "Idempotency-Key", "a", "Idempotency-Key", "b"); got.status != 400 {
		t.Errorf("two keys: %d %s", got.status, got.text)
	}
}

// The first refusal of a request with a key is stored, and repeated byte for byte.
func TestRefusalIsRepeated(t *testing.T) {
	t.Parallel()
	refusal := &account.Refusal{Code: "insufficient-funds", Detail: "the balance is 1.00"}
	var stored []byte
	s := &service{do: func(r command.Request) (command.Result, error) {
		if stored != nil {
			return command.Result{}, &command.RefusedBeforeError{Answer: stored}
		}
		stored = r.Key.Refusal(refusal)
		return command.Result{}, refusal
	}}
	a := serve(t, s)
	first := a.send("POST", "/withdrawals", deposit("2"), "Idempotency-Key", "k", "X-Request-Id", "first")
	again := a.send("POST", "/withdrawals", deposit("2"), "Idempotency-Key", "k", "X-Request-Id", "again")
	if first.status != 422 || again.status != 422 || again.text != first.text {
		t.Errorf("%d %s, then %d %s", first.status, first.text, again.status, again.text)
	}
	if first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" ||
		again.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v, then %v", first.header, again.header)
	}
}
