package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"passbook/internal/auth"
)

// issuer is an OpenID Connect issuer over HTTP.
type issuer struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	away    bool
	fetches int
}

// signer is one of the issuer's keys.
type signer struct {
	kid string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	w.Header().Set("Content-Type", "application/json")
	switch {
	case i.away:
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys"})
	case r.URL.Path == "/keys":
		_ = json.NewEncoder(w).Encode(&i.keys)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (i *issuer) setUnavailable(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

func (i *issuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// rotate replaces the issuer's keys.
func (i *issuer) rotate(signers ...signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys.Keys = nil
	for _, s := range signers {
		i.keys.Keys = append(i.keys.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid, Algorithm: string(s.alg), Use: "sig"})
	}
}

func newRSA(t *testing.T, kid string) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, jose.RS256, key}
}

func newEC(t *testing.T, kid string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, jose.ES256, key}
}

// token signs the usual claims with changes; a nil value removes a claim.
func (i *issuer) token(s signer, change map[string]any) string {
	i.t.Helper()
	claims := map[string]any{
		"iss": i.url, "aud": []string{"passbook"}, "sub": "ada", "exp": time.Now().Add(time.Hour).Unix(),
		"scope": "openid accounts:read projections:admin",
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return sign(i.t, s.alg, s.key, s.kid, claims)
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	return signAs(t, "", alg, key, kid, claims)
}

// signAs signs claims as a token with a type; "" means none.
func signAs(t *testing.T, typ string, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	options := new(jose.SignerOptions).WithHeader("kid", kid)
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	jws, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jws.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// trust makes an Issuer whose connections end with the test.
func trust(t *testing.T, url string) *auth.Issuer {
	t.Helper()
	i, err := auth.NewIssuer(auth.IssuerConfig{URL: url, Audience: "passbook", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = i.Run(ctx)
	})
	return i
}

func TestTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	rs, es, stranger := newRSA(t, "r1"), newEC(t, "e1"), newRSA(t, "r1")
	i.rotate(rs, es)
	a := trust(t, i.url)
	const both = auth.AccountsRead | auth.ProjectionsAdmin
	for name, test := range map[string]struct {
		token  string
		scopes auth.Scopes // 0 when the token is bad
		err    error
	}{
		"RS256":               {token: i.token(rs, nil), scopes: both},
		"ES256":               {token: i.token(es, nil), scopes: both},
		"scp, a list":         {token: i.token(rs, map[string]any{"scope": nil, "scp": []string{"events:read", "x"}}), scopes: auth.EventsRead},
		"scp, a string":       {token: i.token(rs, map[string]any{"scope": nil, "scp": "events:read metrics:read"}), scopes: auth.EventsRead | auth.MetricsRead},
		"both":                {token: i.token(rs, map[string]any{"scp": []string{"events:read"}}), scopes: both | auth.EventsRead},
		"one audience":        {token: i.token(rs, map[string]any{"aud": "passbook"}), scopes: both},
		"another audience":    {token: i.token(rs, map[string]any{"aud": []string{"other"}}), err: auth.ErrBadCredential},
		"no audience":         {token: i.token(rs, map[string]any{"aud": nil}), err: auth.ErrBadCredential},
		"another issuer":      {token: i.token(rs, map[string]any{"iss": "https://example.com"}), err: auth.ErrBadCredential},
		"expired":             {token: i.token(rs, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), err: auth.ErrBadCredential},
		"never expires":       {token: i.token(rs, map[string]any{"exp": nil}), err: auth.ErrBadCredential},
		"not yet":             {token: i.token(rs, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), err: auth.ErrBadCredential},
		"no subject":          {token: i.token(rs, map[string]any{"sub": nil}), err: auth.ErrBadCredential},
		"a subject of NUL":    {token: i.token(rs, map[string]any{"sub": "a\x00b"}), err: auth.ErrBadCredential},
		"a long subject":      {token: i.token(rs, map[string]any{"sub": strings.Repeat("a", 256)}), err: auth.ErrBadCredential},
		"scope, a number":     {token: i.token(rs, map[string]any{"scope": 7}), err: auth.ErrBadCredential},
		"another's signature": {token: i.token(stranger, nil), err: auth.ErrBadCredential},
		"another algorithm":   {token: i.token(signer{"e1", jose.RS256, rs.key}, nil), err: auth.ErrBadCredential},
		"signed with a word":  {token: sign(t, jose.HS256, []byte(strings.Repeat("k", 32)), "r1", map[string]any{"iss": i.url}), err: auth.ErrBadCredential},
		"unsigned":            {token: "eyJhbGciOiJub25lIn0.e30.", err: auth.ErrBadCredential},
		"no token":            {token: "pbk_a_b", err: auth.ErrBadCredential},
		"two dots":            {token: "a.b.c", err: auth.ErrBadCredential},
		"too long":            {token: strings.Repeat("a", 20_000) + ".b.c", err: auth.ErrBadCredential},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // verified, and remembered
				caller, err := a.Authenticate(t.Context(), test.token)
				if !errors.Is(err, test.err) {
					t.Fatalf("%+v %v", caller, err)
				}
				if err == nil && (caller.ID != "oidc:ada" || caller.Actor != "oidc:ada" || caller.Scopes != test.scopes) {
					t.Errorf("%+v", caller)
				}
			}
		})
	}
}

// TestKeysRotate checks that a token of a new key works at once, and that one of a withdrawn key fails. The library returns
// fetched keys shortly before it stores them, so each check is retried, with a token that is not remembered.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	first, second := newEC(t, "1"), newEC(t, "2")
	i.rotate(first)
	a := trust(t, i.url)
	if _, err := a.Authenticate(t.Context(), i.token(first, nil)); err != nil {
		t.Fatal(err)
	}
	i.rotate(second)
	tries := 0
	subject := func() map[string]any {
		tries++
		return map[string]any{"sub": "try-" + strconv.Itoa(tries)}
	}
	eventually(t, func() bool { _, err := a.Authenticate(t.Context(), i.token(second, subject())); return err == nil })
	eventually(t, func() bool {
		_, err := a.Authenticate(t.Context(), i.token(first, subject()))
		return errors.Is(err, auth.ErrBadCredential)
	})
}

// TestIssuerIsUnavailable checks that no token can be verified until the issuer has responded once; after that it may fail.
func TestIssuerIsUnavailable(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := newEC(t, "1")
	i.rotate(key)
	i.setUnavailable(true)
	a := trust(t, i.url)
	if _, err := a.Authenticate(t.Context(), i.token(key, nil)); !errors.Is(err, auth.ErrIssuerUnavailable) {
		t.Fatalf("unavailable: %v", err)
	}
	i.setUnavailable(false)
	eventually(t, func() bool { _, err := a.Authenticate(t.Context(), i.token(key, nil)); return err == nil })
	i.setUnavailable(true)
	// With a known key; the library stores its keys shortly after it returns them.
	eventually(t, func() bool {
		_, err := a.Authenticate(t.Context(), i.token(key, map[string]any{"sub": "bob"}))
		return err == nil
	})
	// If the burst of fetches is spent, the next one takes a second.
	unknown := i.token(newEC(t, "2"), nil)
	eventually(t, func() bool {
		_, err := a.Authenticate(t.Context(), unknown)
		return errors.Is(err, auth.ErrIssuerUnavailable)
	})

	// The address does not listen.
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if _, err := trust(t, "http://"+listener.Addr().String()).Authenticate(t.Context(), "a.b.c"); !errors.Is(err, auth.ErrIssuerUnavailable) {
		t.Errorf("no issuer: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trust(t, i.url).Authenticate(gone, i.token(key, nil)); err == nil {
		t.Error("a caller that has gone was authenticated")
	}
}

// TestBadTokensDoNotFloodTheIssuer sends tokens signed with keys that the issuer does not have.
func TestBadTokensDoNotFloodTheIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := newEC(t, "1")
	i.rotate(key)
	a := trust(t, i.url)
	good := i.token(key, nil)
	const flood = 40 * auth.FetchesAtOnce
	began := time.Now()
	for n := range flood {
		if _, err := a.Authenticate(t.Context(), i.token(signer{"x" + strconv.Itoa(n), key.alg, key.key}, nil)); !errors.Is(err, auth.ErrBadCredential) {
			t.Fatalf("bad token %d: %v", n, err)
		}
	}
	if most := auth.FetchesAtOnce + int(time.Since(began)/time.Second) + 1; i.fetched() > most {
		t.Errorf("%d bad tokens made %d requests", flood, i.fetched())
	}
	if _, err := a.Authenticate(t.Context(), good); err != nil {
		t.Errorf("a good token meanwhile: %v", err)
	}
}

// TestTokensForOtherUses checks that tokens which the issuer signed for another use, or issued in the future, are refused.
func TestTokensForOtherUses(t *testing.T) {
	t.Parallel()
	i, key := newIssuer(t), newEC(t, "a")
	i.rotate(key)
	trusted := trust(t, i.url)
	for _, test := range []struct {
		typ    string
		issued time.Duration // from now
		good   bool
	}{
		{"", 0, true},
		{"JWT", 0, true},
		{"at+jwt", 0, true},
		{"application/AT+JWT", 0, true},
		{"logout+jwt", 0, false},
		{"dpop+jwt", 0, false},
		{"secevent+jwt", 0, false},
		{"token-introspection+jwt", 0, false},
		{"at+jwt", -time.Hour, true},
		{"at+jwt", 20 * time.Second, true}, // clocks differ a little
		{"at+jwt", 2 * time.Minute, false},
		{"at+jwt", time.Hour, false},
	} {
		claims := map[string]any{
			"iss": i.url, "aud": "passbook", "sub": "ada", "scope": "accounts:read",
			"iat": time.Now().Add(test.issued).Unix(), "exp": time.Now().Add(2 * time.Hour).Unix(),
		}
		_, err := trusted.Authenticate(t.Context(), signAs(t, test.typ, key.alg, key.key, key.kid, claims))
		if test.good != (err == nil) || err != nil && !errors.Is(err, auth.ErrBadCredential) {
			t.Errorf("typ %q, issued %v from now: %v, want it to be good: %t", test.typ, test.issued, err, test.good)
		}
	}
}

// TestScopesByAnotherClaim checks that only the mapped values of the configured claim grant scopes.
func TestScopesByAnotherClaim(t *testing.T) {
	t.Parallel()
	i, key := newIssuer(t), newEC(t, "a")
	i.rotate(key)
	read, _ := auth.ParseScope("accounts:read")
	write, _ := auth.ParseScope("accounts:write")
	mapped := map[string]auth.Scopes{"teller": read | write, "auditor": read}
	for name, test := range map[string]struct {
		claim  string
		mapped map[string]auth.Scopes
		claims map[string]any
		want   auth.Scopes
		bad    bool
	}{
		"scopes in a claim of another name": {"permissions", nil, map[string]any{"permissions": []string{"accounts:read", "x"}, "scope": "accounts:write"}, read, false},
		"roles":                             {"roles", mapped, map[string]any{"roles": []string{"teller"}}, read | write, false},
		"a role in a string":                {"roles", mapped, map[string]any{"roles": "auditor other"}, read, false},
		"a claim within another":            {"realm_access.roles", mapped, map[string]any{"realm_access": map[string]any{"roles": []string{"auditor"}}}, read, false},
		"a name with dots":                  {"https://x.example/roles", mapped, map[string]any{"https://x.example/roles": []string{"auditor"}}, read, false},
		"a scope where roles are":           {"roles", mapped, map[string]any{"roles": []string{"accounts:write"}}, 0, false},
		"the usual claims, mapped":          {"", mapped, map[string]any{"scope": "teller accounts:read"}, read | write, false},
		"no such claim":                     {"roles", mapped, nil, 0, false},
		"a claim of another kind":           {"roles", mapped, map[string]any{"roles": 7}, 0, true},
		"nothing where it would be":         {"roles", mapped, map[string]any{"roles": nil}, 0, false},
	} {
		issuer, err := auth.NewIssuer(auth.IssuerConfig{
			URL: i.url, Audience: "passbook", Logger: slog.New(slog.DiscardHandler), ScopeClaim: test.claim, ScopesOf: test.mapped,
		})
		if err != nil {
			t.Fatal(err)
		}
		claims := map[string]any{"iss": i.url, "aud": "passbook", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(claims, test.claims)
		caller, err := issuer.Authenticate(t.Context(), sign(t, key.alg, key.key, key.kid, claims))
		if test.bad != (err != nil) || err == nil && caller.Scopes != test.want {
			t.Errorf("%s: %+v, %v, want %v", name, caller, err, test.want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = issuer.Run(ctx)
	}
}
