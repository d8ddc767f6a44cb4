package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// maxToken is the maximum length of a token in bytes: longer than any issuer's, and shorter than a header may be.
	maxToken = 16 << 10
	// maxTokens is how many verified tokens are remembered, and rememberFor for how long at most, which is also how
	// long a token may work after the issuer has withdrawn its signing key.
	maxTokens   = 10_000
	rememberFor = 30 * time.Second
	// renewEvery is how often the issuer's document and keys are fetched again.
	renewEvery = 5 * time.Minute
	// clockSkew is how far the issuer's clock may be ahead.
	clockSkew = time.Minute
	// verifyTime limits how long a request waits for the issuer.
	verifyTime = 4 * time.Second
	// maxSubject is OpenID Connect's limit for a subject, in bytes.
	maxSubject = 255
)

// algorithms are the accepted signature algorithms: all are verified with a public key.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// IssuerConfig configures an Issuer. Fields are required unless they say otherwise.
type IssuerConfig struct {
	// URL is the issuer as tokens name it; its document is at /.well-known/openid-configuration below it.
	URL string
	// Audience must be among the audiences of a token.
	Audience string
	// Client fetches the issuer's documents; if nil, a client with a time limit is used.
	Client *http.Client
	Logger *slog.Logger
	// ScopeClaim, if set, is the claim with a token's scopes, instead of scope and scp.
	ScopeClaim string
	// ScopesOf, if set, maps a value of the claim to scopes; a value that it lacks grants none.
	ScopesOf map[string]Scopes
}

// Issuer authenticates callers by the tokens of an OpenID Connect issuer. It is safe for concurrent use, and needs the
// issuer only at first, for an unknown signing key, and every few minutes.
type Issuer struct {
	url, audience string
	client        *http.Client
	log           *slog.Logger

	asks   singleflight.Group
	tokens *lru.Cache[[sha256.Size]byte, *verified]

	scopeClaim string
	scopesOf   map[string]Scopes

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer has responded
	renewAt  time.Time
	failedAt time.Time // when the issuer last failed
}

// verified is a token whose signature and claims have been checked.
type verified struct {
	caller *Caller
	until  time.Time
}

// NewIssuer returns an Issuer. It does not contact the issuer: only the first token needs it.
func NewIssuer(c IssuerConfig) (*Issuer, error) {
	if c.URL == "" || c.Audience == "" || c.Logger == nil {
		return nil, errors.New("auth: URL, Audience and Logger are needed")
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: verifyTime}
	}
	client := *c.Client
	client.Transport = newTransport(client.Transport)
	tokens, _ := lru.New[[sha256.Size]byte, *verified](maxTokens) // fails only if the size is not positive
	return &Issuer{
		url: c.URL, audience: c.Audience, client: &client, log: c.Logger, tokens: tokens,
		scopeClaim: c.ScopeClaim, scopesOf: c.ScopesOf,
	}, nil
}

// NeedsDatabase returns false: a token needs no database.
func (i *Issuer) NeedsDatabase(string) bool { return false }

// Authenticate returns the caller that the token identifies. Its errors are ErrBadCredential and ErrIssuerUnavailable.
func (i *Issuer) Authenticate(ctx context.Context, credential string) (*Caller, error) {
	if len(credential) > maxToken || strings.Count(credential, ".") != 2 {
		return nil, ErrBadCredential
	}
	name, now := sha256.Sum256([]byte(credential)), time.Now()
	if v, ok := i.tokens.Get(name); ok && now.Before(v.until) {
		return v.caller, nil
	}
	verifier, err := i.current(ctx, now)
	if err != nil {
		return nil, err
	}
	if !isAccessToken(credential) {
		return nil, ErrBadCredential
	}
	token, err := verify(ctx, verifier, credential)
	if err != nil {
		return nil, err
	}
	if token.IssuedAt.After(now.Add(clockSkew)) {
		return nil, ErrBadCredential
	}
	caller, err := i.callerOf(token)
	if err != nil {
		return nil, err
	}
	until := now.Add(rememberFor)
	if token.Expiry.Before(until) {
		until = token.Expiry
	}
	i.tokens.Add(name, &verified{caller: caller, until: until})
	return caller, nil
}

// isAccessToken reports by a token's header whether it may be an access token: of type at+jwt (RFC 9068), of the general type
// JWT, or of none. A token signed for another use, such as a logout, has another type (RFC 8725, section 3.11). Media types
// are compared without regard to case, and may omit application/ (RFC 7515, section 4.1.9).
func isAccessToken(credential string) bool {
	encoded, _, _ := strings.Cut(credential, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	var header struct {
		Type string `json:"typ"`
	}
	if json.Unmarshal(text, &header) != nil {
		return false
	}
	switch strings.TrimPrefix(strings.ToLower(header.Type), "application/") {
	case "", "jwt", "at+jwt":
		return true
	}
	return false
}

// verify checks a token's signature with the issuer's keys, and its claims.
func verify(ctx context.Context, verifier *oidc.IDTokenVerifier, credential string) (*oidc.IDToken, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	var fetchFailed error
	token, err := verifier.Verify(context.WithValue(ctx, fetchFailedKey{}, &fetchFailed), credential)
	switch {
	case err == nil:
		return token, nil
	case fetchFailed != nil:
		return nil, fmt.Errorf("%w: %w", ErrIssuerUnavailable, fetchFailed)
	}
	return nil, ErrBadCredential // the reason is not disclosed
}

// current returns the verifier. Without one it waits for the issuer's document; an old one is replaced in the background.
func (i *Issuer) current(ctx context.Context, now time.Time) (*oidc.IDTokenVerifier, error) {
	const retryAfter = time.Second // a failure
	i.mu.Lock()
	verifier, old := i.verifier, now.After(i.renewAt)
	failed := now.Sub(i.failedAt) < retryAfter
	i.mu.Unlock()
	if verifier != nil && (!old || failed) {
		return verifier, nil
	}
	if failed {
		return nil, ErrIssuerUnavailable
	}
	asked := i.asks.DoChan("", func() (any, error) { return i.discover(context.WithoutCancel(ctx)) })
	if verifier != nil {
		return verifier, nil
	}
	select {
	case result := <-asked:
		if result.Err != nil {
			return nil, fmt.Errorf("%w: %w", ErrIssuerUnavailable, result.Err)
		}
		verifier, _ = result.Val.(*oidc.IDTokenVerifier)
		return verifier, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// discover fetches the issuer's document. The library fetches the keys with the first token, keeps them, and fetches them
// again when a token names an unknown key.
func (i *Issuer) discover(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	ctx = oidc.ClientContext(ctx, i.client)
	provider, err := oidc.NewProvider(ctx, i.url)
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err == nil {
		err = provider.Claims(&document)
	}
	if err == nil && document.Keys == "" {
		err = errors.New("the issuer's document has no jwks_uri")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		i.failedAt = time.Now()
		i.log.Warn("fetching the issuer's document failed; retrying with the next token", "issuer", i.url, "error", err)
		return nil, err
	}
	i.renewAt = time.Now().Add(renewEvery)
	i.verifier = oidc.NewVerifier(i.url, &keySet{oidc.NewRemoteKeySet(ctx, document.Keys)},
		&oidc.Config{ClientID: i.audience, SupportedSigningAlgs: algorithms})
	return i.verifier, nil
}

// Run returns when ctx ends, after closing the idle connections to the issuer.
func (i *Issuer) Run(ctx context.Context) error {
	<-ctx.Done()
	i.client.CloseIdleConnections()
	return nil
}

// callerOf returns the token's subject as a caller, with its scopes.
func (i *Issuer) callerOf(token *oidc.IDToken) (*Caller, error) {
	if s := token.Subject; s == "" || len(s) > maxSubject || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return nil, ErrBadCredential
	}
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return nil, ErrBadCredential
	}
	// scope as OAuth 2 has it (RFC 8693, section 4.2), a string with spaces, and scp as others have it, a string or a list.
	names := []string{"scope", "scp"}
	if i.scopeClaim != "" {
		names = []string{i.scopeClaim}
	}
	id := "oidc:" + token.Subject
	caller := &Caller{ID: id, Actor: id}
	for _, name := range names {
		raw := claimOf(claims, name)
		if raw == nil {
			continue
		}
		var values words
		if err := json.Unmarshal(raw, &values); err != nil {
			return nil, ErrBadCredential
		}
		if i.scopesOf == nil {
			caller.Scopes |= scopesOf(values)
			continue
		}
		for _, value := range values {
			caller.Scopes |= i.scopesOf[value]
		}
	}
	return caller, nil
}

// claimOf returns the claim with a name, or nil. Dots are part of the name, or else separate the names of nested objects.
func claimOf(claims map[string]json.RawMessage, name string) json.RawMessage {
	if raw, ok := claims[name]; ok {
		return raw
	}
	outer, inner, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	var within map[string]json.RawMessage
	if json.Unmarshal(claims[outer], &within) != nil {
		return nil
	}
	return claimOf(within, inner)
}
