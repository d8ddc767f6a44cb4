package main

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"passbook/internal/pgtest"
)

// collector is an OpenTelemetry collector that keeps the spans it receives.
type collector struct {
	mu    sync.Mutex
	spans []*tracepb.Span
	about map[string]string // of the resource
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	var sent coltrace.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &sent)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not an export of traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			c.about[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range of.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// find returns a trace's spans by name under a parent, "" for any.
func (c *collector) find(traceID, name, parent string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*tracepb.Span
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == traceID && s.GetName() == name &&
			(parent == "" || hex.EncodeToString(s.GetParentSpanId()) == parent) {
			found = append(found, s)
		}
	}
	return found
}

// TestOneTrace follows a deposit by its caller's trace, as a collector sees it: from the request to the append and its
// statement, and to each projection in tables that applied the event and its writes. The log has the trace too.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	c := &collector{about: make(map[string]string)}
	receiver := httptest.NewServer(c)
	t.Cleanup(receiver.Close)
	url := pgtest.URL(t)
	p := launch(t, build(t), "DATABASE_URL="+url, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL, "OTEL_BSP_SCHEDULE_DELAY=50",
		"PASSBOOK_LOG_LEVEL=info", "PASSBOOK_LOG_FORMAT=json")
	p.awaitReady(t, time.Minute)
	const traceID, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/accounts", strings.NewReader(`{"owner":"Ada","currency":"EUR"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+traceID+"-"+caller+"-01")
	response, err := plain.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
	one := func(name, parent string) string {
		t.Helper()
		var found []*tracepb.Span
		eventuallyTrue(t, time.Minute, "the collector has "+name+" under "+parent, func() bool {
			found = c.find(traceID, name, parent)
			return len(found) > 0
		})
		if len(found) != 1 && name != "UPDATE" {
			t.Errorf("%d spans %s", len(found), name)
		}
		return hex.EncodeToString(found[0].GetSpanId())
	}
	server := one("POST /accounts", caller)
	one("SELECT", one("append", server))
	for _, projection := range []string{"balances", "transactions", "totals"} {
		one("UPDATE", one("apply "+projection, server)) // of the checkpoint
	}
	c.mu.Lock()
	if c.about["service.name"] != "passbook" || c.about["service.version"] == "" {
		t.Errorf("the resource is %v", c.about)
	}
	c.mu.Unlock()
	var kept string
	if err := connect(t, url).QueryRow(t.Context(), "select metadata->>'traceparent' from events where position = 1").Scan(&kept); err != nil {
		t.Fatal(err)
	}
	if kept != "00-"+traceID+"-"+server+"-01" {
		t.Errorf("the event has the traceparent %s, the request was span %s", kept, server)
	}
	eventuallyTrue(t, time.Minute, "the request is in the log with its trace", func() bool {
		return strings.Contains(p.out.String(), `"trace_id":"`+traceID+`"`)
	})
}

// TestUndeliverableTraces checks that a collector's refusal is logged as a structured line.
func TestUndeliverableTraces(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(receiver.Close)
	p := launch(t, build(t), "DATABASE_URL="+pgtest.URL(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL, "OTEL_BSP_SCHEDULE_DELAY=50",
		"PASSBOOK_LOG_LEVEL=info", "PASSBOOK_LOG_FORMAT=json")
	p.awaitReady(t, time.Minute)
	eventuallyTrue(t, time.Minute, "the log reports lost traces", func() bool { return strings.Contains(p.out.String(), "/v1/traces") })
	for line := range strings.Lines(p.out.String()) {
		if strings.Contains(line, "/v1/traces") && !strings.Contains(line, `"level":"WARN","msg":"sending traces failed; spans are dropped","error":"`) {
			t.Errorf("not a line of the log: %s", line)
		}
	}
}
