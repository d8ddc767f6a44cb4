// Package auth authenticates callers by their bearer credential: a key in the database (Keys), or a token of an OpenID
// Connect issuer (Issuer). It knows nothing of HTTP routes; what a caller may do is a set of scopes.
package auth

import (
	"errors"
	"strings"
)

var (
	// ErrBadCredential means that a credential is unknown, expired or revoked. It does not say which, so that no caller
	// can find out which keys exist.
	ErrBadCredential = errors.New("the credential is not valid")
	// ErrNotReady means that credentials cannot be checked yet, because the database's schema is not in place.
	ErrNotReady = errors.New("credentials cannot be checked yet")
	// ErrIssuerUnavailable means that a token cannot be verified, because the issuer's keys could not be fetched.
	ErrIssuerUnavailable = errors.New("the issuer of tokens is unavailable")
)

// Caller is the authenticated sender of a request. Requests share it, so it must not be changed.
type Caller struct {
	// ID identifies the caller permanently: "key:" and the key's id, or "oidc:" and the token's subject. Idempotency keys
	// and rate limits use it.
	ID string
	// Actor is recorded with the caller's events: ID, and for a key also its name.
	Actor string
	// Scopes is what the caller may do.
	Scopes Scopes
}

// Scopes is a set of scopes.
type Scopes uint16

// The scopes, by what they allow. ProjectionsAdmin includes ProjectionsRead.
const (
	AccountsWrite Scopes = 1 << iota
	AccountsRead
	EventsRead
	ProjectionsRead
	ProjectionsAdmin
	MetricsRead
	AuditRead
	SubjectsErase
)

// names are the names of the scopes, in the order of lists.
var names = []struct {
	name  string
	scope Scopes
}{
	{"accounts:write", AccountsWrite},
	{"accounts:read", AccountsRead},
	{"events:read", EventsRead},
	{"projections:read", ProjectionsRead},
	{"projections:admin", ProjectionsAdmin},
	{"metrics:read", MetricsRead},
	{"audit:read", AuditRead},
	{"subjects:erase", SubjectsErase},
}

// ParseScope returns the scope with a name, such as accounts:read; ok is false if there is none.
func ParseScope(name string) (scope Scopes, ok bool) {
	for _, n := range names {
		if n.name == name {
			return n.scope, true
		}
	}
	return 0, false
}

// ScopeNames lists the names of all scopes.
func ScopeNames() []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = n.name
	}
	return all
}

// Has reports whether the set includes all of the given scopes.
func (s Scopes) Has(scopes Scopes) bool {
	if s&ProjectionsAdmin != 0 {
		s |= ProjectionsRead
	}
	return s&scopes == scopes
}

// AllScopes returns the set of all scopes.
func AllScopes() Scopes { return scopesOf(ScopeNames()) }

// Names lists the names of all scopes that the set includes.
func (s Scopes) Names() []string {
	all := make([]string, 0, len(names))
	for _, n := range names {
		if s.Has(n.scope) {
			all = append(all, n.name)
		}
	}
	return all
}

// String lists the names, separated by spaces, as OAuth 2 does.
func (s Scopes) String() string { return strings.Join(s.list(), " ") }

func (s Scopes) list() []string {
	var all []string
	for _, n := range names {
		if s&n.scope != 0 {
			all = append(all, n.name)
		}
	}
	return all
}

// scopesOf returns the scopes with these names. It ignores unknown names, which a token may have.
func scopesOf(all []string) (s Scopes) {
	for _, name := range all {
		scope, _ := ParseScope(name)
		s |= scope
	}
	return s
}
