package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	openapi "passbook/api"
)

// surface generates requests from the API's document.
type surface struct {
	operations []operation
	accounts   []string // open at the beginning
}

type operation struct {
	method, path string
	parameters   openapi3.Parameters
	body         openapi3.Content
}

func newSurface() (*surface, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		return nil, err
	}
	g := new(surface)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op := operation{method: method, path: path, parameters: append(slices.Clone(item.Parameters), o.Parameters...)}
			if o.RequestBody != nil {
				op.body = o.RequestBody.Value.Content
			}
			g.operations = append(g.operations, op)
		}
	}
	slices.SortFunc(g.operations, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	for n := range 4 {
		g.accounts = append(g.accounts, incidentAccount(n+1))
	}
	return g, nil
}

// maker generates one request, determined by random alone.
type maker struct {
	*surface
	*rand.Rand
}

// oneIn returns true once in n times.
func (m maker) oneIn(n int) bool { return m.IntN(n) == 0 }

func pick[T any](m maker, all ...T) T { return all[m.IntN(len(all))] }

func (g *surface) request(random *rand.Rand) *rawRequest {
	m := maker{g, random}
	op := pick(m, g.operations...)
	r := &rawRequest{method: op.method}
	if m.oneIn(12) {
		r.method = pick(m, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X", strings.Repeat("M", 300))
	}
	r.target = m.target(&op)
	// A statement without an end is as of now, which the read model may not have reached.
	r.waits = strings.Contains(r.target, "position") || strings.Contains(r.target, "/statement")
	headers, body := m.headers(&op), ""
	switch {
	case op.body != nil && !m.oneIn(20):
		mediaType := pick(m, sortedKeys(op.body)...)
		body = m.body(mediaType, op.body[mediaType].Schema.Value)
		if !m.oneIn(20) {
			headers = append(headers, "Content-Type: "+mediaType+pick(m, "", "", "", "; charset=utf-8", ";charset=latin1"))
		}
	case m.oneIn(20):
		body = m.junk()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", r.method, r.target)
	for _, h := range headers {
		text.WriteString(h + "\r\n")
	}
	switch {
	case body == "" && m.oneIn(2):
		text.WriteString("\r\n")
	case m.oneIn(10):
		fmt.Fprintf(&text, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		if body == "" {
			text.Reset()
			fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", r.method, r.target)
		}
	default:
		fmt.Fprintf(&text, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	r.text = text.String()
	return r
}

func sortedKeys(c openapi3.Content) []string {
	var keys []string
	for k := range c {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// target returns the path and the query of a request.
func (m maker) target(op *operation) string {
	path := op.path
	query := url.Values{}
	for _, ref := range op.parameters {
		switch p := ref.Value; p.In {
		case openapi3.ParameterInPath:
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(m.parameter(p)))
		case openapi3.ParameterInQuery:
			for n := 4; p.Required && n == 4 || m.oneIn(n); n *= 5 {
				query.Add(p.Name, m.parameter(p))
			}
		}
	}
	if m.oneIn(30) {
		query.Set(pick(m, "limt", "LIMIT", "", "after[]", "é", "\x00"), m.text())
	}
	target := path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	switch m.IntN(60) {
	case 0:
		target += pick(m, "?", "&", "?limit=%zz", "?limit=1;after=2", "/", "//", "?=&=&", "?min_position", "#x", "?limit=1&limit=2")
	case 1:
		target = pick(m, "/", "//accounts", "/accounts//balance", "/accounts/../projections", "/%2e%2e/", "/accounts/%00", "/docs/../../etc/passwd",
			"/nowhere", "/"+strings.Repeat("a/", 500), "/accounts/%ff%fe", "*", "/console", "/%", "/accounts%2F")
	}
	return target
}

// parameter returns a value of a parameter in a path or a query.
func (m maker) parameter(p *openapi3.Parameter) string {
	if m.oneIn(12) {
		return m.text()
	}
	switch p.Name {
	case "account_id", "subject":
		return m.account()
	case "projection_id":
		return pick(m, "balances", "transactions", "totals", "holds", "stats", "nothing", "Balances")
	case "at", "from", "to":
		return pick(m, "2026-01-02T15:04:05Z", "2020-01-01T00:00:00.000001+02:00", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "now")
	}
	return strings.Trim(m.value(p.Schema.Value, 0), `"`)
}

func (m maker) account() string {
	if m.oneIn(6) {
		return pick(m, "0190a0d2-0000-7000-8000-00000000ffff", "00000000-0000-0000-0000-000000000000", "0190A0D2-0000-7000-8000-000000000001", "{"+m.accounts[0]+"}",
			"urn:uuid:"+m.accounts[0], m.accounts[0][:35])
	}
	return pick(m, m.accounts...)
}

// headers returns header lines, both those that the operation knows and others. Waits are kept short.
func (m maker) headers(op *operation) []string {
	headers := []string{"Prefer: " + pick(m, "wait=0", "wait=0", `Wait = "0";x`, "respond-async, wait=0", "wait=1")}
	known := []string{"Accept", "X-Request-Id", "X-Correlation-Id", "X-Causation-Id", "Traceparent", "Last-Event-Id", "Range", "If-Modified-Since"}
	for _, ref := range op.parameters {
		if ref.Value.In == openapi3.ParameterInHeader && ref.Value.Name != "Prefer" {
			known = append(known, slices.Repeat([]string{ref.Value.Name}, 5)...)
		}
	}
	for m.oneIn(2) {
		name := pick(m, known...)
		headers = append(headers, name+": "+m.header(name))
	}
	if m.oneIn(40) {
		headers = append(headers, pick(m, "X-Long: "+strings.Repeat("x", 40_000), "Content-Encoding: gzip", "Expect: 100-continue", "Cookie: a=b; c",
			"Authorization: Bearer x", "Origin: https://elsewhere.example", "X-Forwarded-For: \x80\xff", "Bad Header: x", "Accept-Encoding: gzip;q=nonsense"))
	}
	return headers
}

func (m maker) header(name string) string {
	if m.oneIn(6) {
		return strings.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == 0 {
				return -1
			}
			return r
		}, m.text())
	}
	switch name {
	case "Accept":
		return pick(m, "*/*", "application/json", "text/event-stream", "text/html;q=x", "application/xml", "")
	case "Idempotency-Key":
		return pick(m, "", `"quoted"`, `"broken`, "a b") + "k" + strconv.Itoa(m.IntN(50))
	case "If-Match":
		return pick(m, `"1"`, `"2"`, `"9000"`, `"9001"`, "*", `W/"1"`, `"01"`, `"1", "2"`, "1", `"9223372036854775808"`)
	case "If-None-Match":
		return pick(m, `*`, `"1"`, `W/"2"`, `"2", *`, `"`, ",,,")
	case "Traceparent":
		return pick(m, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "ff-0-0-0", "00-")
	case "Last-Event-Id":
		return pick(m, "0", "3", "-1", "01", "9223372036854775807", "99999999999999999999")
	}
	return pick(m, "x", strings.Repeat("x", 129), "bytes=0-1", "")
}

// body returns the body of a request of a media type.
func (m maker) body(mediaType string, schema *openapi3.Schema) string {
	if m.oneIn(15) {
		return m.junk()
	}
	if mediaType != "application/x-ndjson" {
		return m.value(schema, 0)
	}
	var lines strings.Builder
	for range m.IntN(12) {
		lines.WriteString(m.value(schema, 0) + pick(m, "\n", "\n", "\r\n", "\n\n \n"))
		if m.oneIn(20) {
			lines.WriteString(m.junk() + "\n")
		}
	}
	return lines.String()
}

// value returns JSON that a schema mostly allows.
func (m maker) value(s *openapi3.Schema, depth int) string {
	if m.oneIn(40) {
		return m.junk()
	}
	if len(s.AnyOf) > 0 {
		return m.value(pick(m, s.AnyOf...).Value, depth)
	}
	if len(s.Enum) > 0 {
		text, _ := json.Marshal(pick(m, s.Enum...)) // of YAML: it can be
		return string(text)
	}
	switch {
	case s.Type.Is(openapi3.TypeObject) || len(s.Properties) > 0:
		return m.object(s, depth)
	case s.Type.Is(openapi3.TypeArray):
		var items []string
		for range m.IntN(6) {
			items = append(items, m.value(s.Items.Value, depth+1))
		}
		return "[" + strings.Join(items, ",") + "]"
	case s.Type.Is(openapi3.TypeInteger):
		return pick(m, "0", "1", "2", "5", "50", "-1", "1.5", "1e3", "9223372036854775807", "9223372036854775808", `"1"`)
	case s.Type.Is(openapi3.TypeBoolean):
		return pick(m, "true", "false", "1")
	}
	return pick(m, `"1"`, `"0.01"`, "1", "12.34", `"x"`)
}

func (m maker) object(s *openapi3.Schema, depth int) string {
	var names, members []string
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		chance := 3
		if slices.Contains(s.Required, name) || m.likely(name) {
			chance = 40
		}
		if m.IntN(chance) == 0 == (chance == 3) {
			members = append(members, strconv.Quote(name)+":"+m.member(name, s.Properties[name].Value, depth))
		}
	}
	if m.oneIn(25) {
		members = append(members, pick(m, `"more":1`, `"amount":1`, `"":null`, "\"\xff\":1", `"`+strings.Repeat("n", 2000)+`":[]`))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// likely names the members of a bulk item; most commands do not require them all.
func (m maker) likely(name string) bool {
	return slices.Contains([]string{"account_id", "from_account_id", "to_account_id", "amount", "command"}, name) && !m.oneIn(4)
}

func (m maker) member(name string, s *openapi3.Schema, depth int) string {
	switch {
	case m.oneIn(20):
		return m.junk()
	case strings.HasSuffix(name, "account_id"):
		return strconv.Quote(m.account())
	case name == "currency":
		return pick(m, `"EUR"`, `"EUR"`, `"EUR"`, `"JPY"`, `"XXX"`, `"eur"`)
	case name == "amount":
		return pick(m, `"1"`, `"0.01"`, "12.34", "100", `"100000"`, "0.001", "0", "-1", "1e3", `"NaN"`, "92233720368547758.07", "92233720368547758.08", strings.Repeat("9", 400))
	case name == "transfer_id":
		return fmt.Sprintf(`"0190a0d2-0000-7000-9000-%012d"`, m.IntN(1000))
	case slices.Contains([]string{"owner", "reference", "reason", "idempotency_key"}, name) && m.oneIn(3):
		return pick(m, `"é 日本 \ud83d\ude00"`, `"\u0000"`, `"\ud800"`, "\"\xff\"", `"`+strings.Repeat("a", 501)+`"`, `" "`, `""`, "\"a\tb\"", `"a\nb"`)
	}
	return m.value(s, depth+1)
}

// junk returns a value that is valid nowhere.
func (m maker) junk() string {
	return pick(m, "null", "true", "-0", "1e400", "[]", "{}", `""`, `"\ud800"`, "\"\xc3\x28\"", "{", "]", `{"a":1,"a":2}`, "NaN", "01", "'x'", "\x00", "\ufeff{}",
		strings.Repeat("[", 40)+strings.Repeat("]", 40), strings.Repeat(`{"a":`, 5000), strings.Repeat("9", 3000), `"`+strings.Repeat("x", 70_000)+`"`, "// x", "1 2")
}

// text returns an invalid value of a parameter or a header.
func (m maker) text() string {
	return pick(m, "", " ", "x", "-1", "+1", "1e3", "0x10", "9223372036854775808", "null", "é", "\xff\xfe", "\x00", "a\r\nb", "%", "..", strings.Repeat("y", 3000), "1,2", "*", `"`)
}
