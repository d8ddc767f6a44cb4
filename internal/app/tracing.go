package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/go-chi/chi/v5"
	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/postgres"
	"passbook/internal/projector"
)

// maxTraced is the maximum number of spans of one append or one batch of a projection.
const maxTraced = 64

// tracing makes spans and sends them to a collector. If tracing is off it is nil, and costs a request nothing.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// newTracing returns tracing that sends to endpoint, a URL for traces, over HTTP. It does not connect yet; the caller stops it.
// Without an endpoint it returns nil. It sets the process-wide error handler of OpenTelemetry's SDK, which then logs.
func newTracing(ctx context.Context, endpoint, version string, log *slog.Logger) (*tracing, error) {
	if endpoint == "" {
		return nil, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("sending traces failed; spans are dropped", "error", err) }))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last, and win.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "passbook"), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &tracing{provider: provider, tracer: provider.Tracer("passbook")}, nil
}

// stop sends the remaining spans, for at most two seconds.
func (t *tracing) stop(log *slog.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("sending the last traces failed; they are lost", "error", err)
	}
}

// follow traces the projector's work. The projector then reads the log with its metadata, which is slower, in replays too.
func (t *tracing) follow(c *projector.Config, store *eventstore.Store) {
	if t != nil {
		c.Log, c.Applying = logWithMetadata{store}, t.applying
	}
}

// logWithMetadata is a log whose events are read with their metadata.
type logWithMetadata struct{ *eventstore.Store }

// ReadAfter implements projector.Log.
func (l logWithMetadata) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	return l.Select(ctx, after, math.MaxInt64, eventstore.Selection{}, limit)
}

// poolOptions returns options that trace the statements of traced requests.
func (t *tracing) poolOptions() []postgres.Option {
	if t == nil {
		return nil
	}
	// Statements contain placeholders, not values.
	tracer := otelpgx.NewTracer(otelpgx.WithTracerProvider(t.provider), otelpgx.WithDisableAcquireTracer())
	return []postgres.Option{postgres.WithTracer(tracer)}
}

// handler makes a span for each request and puts it into the request's traceparent, so that events and log lines carry
// the span's id.
func (t *tracing) handler(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	var w3c propagation.TraceContext
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span := trace.SpanFromContext(r.Context())
		w3c.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
		route := chi.NewRouteContext() // the router fills in the pattern of the route
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, route)))
		if n := len(route.RoutePatterns); n > 0 {
			span.SetName(r.Method + " " + route.RoutePatterns[n-1])
			span.SetAttributes(attribute.String("http.route", route.RoutePatterns[n-1]))
		}
		span.SetAttributes(attribute.String("passbook.request_id", w.Header().Get("X-Request-Id")))
	})
	return otelhttp.NewHandler(named, "", otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(w3c),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }))
}

// appending makes a span for each request whose events are in an append, so that each trace has one. It is for
// command.Config.Appending.
func (t *tracing) appending(ctx context.Context, b *eventstore.Batch) (context.Context, func(error)) {
	var parents []trace.SpanContext
	for i := range b.Events {
		parents = addParent(parents, b.Events[i].Metadata)
	}
	return t.spans(ctx, "append", parents, attribute.Int("passbook.batch.events", len(b.Events)))
}

// applying makes a span for each request whose events are in a batch of a projection. It is for projector.Config.Applying.
func (t *tracing) applying(ctx context.Context, projection string, events []eventstore.Event) (context.Context, func(error)) {
	var parents []trace.SpanContext
	for i := range events {
		parents = addParent(parents, events[i].Metadata)
	}
	return t.spans(ctx, "apply "+projection, parents, attribute.String("passbook.projection", projection),
		attribute.Int("passbook.batch.events", len(events)), attribute.Int64("passbook.position", events[len(events)-1].Position))
}

// addParent adds the span that the metadata of an event names, if it is sampled and not there yet.
func addParent(parents []trace.SpanContext, metadata []byte) []trace.SpanContext {
	var m command.Metadata
	if len(parents) == maxTraced || json.Unmarshal(metadata, &m) != nil || m.Traceparent == "" {
		return parents
	}
	carrier := propagation.MapCarrier{"traceparent": m.Traceparent}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !parent.IsSampled() {
		return parents
	}
	for i := range parents {
		if parents[i].SpanID() == parent.SpanID() {
			return parents
		}
	}
	return append(parents, parent)
}

// spans begins a span under each parent. Work done in the returned context belongs to the first.
func (t *tracing) spans(ctx context.Context, name string, parents []trace.SpanContext, attributes ...attribute.KeyValue,
) (context.Context, func(error)) {
	started := make([]trace.Span, len(parents))
	for i, parent := range parents {
		_, started[i] = t.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, parent), name, trace.WithAttributes(attributes...))
	}
	first := ctx
	if len(started) > 0 {
		first = trace.ContextWithSpan(ctx, started[0])
	}
	return first, func(err error) {
		for _, span := range started {
			if err != nil {
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
		}
	}
}
