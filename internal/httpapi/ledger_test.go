package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/money"
)

var (
	ofAccount = "/accounts/" + accountID.String()
	ofHold    = ofAccount + "/holds/" + holdID.String()
)

func decimalOf(t *testing.T, text string) *money.Decimal {
	t.Helper()
	d, err := money.ParseDecimal(text)
	if err != nil {
		t.Fatal(err)
	}
	return &d
}

// ledgerCommands returns the commands on holds, reversals and changes, and those with metadata: as a request and as an item.
func ledgerCommands(t *testing.T) []ledgerCommand {
	t.Helper()
	text := func(s string) *string { return &s }
	red := account.NewMetadata(map[string]string{"colour": "red"})
	const id, event = `"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"`, `"event_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e40"`
	const begin = id + `,` + event
	const hold = `"hold_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e42"`
	const other = `"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"`
	const at = `"recorded_at":"2026-01-02T14:04:05.120000Z"`
	inAccount, inHold := fmt.Sprintf(`"account_id":%q`, accountID), fmt.Sprintf(`"account_id":%q,"hold_id":%q`, accountID, holdID)
	whole := account.PlaceHold{
		HoldID: holdID, Amount: *decimalOf(t, "12.50"), Currency: eur, Reference: "room", Metadata: red,
		ExpiresAt: time.Date(2030, 1, 2, 14, 4, 5, 123_456_000, time.UTC),
	}
	return []ledgerCommand{
		{
			"open", "POST", "/accounts", "", `{` + inAccount + `,"owner":"Ada","currency":"EUR","initial_deposit":"12.50","metadata":{"colour":"red"}}`,
			account.Open{Owner: "Ada", Currency: eur, InitialDeposit: decimalOf(t, "12.50"), Metadata: red},
			accountID, 201, 4, ofAccount,
			`{` + begin + `,"position":8,` + at + `,"type":"AccountCreated","version":4}`,
		},
		{
			"deposit", "POST", "/deposits", "", `{` + inAccount + `,"amount":"12.50","metadata":{"colour":"red"}}`,
			account.Deposit{Amount: *decimalOf(t, "12.50"), Metadata: red},
			accountID, 201, 3, "",
			`{` + begin + `,"position":7,` + at + `,"type":"MoneyDeposited","version":3}`,
		},
		{
			"withdraw", "POST", "/withdrawals", "", `{` + inAccount + `,"amount":"12.50","metadata":{}}`,
			account.Withdraw{Amount: *decimalOf(t, "12.50")},
			accountID, 201, 3, "",
			`{` + begin + `,"position":7,` + at + `,"type":"MoneyWithdrawn","version":3}`,
		},
		{
			"change", "PATCH", ofAccount, inAccount, `{"owner":"Ada","overdraft_limit":1.00,"metadata":{"colour":"red","size":null}}`,
			account.Change{Owner: text("Ada"), OverdraftLimit: decimalOf(t, "1.00"), Metadata: map[string]*string{"colour": text("red"), "size": nil}},
			accountID, 200, 4, "", `{` + begin + `,"position":8,` + at + `,"type":"OwnerChanged","version":4}`,
		},
		{
			"change", "PATCH", ofAccount, inAccount, `{"metadata":null}`,
			account.Change{ClearMetadata: true},
			accountID, 200, 4, "",
			`{` + begin + `,"position":8,` + at + `,"type":"OwnerChanged","version":4}`,
		},
		{
			"hold", "POST", ofAccount + "/holds", inAccount, `{"amount":"12.50","currency":"EUR","reference":"room",` + hold +
				`,"expires_at":"2030-01-02t15:04:05.1234567+01:00","metadata":{"colour":"red"}}`,
			whole, accountID, 201, 3, ofHold, `{` + begin + `,` + hold + `,"position":7,` + at + `,"type":"HoldPlaced","version":3}`,
		},
		{
			"hold", "POST", ofAccount + "/holds", inAccount, `{"amount":1}`,
			account.PlaceHold{Amount: *decimalOf(t, "1")},
			accountID, 201, 3, ofHold,
			`{` + begin + `,` + hold + `,"position":7,` + at + `,"type":"HoldPlaced","version":3}`,
		},
		{
			"capture", "POST", ofHold + "/capture", inHold, `{}`,
			account.CaptureHold{HoldID: holdID},
			accountID, 200, 4, "",
			`{` + id + `,"captured_amount":"12.50",` + event + `,` + hold + `,"position":8,` + at + `,"released_amount":"0.50","type":"HoldCaptured","version":4}`,
		},
		{
			"capture", "POST", ofHold + "/capture", inHold, `{"amount":"12.5","to_account_id":"` + eventID.String() + `","reference":"r"}`,
			account.CaptureHold{HoldID: holdID, Amount: decimalOf(t, "12.5"), To: eventID, Reference: "r"},
			accountID, 200, 4, "",
			`{` + id + `,"captured_amount":"12.50",` + event + `,` + hold + `,"position":9,` + at +
				`,"released_amount":"0.50","transfer_id":` + other + `,"type":"HoldCaptured","version":4}`,
		},
		{
			"release", "POST", ofHold + "/release", inHold, `{"reason":"gone"}`,
			account.ReleaseHold{HoldID: holdID, Reason: "gone"},
			accountID, 200, 3, "",
			`{` + begin + `,` + hold + `,"position":7,` + at + `,"type":"HoldReleased","version":3}`,
		},
		{
			"reverse", "POST", "/reversals", "", `{"position":5}`,
			account.Reverse{Position: 5},
			uuid.Nil, 201, 3, "",
			`{` + id + `,"amount":"12.50",` + event + `,"position":7,` + at + `,"reversal_id":` + other + `,"reversed_position":5,"type":"DebitReversed","version":3}`,
		},
		{
			"reverse", "POST", "/reversals", "", `{"position":5,"amount":"12.50","reason":"twice","force":true}`,
			account.Reverse{Position: 5, Amount: decimalOf(t, "12.50"), Reason: "twice", Force: true},
			uuid.Nil, 201, 3, "",
			`{` + id + `,"amount":"12.50",` + event + `,"position":8,` + at + `,"reversal_id":` + other +
				`,"reversed_position":5,"transfer_id":"` + holdID.String() + `","type":"CreditReversed","version":3}`,
		},
	}
}

type ledgerCommand struct {
	name, method, path string
	// named has the members of an item of POST /commands for the ids in the path.
	named, body string
	command     account.Command
	accountID   uuid.UUID
	status      int
	version     int
	location    string
	receipt     string
}

// item returns the command as an item of POST /commands.
func (c *ledgerCommand) item() string {
	item := fmt.Sprintf(`{"command":%q`, c.name)
	for _, members := range []string{c.named, c.body[1 : len(c.body)-1]} {
		if members != "" {
			item += "," + members
		}
	}
	return item + "}"
}

func TestLedgerCommands(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for _, c := range ledgerCommands(t) {
		got := a.send(c.method, c.path, c.body, "If-Match", map[bool]string{true: "", false: `"2"`}[c.name == "open"])
		if got.status != c.status || got.text != c.receipt {
			t.Errorf("%s %s: %d %s, want %s", c.path, c.body, got.status, got.text, c.receipt)
		}
		if tag, path := got.header.Get("ETag"), got.header.Get("Location"); tag != fmt.Sprintf("%q", fmt.Sprint(c.version)) || path != c.location {
			t.Errorf("%s %s: ETag %s, Location %s", c.path, c.body, tag, path)
		}
		r, _ := s.last()
		if !reflect.DeepEqual(r.Command, c.command) || r.AccountID != c.accountID || r.DryRun || (c.name != "open") != (len(r.IfVersions) == 1) {
			t.Errorf("%s %s: %+v, want %+v", c.path, c.body, r, c.command)
		}
	}
}

func TestLedgerCommandsInBulk(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for _, c := range ledgerCommands(t) {
		for _, query := range []string{"", "?atomic=true"} {
			_, results := a.bulk("application/x-ndjson", query, c.item(), "Idempotency-Key", "k")
			var want map[string]any
			if err := json.Unmarshal([]byte(c.receipt), &want); err != nil {
				t.Fatal(err)
			}
			want["status"] = float64(c.status)
			if len(results) != 1 || !reflect.DeepEqual(results[0], want) {
				t.Errorf("%s: %v, want %v", c.item(), results, want)
			}
			if r, _ := s.last(); !reflect.DeepEqual(r.Command, c.command) || r.AccountID != c.accountID || r.Key == nil {
				t.Errorf("%s: %+v, want %+v", c.item(), r, c.command)
			}
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	for _, c := range ledgerCommands(t) {
		got := a.send(c.method, c.path+"?dry_run=true", c.body, "Idempotency-Key", "k")
		r, _ := s.last()
		body := got.json(t)
		if got.status != http.StatusOK || !r.DryRun || r.Key != nil || !reflect.DeepEqual(r.Command, c.command) {
			t.Errorf("%s: %d %s, %+v", c.path, got.status, got.text, r)
		}
		if body["dry_run"] != true || body["balance"] != "20.00" || body["available"] != "12.50" || body["version"] != float64(c.version) {
			t.Errorf("%s: %s", c.path, got.text)
		}
		if got.header.Get("ETag") != "" || got.header.Get("Location") != "" || got.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %v", c.path, got.header)
		}
		for _, query := range []string{"?dry_run=true", "?dry_run=true&atomic=true"} {
			_, results := a.bulk("application/json", query, "["+c.item()+"]", "Idempotency-Key", "k")
			if r, _ := s.last(); !r.DryRun || r.Key != nil {
				t.Errorf("%s: %+v", c.item(), r)
			}
			body["status"] = 200.0
			if len(results) != 1 || !reflect.DeepEqual(results[0], body) {
				t.Errorf("%s: %v, want %v", c.item(), results, body)
			}
		}
	}
	got := a.send("POST", ofHold+"/capture?dry_run=true", `{"amount":"12.50"}`)
	const want = `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","available":"12.50","balance":"20.00","currency":"EUR","dry_run":true,` +
		`"events":[{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","data":{"hold_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e42",` +
		`"amount":"12.50","currency":"EUR","released":"0.50"},"type":"HoldCaptured","version":3},` +
		`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","data":{"amount":"12.50","currency":"EUR"},"type":"MoneyWithdrawn","version":4}],"version":4}`
	if got.text != want {
		t.Errorf("got  %s\nwant %s", got.text, want)
	}
	if got := a.send("POST", "/deposits?dry_run=yes", deposit("1")); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestBadLedgerCommandsNameTheField(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	many := strings.TrimSuffix(strings.Repeat(`"k%d":"",`, 17), ",")
	for i := range 17 {
		many = strings.Replace(many, "%d", fmt.Sprint(i), 1)
	}
	for _, tt := range []struct {
		method, path, body string
		want               []string
	}{
		{"POST", "/deposits", deposit(`1,"metadata":{"a":null,"b":1,"c":{},"d":"x"}`), []string{"/metadata/a", "/metadata/b", "/metadata/c"}},
		{"POST", "/deposits", deposit(`1,"metadata":null`), []string{"/metadata"}},
		{"POST", "/deposits", deposit(`1,"metadata":[]`), []string{"/metadata"}},
		{"POST", "/deposits", deposit(`1,"metadata":{"":"x"}`), []string{"/metadata"}},
		{"POST", "/deposits", deposit(`1,"metadata":{"` + strings.Repeat("é", 41) + `":"x"}`), []string{"/metadata/" + strings.Repeat("é", 41)}},
		{"POST", "/deposits", deposit(`1,"metadata":{"` + strings.Repeat("k", 4000) + `":"x"}`), []string{"/metadata"}},
		{"POST", "/deposits", deposit(`1,"metadata":{"k":"` + strings.Repeat("x", 501) + `","n":"\u0000"}`), []string{"/metadata/k", "/metadata/n"}},
		{"POST", "/deposits", deposit(`1,"metadata":{"a\u0000":"x"}`), []string{"/metadata/a\x00"}},
		{"POST", "/deposits", deposit(`1,"metadata":{` + many + `}`), []string{"/metadata"}},
		{"POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":-1,"metadata":{"a":null}}`, []string{"/initial_deposit", "/metadata/a"}},
		{"PATCH", ofAccount, `{"owner":null,"overdraft_limit":null}`, []string{"/owner", "/overdraft_limit"}},
		{"PATCH", ofAccount, `{"owner":"","overdraft_limit":"-1","metadata":"x","currency":"EUR"}`, []string{"/owner", "/overdraft_limit", "/metadata", "/currency"}},
		{"PATCH", ofAccount, `{"metadata":{"a":1,"b":null,"":null}}`, []string{"/metadata/a", "/metadata"}},
		{"PATCH", ofAccount, `[]`, []string{""}},
		{"PATCH", ofAccount, `null`, []string{""}},
		{"POST", ofAccount + "/holds", `{}`, []string{"/amount"}},
		{"POST", ofAccount + "/holds", `{"amount":"0x","account_id":"x","hold_id":"x","expires_at":"tomorrow","currency":"XXX"}`, []string{
			"/amount", "/account_id", "/hold_id", "/expires_at", "/currency",
		}},
		{"POST", ofAccount + "/holds", `{"amount":1,"expires_at":null}`, []string{"/expires_at"}},
		{"POST", ofAccount + "/holds", `{"amount":1,"expires_at":"9999-12-31T23:59:59-01:00"}`, []string{"/expires_at"}},
		{"POST", ofAccount + "/holds", `{"amount":1,"expires_at":"0001-01-01T00:00:00Z"}`, []string{"/expires_at"}},
		{"POST", ofAccount + "/holds", `{"amount":1,"hold_id":"00000000-0000-0000-0000-000000000000"}`, []string{"/hold_id"}},
		{"POST", ofHold + "/capture", `{"amount":-1,"to_account_id":"","hold_id":1}`, []string{"/amount", "/to_account_id", "/hold_id"}},
		{"POST", ofHold + "/release", `{"reason":1,"amount":1}`, []string{"/reason", "/amount"}},
		{"POST", "/reversals", `{}`, []string{"/position"}},
		{"POST", "/reversals", `{"position":0,"force":1,"amount":"-1","account_id":"x"}`, []string{"/position", "/force", "/amount", "/account_id"}},
		{"POST", "/reversals", `{"position":1.5}`, []string{"/position"}},
		{"POST", "/reversals", `{"position":"5"}`, []string{"/position"}},
		{"POST", "/reversals", `{"position":5e0}`, []string{"/position"}},
		{"POST", "/reversals", `{"position":92233720368547758080}`, []string{"/position"}},
		{"POST", "/commands?atomic=true", `[{"command":"capture"}]`, nil},
	} {
		got := a.send(tt.method, tt.path, tt.body)
		if tt.want == nil {
			if !strings.Contains(got.text, `"/account_id"`) || !strings.Contains(got.text, `"/hold_id"`) {
				t.Errorf("%s: %s", tt.body, got.text)
			}
			continue
		}
		code, errs := got.problem(t)
		if got.status != http.StatusUnprocessableEntity || code != "invalid-body" || len(errs) != len(tt.want) {
			t.Errorf("%s %.80s: %d %s", tt.path, tt.body, got.status, got.text)
		}
		for _, pointer := range tt.want {
			if _, named := errs[pointer]; !named {
				t.Errorf("%s %.80s: %s does not name %s", tt.path, tt.body, got.text, pointer)
			}
		}
	}
	if r, reached := s.last(); reached {
		t.Errorf("a bad body reached the write side: %#v", r)
	}
}

func TestMediaTypesOfAPatch(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for mediaType, want := range map[string]int{
		"application/json": 200, "application/merge-patch+json": 200, "Application/Merge-Patch+JSON; charset=UTF-8": 200,
		"application/json-patch+json": 415, "text/plain": 415,
	} {
		if got := a.send("PATCH", ofAccount, `{"owner":"Ada"}`, "Content-Type", mediaType); got.status != want {
			t.Errorf("%s: %d %s", mediaType, got.status, got.text)
		}
	}
	if got := a.send("POST", "/deposits", deposit("1"), "Content-Type", "application/merge-patch+json"); got.status != 415 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// The caller chooses the keys of metadata: what looks like an amount there is text, and a different text makes a different
// request.
func TestMetadataInFingerprints(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	of := func(metadata string) [16]byte {
		t.Helper()
		if got := a.send("POST", "/deposits", deposit(`1,"metadata":`+metadata), "Idempotency-Key", "k"); got.status != http.StatusCreated {
			t.Fatalf("%s: %s", metadata, got.text)
		}
		r, _ := s.last()
		return r.Key.Fingerprint
	}
	if of(`{"a":"1","b":"2"}`) != of(` { "b" : "2" , "\u0061" : "1" } `) {
		t.Error("the same metadata is another request")
	}
	if of(`{"amount":"1.0"}`) == of(`{"amount":"1"}`) {
		t.Error("other metadata is the same request")
	}
}

func TestLedgerRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
		field  string
	}{
		{account.ErrHoldExists, 409, "hold-exists", ""},
		{account.ErrHoldNotFound, 404, "hold-not-found", ""},
		{account.ErrMovementNotFound, 404, "movement-not-found", "/position"},
		{&account.Refusal{Code: account.CodeHoldNotOpen, Detail: "the hold was captured"}, 422, "hold-not-open", ""},
		{&account.Refusal{Code: account.CodeExpiryInPast, Field: account.FieldExpiresAt, Detail: "x"}, 422, "expiry-in-past", "/expires_at"},
		{&account.Refusal{Code: account.CodeAlreadyReversed, Field: account.FieldPosition, Detail: "x"}, 422, "already-reversed", "/position"},
		{&command.VersionError{Have: 4, Want: []int64{3}}, 412, "version-mismatch", "If-Match"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			var stored []byte
			a := serve(t, &service{do: func(r command.Request) (command.Result, error) {
				if stored != nil {
					return command.Result{}, &command.RefusedBeforeError{Answer: stored}
				}
				stored = r.Key.Refusal(tt.err)
				return command.Result{}, tt.err
			}})
			first := a.send("POST", ofHold+"/capture", "", "Idempotency-Key", "k")
			code, errs := first.problem(t)
			if first.status != tt.status || code != tt.code || (len(errs) == 1) != (tt.field != "") {
				t.Errorf("%d %s", first.status, first.text)
			}
			if _, named := errs[tt.field]; tt.field != "" && !named {
				t.Errorf("%s does not name %s", first.text, tt.field)
			}
			again := a.send("POST", ofHold+"/capture", "", "Idempotency-Key", "k")
			if again.status != first.status || again.text != first.text || again.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%d %s, then %d %s", first.status, first.text, again.status, again.text)
			}
		})
	}
}
