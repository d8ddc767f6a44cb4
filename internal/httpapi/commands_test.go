package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/subject"
)

func deposit(amount string) string {
	return fmt.Sprintf(`{"account_id":%q,"amount":%s}`, accountID, amount)
}

// bigBody is well-formed, but exceeds the limit for a command.
var bigBody = `{"reference":"` + strings.Repeat("x", 128<<10) + `"}`

func TestGoodAmounts(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for amount, want := range map[string]string{
		`"12.34"`: "12.34", `12.34`: "12.34", `100`: "100", `0.01`: "0.01", `"7.65"`: "7.65",
		`"9007199254740993"`: "9007199254740993", `9007199254740993.01`: "9007199254740993.01", `0.10`: "0.10",
		`"\u0031"`: "1", `9223372036854775807`: "9223372036854775807",
	} {
		got := a.send("POST", "/deposits", deposit(amount))
		if got.status != http.StatusCreated {
			t.Errorf("%s: %d %s", amount, got.status, got.text)
			continue
		}
		r, _ := s.last()
		if d, ok := r.Command.(account.Deposit); !ok || d.Amount.String() != want {
			t.Errorf("%s: got %#v, want %s", amount, r.Command, want)
		}
	}
}

func TestBadAmountsNameTheField(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	const unprocessable, bad = http.StatusUnprocessableEntity, http.StatusBadRequest
	for amount, want := range map[string]int{
		`"-1"`: unprocessable, `-1`: unprocessable, `-0`: unprocessable, `"1e3"`: unprocessable, `1e3`: unprocessable,
		`1E-2`: unprocessable, `1e999`: unprocessable, `""`: unprocessable, `null`: unprocessable, `[]`: unprocessable,
		`[1]`: unprocessable, `{}`: unprocessable, `{"amount":1}`: unprocessable, `true`: unprocessable,
		`12345678901234567890123`: unprocessable, `"12345678901234567890123"`: unprocessable,
		`"١٢"`: unprocessable, `"NaN"`: unprocessable, `"Infinity"`: unprocessable, `"-Infinity"`: unprocessable,
		`"0x10"`: unprocessable, `" 1"`: unprocessable, `"1 "`: unprocessable, `"1,5"`: unprocessable, `"+1"`: unprocessable,
		`"1."`: unprocessable, `".5"`: unprocessable, `"01"`: unprocessable, `"1_000"`: unprocessable,
		`"\u0000"`: unprocessable, `"` + strings.Repeat("9", 50_000) + `"`: unprocessable,
		strings.Repeat("9", 50_000): unprocessable,
		`NaN`:                       bad, `Infinity`: bad, `-Infinity`: bad, `١٢`: bad, `01`: bad, `1.`: bad, `.5`: bad, `+1`: bad, `0x10`: bad,
		`'1'`: bad, `"\ud800"`: bad, "\"\xff\"": bad, `[1,`: bad, `"1`: bad, `1"`: bad, `tru`: bad,
	} {
		got := a.send("POST", "/deposits", deposit(amount))
		code, errs := got.problem(t)
		if got.status != want {
			t.Errorf("%.40s: %d %s, want %d", amount, got.status, code, want)
		}
		named := false
		for pointer := range errs { // into it, if it is an array
			named = named || pointer == "/amount" || strings.HasPrefix(pointer, "/amount/")
		}
		if !named {
			t.Errorf("%.40s: %s does not name /amount", amount, got.text)
		}
	}
	if r, reached := s.last(); reached {
		t.Errorf("a bad amount reached the write side: %#v", r)
	}
}

// The error says in words what an amount must be, although the schema has one alternative for each type.
func TestAmountOfWrongType(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for amount, want := range map[string]string{
		`true`: "amount must be a string or a number, not a boolean", `null`: "amount must be a string or a number, not null",
		`{}`: "amount must be a string or a number, not an object", `-1`: "amount must not be negative", `[]`: "amount must be a string or a number, not an array",
	} {
		_, errs := a.send("POST", "/deposits", deposit(amount)).problem(t)
		if errs["/amount"] != want {
			t.Errorf("%s: %q, want %q", amount, errs["/amount"], want)
		}
	}
}

func TestAllBadFieldsAreReportedTogether(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for _, tt := range []struct {
		path, body string
		want       []string
	}{
		{"/deposits", `{}`, []string{"/account_id", "/amount"}},
		{"/deposits", `{"account_id":"x","amount":-1,"currency":"eur","reference":7,"extra":{"a":[]},"~/":1}`, []string{
			"/account_id", "/amount", "/currency", "/reference", "/extra", "/~0~1",
		}},
		{"/withdrawals", `{"account_id":null,"amount":"1","currency":"XXX"}`, []string{"/account_id", "/currency"}},
		{"/deposits", deposit(`"1","currency":"ZZZ"`), []string{"/currency"}},
		{"/deposits", deposit(`"1","reference":"a\u0000b"`), []string{"/reference"}},
		{"/deposits", deposit(`"1","reference":"` + strings.Repeat("é", 501) + `"`), []string{"/reference"}},
		{"/deposits", `{"account_id":"00000000-0000-0000-0000-000000000000","amount":1}`, []string{"/account_id"}},
		{"/transfers", `{"from_account_id":"` + accountID.String() + `","to_account_id":"` + nilID + `","amount":1,"transfer_id":"` + nilID + `"}`, []string{"/to_account_id", "/transfer_id"}},
		{"/accounts", `{"owner":"Ada","currency":"EUR","account_id":"` + nilID + `"}`, []string{"/account_id"}},
		{"/deposits", `{"account_id":"{0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f}","amount":1}`, []string{"/account_id"}},
		{"/accounts", `{"owner":"","currency":"EURO","overdraft_limit":"x","account_id":1}`, []string{
			"/owner", "/currency", "/overdraft_limit", "/account_id",
		}},
		{"/accounts", `{"owner":"a\nb","currency":"EUR"}`, []string{"/owner"}},
		{"/accounts", `{"owner":"` + strings.Repeat("x", 201) + `","currency":"EUR"}`, []string{"/owner"}},
		{"/accounts/" + accountID.String() + "/close", `{"why":1}`, []string{"/why"}},
		{"/accounts/" + accountID.String() + "/suspend", `{"reason":1}`, []string{"/reason"}},
		{"/deposits", `[]`, []string{""}},
		{"/deposits", `"x"`, []string{""}},
		{"/deposits", `null`, []string{""}},
	} {
		got := a.send("POST", tt.path, tt.body)
		code, errs := got.problem(t)
		if got.status != http.StatusUnprocessableEntity || code != "invalid-body" || len(errs) != len(tt.want) {
			t.Errorf("%s %s: %d %s", tt.path, tt.body, got.status, got.text)
		}
		for _, pointer := range tt.want {
			if errs[pointer] == "" {
				t.Errorf("%s %s: %s is not named in %s", tt.path, tt.body, pointer, got.text)
			}
		}
	}
	if r, reached := s.last(); reached {
		t.Errorf("a bad body reached the write side: %#v", r)
	}
}

func TestUnusableBodies(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	good := deposit(`1`)
	for _, tt := range []struct {
		name, body string
		headers    []string
		status     int
		code       string
	}{
		{"empty", "", nil, 400, "invalid-json"},
		{"no media type", good, []string{"Content-Type", ""}, 415, "unsupported-media-type"},
		{"text", good, []string{"Content-Type", "text/plain"}, 415, "unsupported-media-type"},
		{"latin-1", good, []string{"Content-Type", "application/json; charset=latin1"}, 415, "unsupported-media-type"},
		{"gzip", good, []string{"Content-Encoding", "gzip"}, 415, "unsupported-media-type"},
		{"utf-8", good, []string{"Content-Type", "application/JSON; charset=UTF-8"}, 201, ""},
		{"too large", bigBody, nil, 413, "body-too-large"},
		{"deep", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), nil, 400, "invalid-json"},
		{"deeper", strings.Repeat(`{"a":`, 12000), nil, 400, "invalid-json"},
		{"duplicate", `{"amount":1,"amount":2,"account_id":"x"}`, nil, 400, "invalid-json"},
		{"duplicate by escape", `{"amount":1,"\u0061mount":2}`, nil, 400, "invalid-json"},
		{"two texts", good + good, nil, 400, "invalid-json"},
		{"trailing comma", `{"amount":1,}`, nil, 400, "invalid-json"},
		{"comment", `{/* */}`, nil, 400, "invalid-json"},
		{"bom", "\ufeff" + good, nil, 400, "invalid-json"},
		{"cut", good[:10], nil, 400, "invalid-json"},
		{"not utf-8", "{\"reference\":\"\xff\"}", nil, 400, "invalid-json"},
	} {
		got := a.send("POST", "/deposits", tt.body, tt.headers...)
		if got.status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, got.status, got.text, tt.status)
		}
		if code, _ := got.json(t)["code"].(string); code != tt.code {
			t.Errorf("%s: %s, want %s", tt.name, got.text, tt.code)
		}
	}
	got := a.send("POST", "/deposits", `{"amount":1,"amount":2}`)
	if _, errs := got.problem(t); errs["/amount"] != "amount is given more than once" {
		t.Errorf("duplicate: %s", got.text)
	}
}

// TestLargestCommands sends the largest commands that the document allows, each character escaped as two times six bytes.
func TestLargestCommands(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	escaped := func(n int) string { return strings.Repeat(`\ud83d\ude00`, n) }
	var labels []string
	for i := range account.MaxMetadataKeys {
		labels = append(labels, fmt.Sprintf(`"%s%d":"%s"`, escaped(account.MaxMetadataKeyLen-2), 10+i, escaped(account.MaxMetadataValueLen)))
	}
	metadata := `"metadata":{` + strings.Join(labels, ",") + `}`
	move := deposit(`"1","reference":"` + escaped(account.MaxTextLen) + `",` + metadata)
	for path, body := range map[string]string{
		"/deposits": move,
		"/accounts": `{"owner":"` + escaped(account.MaxOwnerLen) + `","currency":"EUR",` + metadata + `}`,
	} {
		got := a.send("POST", path, body)
		if got.status != http.StatusCreated {
			t.Errorf("%s with %d bytes: %d %s", path, len(body), got.status, got.text)
		}
	}
	key := strings.Repeat(`\u006b`, 255)
	item := `{"command":"deposit","idempotency_key":"` + key + `",` + move[1:]
	for mediaType, body := range map[string]string{"application/x-ndjson": item, "application/json": "[" + item + "]"} {
		if _, results := a.bulk(mediaType, "", body); results[0]["status"] != 201.0 {
			t.Errorf("%s with %d bytes: %v", mediaType, len(body), results)
		}
	}
	if r, _ := s.last(); r.Key == nil || len(r.Command.(account.Deposit).Metadata.Map()) != account.MaxMetadataKeys {
		t.Errorf("%+v", r)
	}
}

func TestManyUnknownFieldsAreBounded(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	var b strings.Builder
	for i := range 7000 {
		fmt.Fprintf(&b, `,"%d":1`, i)
	}
	got := a.send("POST", "/deposits", deposit("1")[:len(deposit("1"))-1]+b.String()+"}")
	if _, errs := got.problem(t); got.status != http.StatusUnprocessableEntity || len(errs) > 32 {
		t.Errorf("%d, %d errors", got.status, len(errs))
	}
	got = a.send("POST", "/deposits", `{"`+strings.Repeat("x", 60_000)+`":1}`)
	if got.status != http.StatusUnprocessableEntity || len(got.text) > 2000 {
		t.Errorf("%d, %d bytes", got.status, len(got.text))
	}
}

func TestSuccessOfACommand(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	account := "/accounts/" + accountID.String()
	for _, tt := range []struct {
		path, body string
		status     int
		event      string
	}{
		{"/accounts", `{"account_id":"` + accountID.String() + `","owner":"Ada","currency":"EUR"}`, 201, "AccountCreated"},
		{"/deposits", deposit("1"), 201, "MoneyDeposited"},
		{"/withdrawals", deposit("1"), 201, "MoneyWithdrawn"},
		{account + "/suspend", `{"reason":"lost card"}`, 200, "AccountSuspended"},
		{account + "/reactivate", ``, 200, "AccountReactivated"},
		{account + "/close", `{}`, 200, "AccountClosed"},
	} {
		got := a.send("POST", tt.path, tt.body)
		want := fmt.Sprintf(`{"account_id":%q,"event_id":%q,"position":7,"recorded_at":"2026-01-02T14:04:05.120000Z",`+
			`"type":%q,"version":3}`, accountID, eventID, tt.event)
		if got.status != tt.status || got.text != want {
			t.Errorf("%s: %d %s, want %s", tt.path, got.status, got.text, want)
		}
		h := got.header
		if h.Get("ETag") != `"3"` || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", tt.path, h)
		}
		if location := h.Get("Location"); (location == account) != (tt.path == "/accounts") {
			t.Errorf("%s: Location %q", tt.path, location)
		}
		if r, _ := s.last(); r.AccountID != accountID || r.Key != nil || r.IfVersions != nil {
			t.Errorf("%s: %+v", tt.path, r)
		}
	}
}

func TestOpenAssignsID(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	got := a.send("POST", "/accounts", `{"owner":"Ada","currency":"EUR","overdraft_limit":50.00}`)
	r, _ := s.last()
	open, _ := r.Command.(account.Open)
	if got.status != http.StatusCreated || r.AccountID == (uuid.UUID{}) || open.Owner != "Ada" || open.Currency.Code() != "EUR" ||
		open.OverdraftLimit == nil || open.OverdraftLimit.String() != "50.00" {
		t.Errorf("%d %s: %+v", got.status, got.text, r)
	}
	a.send("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`)
	if again, _ := s.last(); again.AccountID == r.AccountID {
		t.Error("two accounts have one id")
	}
	if got := a.send("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, "If-Match", `"1"`); got.status != 400 {
		t.Errorf("If-Match: %d", got.status)
	}
}

func TestErrorsOfCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err        error
		status     int
		code       string
		field      string
		retryAfter string
	}{
		{&account.Refusal{Code: "insufficient-funds", Detail: "the balance is 1.00"}, 422, "insufficient-funds", "", ""},
		{&account.Refusal{Code: "amount-zero", Field: "amount", Detail: "amount is 0"}, 422, "amount-zero", "/amount", ""},
		{account.ErrNotFound, 404, "account-not-found", "/account_id", ""},
		{&account.NotFoundError{AccountID: accountID, Field: "to_account_id"}, 404, "account-not-found", "/to_account_id", ""},
		{fmt.Errorf("wrapped: %w", account.ErrExists), 409, "account-exists", "/account_id", ""},
		{account.ErrTransferExists, 409, "transfer-exists", "/transfer_id", ""},
		{&command.VersionError{Have: 4, Want: []int64{3}}, 412, "version-mismatch", "If-Match", ""},
		{command.ErrKeyReused, 422, "idempotency-key-reused", "Idempotency-Key", ""},
		{command.ErrKeyInFlight, 409, "idempotency-key-in-flight", "Idempotency-Key", "1"},
		{command.ErrOverloaded, 503, "overloaded", "", "1"},
		{command.ErrUnavailable, 503, "unavailable", "", "1"},
		{fmt.Errorf("append: %w", errUnavailable), 503, "unavailable", "", "1"},
		{errors.New("secret cause"), 500, "internal-error", "", ""},
		{fmt.Errorf("read: %w", &subject.MissingKeyError{SubjectID: accountID}), 503, "subject-key-missing", "", "60"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{do: func(command.Request) (command.Result, error) { return command.Result{}, tt.err }})
			got := a.send("POST", "/deposits", deposit("1"), "X-Request-Id", "req-1")
			code, errs := got.problem(t)
			if got.status != tt.status || code != tt.code || got.header.Get("Retry-After") != tt.retryAfter {
				t.Errorf("%d %s %v", got.status, got.text, got.header)
			}
			if _, named := errs[tt.field]; tt.field != "" && !named {
				t.Errorf("%s does not name %s", got.text, tt.field)
			}
			if got.json(t)["request_id"] != "req-1" {
				t.Errorf("%s has another request id", got.text)
			}
			if strings.Contains(got.text, "10.0.0.1") {
				t.Errorf("%s says where the database is", got.text)
			}
			if tt.status == 500 && (strings.Contains(got.text, "secret") || !strings.Contains(a.log.String(), "secret cause")) {
				t.Errorf("the cause belongs in the log only: %s, %s", got.text, a.log)
			}
		})
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for value, want := range map[string][]int64{
		`"3"`: {3}, `"0"`: {0}, `"9223372036854775807"`: {9223372036854775807}, `"3", "4"`: {3, 4}, `"3",W/"5" , "x"`: {3},
	} {
		got := a.send("POST", "/deposits", deposit("1"), "If-Match", value)
		if r, _ := s.last(); got.status != http.StatusCreated || !slices.Equal(r.IfVersions, want) {
			t.Errorf("%s: %d %+v", value, got.status, r)
		}
	}
	a.send("POST", "/deposits", deposit("1"), "If-Match", "*")
	if r, _ := s.last(); r.IfVersions != nil {
		t.Errorf("*: %v", r.IfVersions)
	}
	for _, never := range []string{`W/"3"`, `"x"`, `""`, `"03"`, `"-1"`, `"9223372036854775808"`, `"+3"`, `W/"3", "x"`} {
		got := a.send("POST", "/deposits", deposit("1"), "If-Match", never)
		if r, _ := s.last(); got.status != http.StatusCreated || r.IfVersions == nil || len(r.IfVersions) != 0 {
			t.Errorf("%s: %d %+v", never, got.status, r)
		}
	}
	for _, bad := range []string{`3`, `"`, `"3`, `"3" "4"`, `*, "3"`, `,`, `w/"3"`} {
		got := a.send("POST", "/deposits", deposit("1"), "If-Match", bad)
		if _, errs := got.problem(t); got.status != http.StatusBadRequest || errs["If-Match"] == "" {
			t.Errorf("%s: %d %s", bad, got.status, got.text)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct {
		headers []string
		want    command.Metadata
	}{
		{[]string{"X-Request-Id", "r"}, command.Metadata{CorrelationID: "r"}},
		{[]string{"X-Request-Id", "r", "X-Correlation-Id", "c", "X-Causation-Id", "cause", "Traceparent", trace}, command.Metadata{
			CorrelationID: "c", CausationID: "cause", Traceparent: trace,
		}},
		{
			[]string{"X-Request-Id", "r", "X-Correlation-Id", "a b", "X-Causation-Id", strings.Repeat("x", 129), "Traceparent", "00-0"},
			command.Metadata{CorrelationID: "r"},
		},
	} {
		got := a.send("POST", "/deposits", deposit("1"), tt.headers...)
		if r, _ := s.last(); r.Metadata != tt.want || got.header.Get("X-Request-Id") != "r" {
			t.Errorf("%v: %+v", tt.headers, r.Metadata)
		}
	}
	got := a.send("POST", "/deposits", deposit("1"), "X-Request-Id", "a b")
	r, _ := s.last()
	if id := got.header.Get("X-Request-Id"); id == "a b" || r.Metadata.CorrelationID != id {
		t.Errorf("%q, %+v", id, r.Metadata)
	}
}

// A body of unknown length is bounded as it is read. This test uses no network: a server that responds before it has read
// everything may reset the connection while the client writes.
func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, tt := range []struct {
		name   string
		body   io.Reader
		status int
		code   string
	}{
		{"good", strings.NewReader(deposit("1")), 201, ""},
		{"too large", strings.NewReader(bigBody), 413, "body-too-large"},
		{"endless", endless{}, 413, "body-too-large"},
		{"empty", strings.NewReader(""), 400, "invalid-json"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/deposits", struct{ io.Reader }{tt.body})
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		got := answer{w.Code, w.Header(), w.Body.String()}
		if code, _ := got.json(t)["code"].(string); got.status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s", tt.name, got.status, got.text)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A truncated body is a client error, and its command is not applied.
func TestTruncatedBody(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST /deposits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"+
		deposit("1"))
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		t.Fatal("cannot half-close")
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), "unreadable-body") {
		t.Errorf("%s, %v", answer, err)
	}
	if r, reached := s.last(); reached {
		t.Errorf("half a body reached the write side: %+v", r)
	}
}
