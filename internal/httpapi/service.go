package httpapi

import (
	"context"
	"net/http"
	"time"

	"passbook/internal/auth"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

// readyTimeout bounds the readiness checks, below the timeout of any probe.
const readyTimeout = 2 * time.Second

// Index serves GET /: it redirects browsers, which prefer HTML, to the console, and gives programs the links to the API's
// document.
func (s *server) Index(w http.ResponseWriter, r *http.Request) {
	w.Header()["Vary"] = []string{"Accept"}
	if request.PrefersHTML(r.Header) {
		w.Header()["Location"] = []string{"/console"}
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	body := genapi.Index{Service: genapi.Passbook, Version: s.version}
	body.Links.Openapi, body.Links.Docs, body.Links.Console = string(s.base)+"/openapi.yaml", string(s.base)+"/docs", string(s.base)+"/console"
	s.reply(w, r, http.StatusOK, &body, nil)
}

// Livez serves GET /livez. It checks nothing: a restart of the process does not bring back a database.
func (s *server) Livez(w http.ResponseWriter, r *http.Request) {
	s.reply(w, r, http.StatusOK, &genapi.Liveness{Status: genapi.LivenessStatusOk, Version: s.version}, nil)
}

// Readyz serves GET /readyz.
func (s *server) Readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	checks := s.ready(ctx)
	status, body := http.StatusOK, genapi.Readiness{Status: genapi.ReadinessStatusOk, Checks: make([]genapi.ReadinessCheck, len(checks))}
	trusted := s.trusts(r)
	for i, c := range checks {
		if c.Private && !trusted {
			c.Detail = ""
		}
		body.Checks[i] = genapi.ReadinessCheck{Name: c.Name, Ok: c.OK, Detail: c.Detail}
		if !c.OK {
			status, body.Status = http.StatusServiceUnavailable, genapi.ReadinessStatusUnavailable
		}
	}
	if status != http.StatusOK {
		w.Header().Set("Retry-After", "1")
	}
	s.reply(w, r, status, &body, nil)
}

// trusts reports whether a request to /readyz, which is public, may see private details.
func (s *server) trusts(r *http.Request) bool {
	if s.authenticator == nil {
		return s.origin.addressed(r.Host)
	}
	caller := exchangeOf(r.Context()).caller
	return caller != nil && caller.Scopes.Has(auth.ProjectionsRead)
}

// WhoAmI serves GET /me.
func (s *server) WhoAmI(w http.ResponseWriter, r *http.Request) {
	body := genapi.Me{
		Authentication: genapi.AuthenticationNone, Scopes: auth.AllScopes().Names(), Follower: s.follower, PrimaryURL: nullable(s.primaryURL),
	}
	if caller := exchangeOf(r.Context()).caller; caller != nil {
		body.Authentication, body.Actor, body.Scopes = s.authKind, &caller.Actor, caller.Scopes.Names()
	}
	s.reply(w, r, http.StatusOK, &body, nil)
}

// Metrics serves GET /metrics.
func (s *server) Metrics(w http.ResponseWriter, r *http.Request) { s.metrics.ServeHTTP(w, r) }

// OpenapiDocument serves GET /openapi.yaml.
func (s *server) OpenapiDocument(w http.ResponseWriter, r *http.Request) {
	if !s.notModified(w, r, s.docs.documentTag) {
		write(w, http.StatusOK, "application/yaml", s.docs.document)
	}
}

// Docs serves GET /docs.
func (s *server) Docs(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", s.docs.policy)
	h.Set("Referrer-Policy", "no-referrer")
	write(w, http.StatusOK, "text/html; charset=utf-8", s.docs.page)
}
