package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	bankSource  = "https://bank.example/passbook"
	bankPrefix  = "com.example.passbook."
	bankSchemas = "https://bank.example/schemas/"
)

// TestConfiguredEventNames configures source, type prefix and schema URL, and reads every page and the stream with the
// official SDK: each event is valid, and its data matches the schema that it names.
func TestConfiguredEventNames(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), private(t), "PASSBOOK_EVENT_SOURCE="+bankSource, "PASSBOOK_EVENT_TYPE_PREFIX=com.example.passbook",
		"PASSBOOK_EVENT_SCHEMA_URL=https://bank.example/schemas")
	p.awaitReady(t, 60*time.Second)
	// No apitest.Client: the document in the repository has other names than this server's.
	a := api{t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, p.base}
	live := p.follow(t, "?after=0")
	a.recordEveryType()
	types := make(map[string]bool)
	events := a.pagesOfEvents(2)
	for i := range events {
		e := &events[i]
		if streamed := await(t, live, strconv.Itoa(i+1)); streamed.String() != e.String() {
			t.Errorf("the stream has\n%s\nand the page\n%s", streamed, e)
		}
		name, found := strings.CutPrefix(e.Type(), bankPrefix)
		if err := e.Validate(); err != nil || !found || e.Source() != bankSource {
			t.Errorf("%s: %v", e, err)
		}
		if want := fmt.Sprintf("%s%s/%d", bankSchemas, name, e.Extensions()["schemaversion"]); e.DataSchema() != want {
			t.Errorf("dataschema is %s, want %s", e.DataSchema(), want)
		}
		a.checkData(e)
		types[name] = true
	}
	if len(types) != 8 {
		t.Errorf("%d events of the types %v", len(events), types)
	}
	for _, filter := range []string{"AccountClosed", bankPrefix + "AccountClosed"} {
		var page []event.Event
		if err := json.Unmarshal(a.body("/events?type="+filter), &page); err != nil || len(page) != 1 {
			t.Errorf("%s: %v, %v", filter, page, err)
		}
	}
	document, err := openapi3.NewLoader().LoadFromData(a.body("/openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var page []any
	if err := json.Unmarshal(a.body("/events"), &page); err != nil {
		t.Fatal(err)
	}
	for _, e := range page {
		if err := document.Components.Schemas["CloudEvent"].Value.VisitJSON(e); err != nil {
			t.Errorf("%v does not match this server's document: %v", e, err)
		}
	}
}

// recordEveryType sends commands that record an event of each type.
func (a api) recordEveryType() {
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","overdraft_limit":"10"}`, 201)["account_id"].(string)
	other := a.call("POST", "/accounts", `{"owner":"Bob","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"90071992547409.93"}`, 201)
	a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":"90071992547409.93"}`, 201)
	a.call("POST", "/transfers", `{"from_account_id":"`+id+`","to_account_id":"`+other+`","amount":"1"}`, 201)
	for _, change := range []string{"suspend", "reactivate"} {
		a.call("POST", "/accounts/"+id+"/"+change, `{"reason":"because"}`, 200)
	}
	a.call("POST", "/withdrawals", `{"account_id":"`+other+`","amount":"1"}`, 201)
	a.call("POST", "/accounts/"+other+"/close", `{}`, 200)
}

// pagesOfEvents reads the log to its end with the CloudEvents SDK.
func (a api) pagesOfEvents(size int) []event.Event {
	a.t.Helper()
	var events []event.Event
	for {
		response := a.get(fmt.Sprintf("/events?limit=%d&after=%d", size, len(events)))
		page, err := cehttp.NewEventsFromHTTPResponse(response)
		if err != nil || response.Body.Close() != nil {
			a.t.Fatal(err)
		}
		events = append(events, page...)
		if response.Header.Get("Link") == "" {
			return events
		}
	}
}

// checkData validates the data of an event against the schema that it names, which the server serves.
func (a api) checkData(e *event.Event) {
	a.t.Helper()
	source, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body("/schemas/" + strings.TrimPrefix(e.DataSchema(), bankSchemas))))
	if err != nil {
		a.t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(e.DataSchema(), source); err != nil {
		a.t.Fatal(err)
	}
	schema, err := compiler.Compile(e.DataSchema())
	if err != nil {
		a.t.Fatal(err)
	}
	data, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data()))
	if err != nil {
		a.t.Fatal(err)
	}
	if err := schema.Validate(data); err != nil {
		a.t.Errorf("%s: %v", e, err)
	}
	if id, _ := source.(map[string]any)["$id"].(string); id != e.DataSchema() || schema.Validate([]any{}) == nil {
		a.t.Errorf("the schema %s has the $id %q, or takes anything", e.DataSchema(), id)
	}
}

func (a api) get(path string) *http.Response {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.base+path, http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	response, err := a.client.Do(r)
	if err != nil || response.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %v, %v", path, response, err)
	}
	return response
}

func (a api) body(path string) []byte {
	a.t.Helper()
	response := a.get(path)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return body
}
