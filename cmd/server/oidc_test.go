package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"passbook/internal/pgtest"
)

// TestIssuerStartsLater starts a server before its issuer: the server keeps running, and accepts tokens once the issuer is
// up.
func TestIssuerStartsLater(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	issuer := "http://" + addr
	h := host(t, "DATABASE_URL="+pgtest.URL(t), "PASSBOOK_AUTH=oidc", "PASSBOOK_OIDC_ISSUER="+issuer, "PASSBOOK_OIDC_AUDIENCE=passbook")
	h.awaitReady(t)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, new(jose.SignerOptions).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuer, "aud": "passbook", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix(), "scope": "accounts:write events:read",
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if status, text := h.answer(t, "GET", "/events", token, ""); status != http.StatusServiceUnavailable || !strings.Contains(text, "issuer-unavailable") {
		t.Errorf("the issuer is unavailable: %d %s", status, text)
	}
	if status, text := h.answer(t, "GET", "/events", "", ""); status != http.StatusUnauthorized {
		t.Errorf("no token: %d %s", status, text)
	}

	documents := map[string]any{
		"/.well-known/openid-configuration": map[string]any{"issuer": issuer, "jwks_uri": issuer + "/keys"},
		"/keys":                             jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}},
	}
	if listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", addr); err != nil {
		t.Skipf("another process has taken %s meanwhile: %v", addr, err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(documents[r.URL.Path])
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	const account = `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","owner":"Ada","currency":"EUR"}`
	eventually(t, "a token is accepted", func() bool {
		status, _ := h.answer(t, "POST", "/accounts", token, account)
		return status == http.StatusCreated
	})
	if status, text := h.answer(t, "GET", "/events", token, ""); status != http.StatusOK || !strings.Contains(text, `"actor":"oidc:ada"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := h.answer(t, "GET", "/totals", token, ""); status != http.StatusForbidden {
		t.Errorf("too narrow: %d %s", status, text)
	}
	if strings.Contains(h.log.String(), token[:40]) || strings.Contains(h.log.String(), token[len(token)-40:]) {
		t.Error("the token is in the log")
	}
}
