package httpapi_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/money"
)

// ledger decides commands on accounts in memory, like the write side. It appends nothing.
type ledger struct {
	t        *testing.T
	log      []account.Entry
	states   map[uuid.UUID]account.State
	versions map[uuid.UUID]int64
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	return &ledger{t: t, states: make(map[uuid.UUID]account.State), versions: make(map[uuid.UUID]int64)}
}

func (l *ledger) add(id uuid.UUID, events ...account.Event) {
	l.t.Helper()
	for _, e := range events {
		l.log = append(l.log, account.Entry{AccountID: id, Event: e})
		state, err := account.Evolve(l.states[id], e)
		if err != nil {
			l.t.Fatal(err)
		}
		l.states[id] = state
		l.versions[id]++
	}
}

func (l *ledger) do(r command.Request) (command.Result, error) {
	if r.Key != nil {
		return command.Result{}, command.ErrKeyReused
	}
	index := account.NewIndex()
	index.Head, index.First = 9999, 10000 // what is not in l.log, up to there, is in the archive
	index.Want(r.Command)
	for i, e := range l.log {
		index.Add(int64(i+1), e.AccountID, e.Event)
	}
	id, _ := index.Accounts(r.AccountID, r.Command)
	if r.IfVersions != nil && !slices.Contains(r.IfVersions, l.versions[id]) {
		if l.versions[id] == 0 {
			return command.Result{}, account.MissingError(id, r.Command)
		}
		return command.Result{}, &command.VersionError{Have: l.versions[id], Want: r.IfVersions}
	}
	c, err := index.Complete(id, r.Command, uuid.New)
	if err != nil {
		return command.Result{}, err
	}
	if _, err = account.Decide(moment, id, c, func(id uuid.UUID) account.State { return l.states[id] }); err != nil {
		return command.Result{}, err
	}
	return command.Result{}, errors.New("the command is not refused")
}

// TestRefusalsNameTheField sends commands that are refused, each on its own route and as an item of POST /commands, and expects
// the problem to point to the member of the body, or the header, at fault. Ids in the path get no pointer.
func TestRefusalsNameTheField(t *testing.T) {
	t.Parallel()
	id := func(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("0190a0d2-7c4e-7b1c-9a53-%012d", n)) }
	usd, _ := money.LookupCurrency("USD")
	cents := func(n int64) money.Amount { return money.New(n, eur) }
	ada, foreign, suspended, closed, full, many, empty, forgotten, missing := id(1), id(2), id(3), id(4), id(5), id(6), id(7), id(8), id(9)
	held, released, expired, transfer := id(11), id(12), id(13), id(14)
	l := newLedger(t)
	created := account.AccountCreated{Owner: "Ada", Currency: eur}
	l.add(ada, created, account.MoneyDeposited{Amount: cents(100_00)}, account.HoldPlaced{HoldID: held, Amount: cents(10_00)},
		account.HoldPlaced{HoldID: released, Amount: cents(1)}, account.HoldReleased{HoldID: released, Amount: cents(1)},
		account.HoldPlaced{HoldID: expired, Amount: cents(1), ExpiresAt: moment.Add(-time.Second)})
	const deposited, sentToClosed, reversed = 2, 7, 9
	l.add(ada, account.TransferSent{TransferID: transfer, To: closed, Amount: cents(1)})
	l.add(closed, created) // at 8, out of order with the transfer, which does not matter here
	l.add(ada, account.MoneyDeposited{Amount: cents(1)}, account.CreditReversed{
		Reversal: account.Reversal{ReversalID: id(15), ReversedPosition: reversed, Amount: cents(1)},
	})
	l.add(closed, account.AccountClosed{})
	l.add(foreign, account.AccountCreated{Owner: "Ada", Currency: usd})
	l.add(suspended, created, account.AccountSuspended{})
	l.add(full, created, account.MoneyDeposited{Amount: cents(math.MaxInt64)})
	l.add(many, created, account.MoneyDeposited{Amount: cents(100_00)})
	for i := range account.MaxHolds {
		l.add(many, account.HoldPlaced{HoldID: id(1000 + i), Amount: cents(1)})
	}
	l.add(empty, account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: 100_00}, account.HoldPlaced{HoldID: id(16), Amount: cents(50_00)})
	l.add(forgotten, created, account.SubjectErased{SubjectID: forgotten})
	a := serve(t, &service{do: l.do})

	of := func(id uuid.UUID) string { return "/accounts/" + id.String() }
	ofHold := func(account, hold uuid.UUID, what string) string {
		return of(account) + "/holds/" + hold.String() + what
	}
	member := func(name string, id uuid.UUID) string { return fmt.Sprintf("%q:%q", name, id) }
	own := func(id uuid.UUID) string { return member("account_id", id) }
	both := func(account, hold uuid.UUID) string { return own(account) + "," + member("hold_id", hold) }
	sides := func(from, to uuid.UUID) string {
		return member("from_account_id", from) + "," + member("to_account_id", to)
	}
	codes := make(map[string]bool)
	for _, tt := range []struct {
		command, method, path string
		// inPath has the members of an item for the ids in the path.
		inPath, body string
		code, field  string
	}{
		{"open", "POST", "/accounts", "", own(ada) + `,"owner":"x","currency":"EUR"`, "account-exists", "account_id"},
		{"open", "POST", "/accounts", "", `"owner":"   ","currency":"EUR"`, "text-empty", "owner"},
		{"open", "POST", "/accounts", "", `"owner":"x","currency":"EUR","initial_deposit":0`, "amount-zero", "initial_deposit"},
		{"open", "POST", "/accounts", "", `"owner":"x","currency":"EUR","overdraft_limit":"0.001"`, "amount-too-precise", "overdraft_limit"},

		{"deposit", "POST", "/deposits", "", own(missing) + `,"amount":1`, "account-not-found", "account_id"},
		{"withdraw", "POST", "/withdrawals", "", own(missing) + `,"amount":1`, "account-not-found", "account_id"},
		{"deposit", "POST", "/deposits", "", own(suspended) + `,"amount":1`, "account-suspended", "account_id"},
		{"withdraw", "POST", "/withdrawals", "", own(closed) + `,"amount":1`, "account-closed", "account_id"},
		{"deposit", "POST", "/deposits", "", own(ada) + `,"amount":1,"currency":"USD"`, "currency-mismatch", "currency"},
		{"deposit", "POST", "/deposits", "", own(ada) + `,"amount":"0.001"`, "amount-too-precise", "amount"},
		{"deposit", "POST", "/deposits", "", own(ada) + `,"amount":"9223372036854775807"`, "amount-overflow", "amount"},
		{"deposit", "POST", "/deposits", "", own(full) + `,"amount":1`, "balance-overflow", "amount"},
		{"withdraw", "POST", "/withdrawals", "", own(ada) + `,"amount":"1000"`, "insufficient-funds", "amount"},

		{"transfer", "POST", "/transfers", "", sides(missing, ada) + `,"amount":1`, "account-not-found", "from_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, missing) + `,"amount":1`, "account-not-found", "to_account_id"},
		{"transfer", "POST", "/transfers", "", sides(missing, id(8)) + `,"amount":1`, "account-not-found", "from_account_id"},
		{"transfer", "POST", "/transfers", "", sides(suspended, ada) + `,"amount":1`, "account-suspended", "from_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, suspended) + `,"amount":1`, "account-suspended", "to_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, closed) + `,"amount":1`, "account-closed", "to_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, foreign) + `,"amount":1`, "currency-mismatch", "to_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, ada) + `,"amount":1`, "same-account", "to_account_id"},
		{"transfer", "POST", "/transfers", "", sides(ada, full) + `,"amount":1`, "balance-overflow", "amount"},
		{
			"transfer", "POST", "/transfers", "", sides(ada, full) + `,"amount":1,` + member("transfer_id", transfer),
			"transfer-exists", "transfer_id",
		},

		{"suspend", "POST", of(missing) + "/suspend", own(missing), "", "account-not-found", "account_id"},
		{"suspend", "POST", of(suspended) + "/suspend", own(suspended), "", "account-suspended", "account_id"},
		{"suspend", "POST", of(closed) + "/suspend", own(closed), "", "account-closed", "account_id"},
		{"reactivate", "POST", of(ada) + "/reactivate", own(ada), "", "account-not-suspended", "account_id"},
		{"reactivate", "POST", of(closed) + "/reactivate", own(closed), "", "account-closed", "account_id"},
		{"close", "POST", of(full) + "/close", own(full), "", "balance-not-zero", "account_id"},
		{"close", "POST", of(empty) + "/close", own(empty), "", "holds-open", "account_id"},
		{"close", "POST", of(closed) + "/close", own(closed), "", "account-closed", "account_id"},
		{"change", "PATCH", of(missing), own(missing), `"owner":"x"`, "account-not-found", "account_id"},
		{"change", "PATCH", of(closed), own(closed), `"owner":"x"`, "account-closed", "account_id"},
		{"change", "PATCH", of(forgotten), own(forgotten), `"owner":"x"`, "account-erased", "account_id"},
		{"change", "PATCH", of(ada), own(ada), `"owner":" "`, "text-empty", "owner"},
		{"change", "PATCH", of(full), own(full), `"overdraft_limit":"1"`, "balance-overflow", "overdraft_limit"},
		{"change", "PATCH", of(empty), own(empty), `"overdraft_limit":"1"`, "limit-below-debit", "overdraft_limit"},
		{"change", "PATCH", of(ada), own(ada), ``, "nothing-to-change", ""},

		{"hold", "POST", of(missing) + "/holds", own(missing), `"amount":1`, "account-not-found", "account_id"},
		{"hold", "POST", of(suspended) + "/holds", own(suspended), `"amount":1`, "account-suspended", "account_id"},
		{"hold", "POST", of(many) + "/holds", own(many), `"amount":1`, "too-many-holds", "account_id"},
		{"hold", "POST", of(ada) + "/holds", own(ada), `"amount":1,` + member("hold_id", held), "hold-exists", "hold_id"},
		{"hold", "POST", of(full) + "/holds", own(full), `"amount":1,` + member("hold_id", released), "hold-exists", "hold_id"},
		{"hold", "POST", of(ada) + "/holds", own(ada), `"amount":1,"expires_at":"2000-01-01T00:00:00Z"`, "expiry-in-past", "expires_at"},
		{"hold", "POST", of(ada) + "/holds", own(ada), `"amount":"1000"`, "insufficient-funds", "amount"},
		{"capture", "POST", ofHold(missing, held, "/capture"), both(missing, held), ``, "account-not-found", "account_id"},
		{"capture", "POST", ofHold(ada, missing, "/capture"), both(ada, missing), ``, "hold-not-found", "hold_id"},
		{"capture", "POST", ofHold(ada, released, "/capture"), both(ada, released), ``, "hold-not-open", "hold_id"},
		{"capture", "POST", ofHold(ada, expired, "/capture"), both(ada, expired), ``, "hold-expired", "hold_id"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), `"amount":11`, "amount-above-hold", "amount"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), member("to_account_id", missing), "account-not-found", "to_account_id"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), member("to_account_id", suspended), "account-suspended", "to_account_id"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), member("to_account_id", closed), "account-closed", "to_account_id"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), member("to_account_id", foreign), "currency-mismatch", "to_account_id"},
		{"capture", "POST", ofHold(ada, held, "/capture"), both(ada, held), member("to_account_id", ada), "same-account", "to_account_id"},
		{"capture", "POST", ofHold(suspended, held, "/capture"), both(suspended, held), ``, "account-suspended", "account_id"},
		{"release", "POST", ofHold(missing, held, "/release"), both(missing, held), ``, "account-not-found", "account_id"},
		{"release", "POST", ofHold(ada, missing, "/release"), both(ada, missing), ``, "hold-not-found", "hold_id"},
		{"release", "POST", ofHold(ada, released, "/release"), both(ada, released), ``, "hold-not-open", "hold_id"},

		{"reverse", "POST", "/reversals", "", `"position":100000`, "movement-not-found", "position"},
		{"reverse", "POST", "/reversals", "", `"position":9999`, "movement-archived", "position"},
		{"reverse", "POST", "/reversals", "", `"position":1`, "not-reversible", "position"},
		{"reverse", "POST", "/reversals", "", fmt.Sprintf(`"position":%d`, reversed), "already-reversed", "position"},
		{"reverse", "POST", "/reversals", "", fmt.Sprintf(`"position":%d`, sentToClosed), "account-closed", "position"},
		{"reverse", "POST", "/reversals", "", fmt.Sprintf(`"position":%d,"amount":1000`, deposited), "amount-above-movement", "amount"},
		{"reverse", "POST", "/reversals", "", fmt.Sprintf(`"position":%d`, deposited), "insufficient-funds", "amount"},
	} {
		codes[tt.code] = true
		pointer := map[bool]string{true: "/" + tt.field}[tt.field != ""]
		onRoute := pointer
		if strings.Contains(tt.inPath, fmt.Sprintf("%q", tt.field)) {
			onRoute = ""
		}
		got := a.send(tt.method, tt.path, "{"+tt.body+"}")
		code, errs := got.problem(t)
		if code != tt.code || len(errs) > 1 || onRoute != "" != (errs[onRoute] != "") || onRoute == "" && len(errs) > 0 {
			t.Errorf("%s {%s}: want %s of %q, got %s", tt.path, tt.body, tt.code, onRoute, got.text)
		}
		members := slices.DeleteFunc([]string{fmt.Sprintf(`"command":%q`, tt.command), tt.inPath, tt.body}, func(s string) bool { return s == "" })
		for _, query := range []string{"", "?atomic=true"} {
			item := "{" + strings.Join(members, ",") + "}"
			_, results := a.bulk("application/x-ndjson", query, item)
			if got := pointersOf(results[0]); results[0]["code"] != tt.code || !slices.Equal(got, slices.DeleteFunc([]string{pointer}, func(s string) bool { return s == "" })) {
				t.Errorf("%s: want %s of %q, got %v", item, tt.code, pointer, results[0])
			}
		}
	}
	wantAllCodes(t, codes)

	for _, tt := range []struct{ header, value, member, code string }{
		{"If-Match", `"99"`, `"if_version":99`, "version-mismatch"},
		{"Idempotency-Key", `k`, `"idempotency_key":"k"`, "idempotency-key-reused"},
	} {
		body := own(ada) + `,"amount":1`
		got := a.send("POST", "/deposits", "{"+body+"}", tt.header, tt.value)
		if code, errs := got.problem(t); code != tt.code || errs[tt.header] == "" {
			t.Errorf("%s is not named: %s", tt.header, got.text)
		}
		_, results := a.bulk("application/x-ndjson", "", `{"command":"deposit",`+body+","+tt.member+"}")
		name, _, _ := strings.Cut(strings.Trim(tt.member, `"`), `"`)
		if got := pointersOf(results[0]); results[0]["code"] != tt.code || !slices.Equal(got, []string{"/" + name}) {
			t.Errorf("%s is not named: %v", tt.member, results[0])
		}
	}
	_, results := a.bulk("application/x-ndjson", "", `{"command":"deposit",`+own(ada)+`,"amount":1}`, "Idempotency-Key", "k")
	if got := pointersOf(results[0]); !slices.Equal(got, []string{"Idempotency-Key"}) {
		t.Errorf("Idempotency-Key is not named: %v", results[0])
	}
}

// pointersOf returns the pointers of the errors of a problem.
func pointersOf(problem map[string]any) (pointers []string) {
	errs, _ := problem["errors"].([]any)
	for _, e := range errs {
		e, _ := e.(map[string]any)
		for _, where := range []string{"pointer", "parameter", "header"} {
			if text, ok := e[where].(string); ok {
				pointers = append(pointers, text)
			}
		}
	}
	return pointers
}

// wantAllCodes fails for codes of refusals that were not seen, except those that no request gets.
func wantAllCodes(t *testing.T, seen map[string]bool) {
	t.Helper()
	for _, code := range []string{
		"text-too-long", "text-invalid", "metadata-too-large", "currency-unknown", "expiry-too-late", // invalid-body
		"hold-not-expired", // only the service itself sends the command
	} {
		seen[code] = true
	}
	source, err := os.ReadFile("../account/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`Code\w+ += "(.+)"`).FindAllSubmatch(source, -1)
	if len(declared) == 0 {
		t.Fatal("no codes are declared")
	}
	for _, d := range declared {
		if !seen[string(d[1])] {
			t.Errorf("no case is refused with %s", d[1])
		}
	}
}
