package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"passbook/internal/auth"
	"passbook/internal/httpapi/request"
)

// Authenticator identifies callers by the credential in the Authorization header, without the word Bearer.
type Authenticator interface {
	// Authenticate returns auth.ErrBadCredential for a credential that is not valid, and any other error when it cannot check one.
	Authenticate(ctx context.Context, credential string) (*auth.Caller, error)
	// NeedsDatabase reports whether Authenticate would have to query a database, as it has to for a guess.
	NeedsDatabase(credential string) bool
}

// recheckEvery is how often the credential of a long request is checked again.
const recheckEvery = time.Second

// realm begins every challenge in WWW-Authenticate.
const realm = `Bearer realm="passbook"`

// open reports whether a path needs no credential under any settings: public operations, and the static files of the
// documentation and the console.
func open(path string) bool {
	switch path {
	case "/", "/livez", "/readyz", "/openapi.yaml", "/docs", "/console":
		return true
	}
	return static(path)
}

// static reports whether a path is that of a file of the documentation or the console.
func static(path string) bool {
	return strings.HasPrefix(path, "/docs/") || strings.HasPrefix(path, "/console/")
}

// guard refuses requests without a valid credential and requests beyond a caller's rate limit. A service with neither
// authentication nor a rate limit has no guard.
type guard struct {
	authenticator Authenticator // nil without authentication
	limits        *limits       // nil without limits
	fail          func(w http.ResponseWriter, r *http.Request, err error)
}

// identify runs before routing, so that a path is closed unless it is known to be open.
func (g *guard) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// /readyz is open, but shows more to an authenticated caller.
		optional := r.URL.Path == "/readyz"
		if open(r.URL.Path) && !(optional && g.authenticator != nil && len(r.Header["Authorization"]) > 0) {
			next.ServeHTTP(w, r)
			return
		}
		if refused := g.admit(w, r); refused != nil && !optional {
			g.fail(w, r, refused)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// admit authenticates a request and counts it. A bad credential counts against the address, which limits guessing. A credential
// that must be looked up in the database counts before the lookup.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) error {
	var (
		key     = limitKey{address: addressOf(r)}
		counted = g.limits == nil
		refused error
	)
	if credential, _, ok := bearer(r.Header); !counted && ok && g.authenticator != nil && g.authenticator.NeedsDatabase(credential) {
		if p := g.limits.take(w.Header(), key, time.Now()); p != nil {
			return p
		}
		counted = true
	}
	if g.authenticator != nil {
		var caller *auth.Caller
		if caller, refused = g.authenticate(r); refused == nil {
			exchangeOf(r.Context()).caller = caller
			if g.limits != nil && counted {
				g.limits.giveBack(key)
			}
			key, counted = limitKey{caller: caller.ID}, g.limits == nil
		}
	}
	if !counted {
		if p := g.limits.take(w.Header(), key, time.Now()); p != nil {
			return p
		}
	}
	return refused
}

func (g *guard) authenticate(r *http.Request) (*auth.Caller, error) {
	credential, given, ok := bearer(r.Header)
	switch {
	case !given:
		p := newProblem(kindUnauthenticated, "Send a key or a token as Authorization: Bearer …; server keys create makes a key.")
		p.challenge = realm
		return nil, p
	case !ok:
		return nil, badCredential()
	}
	caller, err := g.authenticator.Authenticate(r.Context(), credential)
	if errors.Is(err, auth.ErrBadCredential) {
		return nil, badCredential()
	}
	return caller, err
}

// badCredential does not say what is wrong: that would only help a caller who guesses.
func badCredential() *problem {
	p := newProblem(kindBadCredential, "The key or token is not valid: unknown, expired, revoked, or not meant for this service; server keys create makes another key.")
	p.challenge = realm + `, error="invalid_token"`
	return p
}

// bearer reads the Authorization header (RFC 6750, section 2.1).
func bearer(h http.Header) (credential string, given, ok bool) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", false, false
	}
	scheme, credential, found := strings.Cut(values[0], " ")
	credential = strings.TrimLeft(credential, " ")
	return credential, true, len(values) == 1 && found && strings.EqualFold(scheme, "Bearer") && credential != ""
}

func missingScope(scopes auth.Scopes) *problem {
	names := scopes.String()
	p := newProblem(kindScope, "The credential does not have the scope "+strings.ReplaceAll(names, " ", " and ")+"; use one that has it.")
	p.challenge = realm + `, error="insufficient_scope", scope="` + names + `"`
	return p
}

// RequireScope serves next to callers whose credential has a scope, as the API does, in a process that does not serve the API. Without
// an authenticator it returns next.
func RequireScope(authenticator Authenticator, scope auth.Scopes, log *slog.Logger, next http.Handler) http.Handler {
	if authenticator == nil {
		return next
	}
	g := &guard{authenticator: authenticator}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := g.authenticate(r)
		if err == nil && caller.Scopes.Has(scope) {
			next.ServeHTTP(w, r)
			return
		}
		p := missingScope(scope)
		if err != nil {
			if p = problemOf(err); p == nil {
				log.WarnContext(r.Context(), "the credential cannot be checked", "error", err)
				p = newProblem(kindUnavailable, unavailableDetail)
				p.retryAfter = 1
			}
		}
		p.respond(w, requestID(r))
	})
}

// authorize runs after routing: it checks that the caller's scopes include the one that the operation requires.
func (s *server) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := s.operation(r)
		switch {
		case op == nil: // the document has every operation; one that is missing would be closed
			s.fail(w, r, badCredential())
		case op.Public:
			next.ServeHTTP(w, r)
		default:
			s.permit(w, r, op, next)
		}
	})
}

func (s *server) permit(w http.ResponseWriter, r *http.Request, op *request.Operation, next http.Handler) {
	caller := exchangeOf(r.Context()).caller
	if caller == nil {
		s.fail(w, r, badCredential())
		return
	}
	if !caller.Scopes.Has(op.Scope) {
		s.fail(w, r, missingScope(op.Scope))
		return
	}
	streams := op.PreferredType(r.Header) == request.EventStream
	if !streams && !op.Bulk {
		next.ServeHTTP(w, r)
		return
	}
	if s.untilRevoked(w, r, op.Scope, next) && !streams {
		panic(http.ErrAbortHandler) // a truncated response must not look complete
	}
}

// untilRevoked runs a request that may take long, and cancels its context once its credential is no longer valid; revoked reports
// whether it did.
func (s *server) untilRevoked(w http.ResponseWriter, r *http.Request, scope auth.Scopes, next http.Handler) (revoked bool) {
	credential, _, _ := bearer(r.Header)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	var watch sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(done)
		cancel()
		watch.Wait()
	})
	watch.Go(func() {
		ticker := time.NewTicker(recheckEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if !revoked {
				caller, err := s.authenticator.Authenticate(ctx, credential)
				revoked = errors.Is(err, auth.ErrBadCredential) || err == nil && !caller.Scopes.Has(scope)
			}
			if revoked {
				cancel()
				// Wakes a reader that waits for the body; repeated, because the reader sets deadlines itself.
				_ = http.NewResponseController(w).SetReadDeadline(time.Now())
			}
		}
	})
	defer end() // also when the handler panics
	next.ServeHTTP(w, r.WithContext(ctx))
	end()
	return revoked
}
