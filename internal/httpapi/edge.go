package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"passbook/internal/auth"
	"passbook/internal/command"
	"passbook/internal/httpapi/request"
)

// edge is the outermost middleware: it assigns the request id, turns a panic into a 500, counts requests, and writes the access
// log. One middleware does all four, so that they cost a request one allocation.
type edge struct {
	log     *slog.Logger
	metrics *metrics
	base    basePath
	fail    func(w http.ResponseWriter, r *http.Request, err error)
}

// exchange is a request with its response. It is the http.ResponseWriter that handlers get.
type exchange struct {
	http.ResponseWriter
	requestID string
	method    string
	base      basePath
	// caller is nil without authentication.
	caller *auth.Caller
	status int // 0 until the header is written
	bytes  int64
	// reading is nil unless the request is recorded for the access audit.
	reading *reading
	outage  atomic.Int64 // when the database was last logged as unavailable, in Unix time; 0 for never
}

// logsOutage reports whether to log that the database is unavailable: at most once a minute for one request, however many of its
// commands wait for the database.
func (x *exchange) logsOutage(now time.Time) bool {
	last := x.outage.Load()
	return now.Unix()-last >= 60 && x.outage.CompareAndSwap(last, now.Unix())
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request that came through the edge.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader adds the base path to the references in the header, and sets Cache-Control unless the handler has: a response with
// an ETag may be stored but must be revalidated, any other must not be stored.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
		h := x.Header()
		x.base.refer(h)
		if _, set := h["Cache-Control"]; !set {
			policy := "no-store"
			if _, tagged := h["Etag"]; tagged && (x.method == http.MethodGet || x.method == http.MethodHead) {
				policy = "no-cache"
			}
			h["Cache-Control"] = []string{policy}
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// maxURI is the longest path and query in bytes. It is well below the server's MaxHeaderBytes, beyond which net/http refuses a
// request by itself, without a problem document.
const maxURI = 32 << 10

func (e *edge) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		x := &exchange{ResponseWriter: w, requestID: requestID(r), method: r.Method, base: e.base}
		h := w.Header()
		h["X-Request-Id"] = []string{x.requestID}
		h["X-Content-Type-Options"] = []string{"nosniff"}
		r = e.base.strip(r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
		e.metrics.inFlight.Inc()
		defer func() {
			e.metrics.inFlight.Dec()
			cause := recover()
			if cause != nil {
				cause = e.recovered(x, r, cause)
			}
			e.finish(x, r, time.Since(start))
			if cause != nil {
				panic(cause)
			}
		}()
		if len(r.RequestURI) > maxURI {
			e.fail(x, r, newProblem(kindURITooLong, fmt.Sprintf("The path and the query may have at most %d bytes; use fewer or shorter parameters.", maxURI)))
			return
		}
		next.ServeHTTP(x, r)
	})
}

// recovered responds with 500 if the response has not begun. Otherwise it returns what to panic with again, so that net/http
// closes the connection: a truncated response must not look complete.
func (e *edge) recovered(x *exchange, r *http.Request, cause any) any {
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return cause
	}
	e.log.LogAttrs(r.Context(), slog.LevelError, "the handler panicked; the request fails",
		slog.Any("cause", cause), slog.String("request_id", x.requestID), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		return http.ErrAbortHandler
	}
	e.fail(x, r, newProblem(kindInternal, internalDetail))
	return nil
}

func (e *edge) finish(x *exchange, r *http.Request, took time.Duration) {
	route := routeOf(r)
	status := x.status
	if status == 0 {
		status = http.StatusOK
	}
	e.metrics.observe(r.Method, route, status, took)
	level := slog.LevelInfo
	switch {
	case route == "/livez", route == "/readyz", route == "/metrics", static(route) && status < http.StatusBadRequest:
		level = slog.LevelDebug
	}
	if !e.log.Enabled(r.Context(), level) {
		return
	}
	e.log.LogAttrs(r.Context(), level, "request",
		slog.String("method", r.Method), slog.String("route", route), slog.Int("status", status),
		slog.Int64("bytes", x.bytes), slog.Float64("duration_ms", float64(took.Microseconds())/1000), slog.String("request_id", x.requestID),
		slog.String("trace_id", request.TraceID(r.Header.Get("Traceparent"))))
}

// routeOf returns the pattern of the route that took the request, or "" when none did.
func routeOf(r *http.Request) string {
	rctx := chi.RouteContext(r.Context())
	if rctx == nil || len(rctx.RoutePatterns) == 0 {
		return ""
	}
	return rctx.RoutePatterns[len(rctx.RoutePatterns)-1]
}

func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); request.VisibleASCII(id, request.MaxIDLen) {
		return id
	}
	id, err := uuid.NewV7()
	if err != nil { // without randomness the request gets an id that is not unique
		return uuid.Nil.String()
	}
	return id.String()
}

// metadata returns what is stored with the events of a request. It ignores headers that are unusable: they serve tracing and must
// not fail a payment.
func metadata(r *http.Request) command.Metadata {
	x := exchangeOf(r.Context())
	m := command.Metadata{CorrelationID: x.requestID}
	if x.caller != nil {
		m.Actor = x.caller.Actor
	}
	if id := r.Header.Get("X-Correlation-Id"); request.VisibleASCII(id, request.MaxIDLen) {
		m.CorrelationID = id
	}
	if id := r.Header.Get("X-Causation-Id"); request.VisibleASCII(id, request.MaxIDLen) {
		m.CausationID = id
	}
	if tp := r.Header.Get("Traceparent"); request.TraceID(tp) != "" {
		m.Traceparent = tp
	}
	return m
}

// callerScope separates the idempotency keys of one caller from those of another. Without authentication all callers share one
// scope.
func callerScope(ctx context.Context) string {
	if caller := exchangeOf(ctx).caller; caller != nil {
		return caller.ID
	}
	return ""
}
