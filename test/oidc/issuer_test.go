package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/client/profile"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// secret is every client's.
const secret = "a secret with spaces & more"

// issuer is an OpenID provider of github.com/zitadel/oidc with its own address, and the provider's storage. The embedded
// Storage is nil: methods that no test uses, such as those for logins and sessions, are missing.
type issuer struct {
	op.Storage

	t        *testing.T
	addr     string
	provider *op.Provider
	server   *http.Server
	served   chan struct{}

	mu sync.Mutex
	// signing is the key that signs tokens, and the only published one.
	signing signingKey
	clients map[string]client
}

// client can get tokens by its secret or by assertions that it signs with its key.
type client struct {
	op.Client

	id       string
	key      *rsa.PrivateKey
	audience []string
	lifetime time.Duration
	// claims are added to its tokens.
	claims map[string]any
}

// signingKey is a key of the issuer, for signing and as it is published.
type signingKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }
func (k signingKey) Key() any                                    { return k.key }

type publishedKey struct{ signingKey }

func (k publishedKey) Algorithm() jose.SignatureAlgorithm { return k.alg }
func (k publishedKey) Use() string                        { return "sig" }
func (k publishedKey) Key() any                           { return k.key.Public() }

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newIssuer returns an issuer that does not listen yet.
func newIssuer(t *testing.T, clients ...client) *issuer {
	t.Helper()
	i := &issuer{t: t, addr: freeAddr(t), clients: make(map[string]client)}
	for _, c := range clients {
		i.clients[c.id] = c
	}
	i.signing = signingKey{uuid.NewString(), jose.RS256, newRSA(t)}
	provider, err := op.NewProvider(&op.Config{}, i, op.StaticIssuer(i.url()), op.WithAllowInsecure(),
		op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	i.provider = provider
	t.Cleanup(i.stop)
	return i
}

func (i *issuer) url() string { return "http://" + i.addr }

func (i *issuer) start() {
	i.t.Helper()
	listener, err := new(net.ListenConfig).Listen(i.t.Context(), "tcp", i.addr)
	if err != nil {
		i.t.Fatal(err)
	}
	server, served := &http.Server{Handler: i.provider, ReadHeaderTimeout: waitLimit}, make(chan struct{})
	i.server, i.served = server, served
	go func() { defer close(served); _ = server.Serve(listener) }()
}

func (i *issuer) stop() {
	if i.server == nil {
		return
	}
	_ = i.server.Close()
	<-i.served
	i.server = nil
}

// rotate replaces the signing key by one of another type; the old one is no longer published.
func (i *issuer) rotate() {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signing = signingKey{uuid.NewString(), jose.ES256, key}
}

// token gets a token by the client-credentials grant.
func (i *issuer) token(clientID string, scopes ...string) string {
	i.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(scopes, " ")}}
	request, err := http.NewRequestWithContext(i.t.Context(), http.MethodPost, i.url()+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		i.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(secret))
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var granted oidc.AccessTokenResponse
	if err := json.NewDecoder(response.Body).Decode(&granted); err != nil || granted.AccessToken == "" {
		i.t.Fatalf("the issuer granted no token to %s: %s %v", clientID, response.Status, err)
	}
	return granted.AccessToken
}

// assert gets a token by an assertion that the client signs, the JWT profile of RFC 7523.
func (i *issuer) assert(clientID string, scopes ...string) string {
	i.t.Helper()
	key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(i.clients[clientID].key)})
	source, err := profile.NewJWTProfileTokenSource(i.t.Context(), i.url(), clientID, clientID, key, scopes)
	if err != nil {
		i.t.Fatal(err)
	}
	granted, err := source.Token()
	if err != nil {
		i.t.Fatal(err)
	}
	return granted.AccessToken
}

func (i *issuer) client(id string) (client, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.clients[id]
	if !ok {
		return client{}, errors.New("no such client")
	}
	return c, nil
}

func (i *issuer) key() signingKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.signing
}

// The rest is the storage that the provider uses.

func (i *issuer) Health(context.Context) error { return nil }

func (i *issuer) SigningKey(context.Context) (op.SigningKey, error) { return i.key(), nil }

func (i *issuer) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{i.key().alg}, nil
}

func (i *issuer) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{publishedKey{i.key()}}, nil
}

func (i *issuer) ClientCredentials(_ context.Context, clientID, clientSecret string) (op.Client, error) {
	if clientSecret != secret {
		return nil, errors.New("wrong secret")
	}
	return i.client(clientID)
}

func (i *issuer) ClientCredentialsTokenRequest(_ context.Context, clientID string, scopes []string) (op.TokenRequest, error) {
	c, err := i.client(clientID)
	return &oidc.JWTTokenRequest{Subject: clientID, Audience: c.audience, Scopes: scopes}, err
}

func (i *issuer) GetKeyByIDAndClientID(_ context.Context, keyID, clientID string) (*jose.JSONWebKey, error) {
	c, err := i.client(clientID)
	if err != nil {
		return nil, err
	}
	return &jose.JSONWebKey{KeyID: keyID, Key: c.key.Public()}, nil
}

func (i *issuer) ValidateJWTProfileScopes(_ context.Context, _ string, scopes []string) ([]string, error) {
	return scopes, nil
}

func (i *issuer) JWTProfileTokenType(_ context.Context, request op.TokenRequest) (op.AccessTokenType, error) {
	// The assertion's audience is the issuer; the token's is the one that the client is registered for.
	assertion, ok := request.(*oidc.JWTTokenRequest)
	if !ok {
		return 0, errors.New("not an assertion")
	}
	c, err := i.client(assertion.Subject)
	assertion.Audience = c.audience
	return op.AccessTokenTypeJWT, err
}

func (i *issuer) CreateAccessToken(_ context.Context, request op.TokenRequest) (string, time.Time, error) {
	c, err := i.client(request.GetSubject())
	return uuid.NewString(), time.Now().Add(c.lifetime), err
}

func (i *issuer) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, scopes []string) (map[string]any, error) {
	c, err := i.client(request.GetSubject())
	claims := map[string]any{"scope": strings.Join(scopes, " ")}
	maps.Copy(claims, c.claims)
	return claims, err
}

func (c client) GetID() string { return c.id }
func (c client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}
func (c client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (c client) ClockSkew() time.Duration            { return 0 }

func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
