package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
)

// commandKind is what the API knows of one kind of command: on the route of its own, and as an item of POST /commands.
type commandKind struct {
	// name is that of package account.
	name string
	// status is that of a success.
	status int
	// schema is of the body on the command's route, item of its fields in POST /commands. They differ where the route
	// names the account by its path.
	schema, item *openapi3.Schema
	needsBody    bool
	// opens says that the command makes the account, so that its answer has a Location and it cannot have an If-Match.
	opens bool
	// build takes the command out of the fields; account is the one that the path names, if it does. Fields that are bad
	// it leaves out; the form remembers them.
	build func(f *form, account uuid.UUID) (uuid.UUID, account.Command)
}

// newCommandKinds are the kinds by their names in POST /commands, which are those of package account.
func newCommandKinds(sp *spec) map[string]*commandKind {
	movement := func(build func(money.Decimal, money.Currency, string) account.Command) *commandKind {
		return &commandKind{
			status: http.StatusCreated, schema: sp.moneyMovement, item: sp.moneyMovement, needsBody: true,
			build: func(f *form, _ uuid.UUID) (uuid.UUID, account.Command) {
				amount, _ := f.decimal("amount")
				return f.id("account_id"), build(amount, f.currency(money.LookupCurrency), f.text("reference"))
			},
		}
	}
	change := func(build func(reason string) account.Command) *commandKind {
		return &commandKind{
			status: http.StatusOK, schema: sp.statusChange, item: sp.statusCommand,
			build: func(f *form, id uuid.UUID) (uuid.UUID, account.Command) {
				if id == uuid.Nil {
					id = f.id("account_id")
				}
				return id, build(f.text("reason"))
			},
		}
	}
	kinds := map[string]*commandKind{
		account.Open{}.Name(): {
			status: http.StatusCreated, schema: sp.openAccount, item: sp.openAccount, needsBody: true, opens: true, build: buildOpen,
		},
		account.Deposit{}.Name(): movement(func(a money.Decimal, c money.Currency, reference string) account.Command {
			return account.Deposit{Amount: a, Currency: c, Reference: reference}
		}),
		account.Withdraw{}.Name(): movement(func(a money.Decimal, c money.Currency, reference string) account.Command {
			return account.Withdraw{Amount: a, Currency: c, Reference: reference}
		}),
		account.Transfer{}.Name(): {
			status: http.StatusCreated, schema: sp.transfer, item: sp.transfer, needsBody: true, build: buildTransfer,
		},
		account.Suspend{}.Name():    change(func(reason string) account.Command { return account.Suspend{Reason: reason} }),
		account.Reactivate{}.Name(): change(func(reason string) account.Command { return account.Reactivate{Reason: reason} }),
		account.Close{}.Name():      change(func(reason string) account.Command { return account.Close{Reason: reason} }),
	}
	for name, k := range kinds {
		k.name = name
	}
	return kinds
}

func buildOpen(f *form, _ uuid.UUID) (uuid.UUID, account.Command) {
	id := f.id("account_id")
	if !f.has("account_id") {
		id = newID()
	}
	open := account.Open{Owner: f.text("owner"), Currency: f.currency(activeCurrency)}
	if limit, ok := f.decimal("overdraft_limit"); ok {
		open.OverdraftLimit = &limit
	}
	return id, open
}

func buildTransfer(f *form, _ uuid.UUID) (uuid.UUID, account.Command) {
	id := f.id("transfer_id")
	if !f.has("transfer_id") {
		id = newID()
	}
	amount, _ := f.decimal("amount")
	return f.id("from_account_id"), account.Transfer{
		TransferID: id, To: f.id("to_account_id"), Amount: amount,
		Currency: f.currency(money.LookupCurrency), Reference: f.text("reference"),
	}
}

// OpenAccount serves POST /accounts.
func (s *server) OpenAccount(w http.ResponseWriter, r *http.Request, _ genapi.OpenAccountParams) {
	s.command(w, r, account.Open{}.Name(), uuid.Nil)
}

// Deposit serves POST /deposits.
func (s *server) Deposit(w http.ResponseWriter, r *http.Request, _ genapi.DepositParams) {
	s.command(w, r, account.Deposit{}.Name(), uuid.Nil)
}

// Withdraw serves POST /withdrawals.
func (s *server) Withdraw(w http.ResponseWriter, r *http.Request, _ genapi.WithdrawParams) {
	s.command(w, r, account.Withdraw{}.Name(), uuid.Nil)
}

// Transfer serves POST /transfers.
func (s *server) Transfer(w http.ResponseWriter, r *http.Request, _ genapi.TransferParams) {
	s.command(w, r, account.Transfer{}.Name(), uuid.Nil)
}

// SuspendAccount serves POST /accounts/{account_id}/suspend.
func (s *server) SuspendAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, _ genapi.SuspendAccountParams) {
	s.command(w, r, account.Suspend{}.Name(), id)
}

// ReactivateAccount serves POST /accounts/{account_id}/reactivate.
func (s *server) ReactivateAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, _ genapi.ReactivateAccountParams) {
	s.command(w, r, account.Reactivate{}.Name(), id)
}

// CloseAccount serves POST /accounts/{account_id}/close.
func (s *server) CloseAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, _ genapi.CloseAccountParams) {
	s.command(w, r, account.Close{}.Name(), id)
}

func (s *server) command(w http.ResponseWriter, r *http.Request, name string, id uuid.UUID) {
	k := s.kinds[name]
	request, err := readCommand(w, r, k, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.commands.Do(r.Context(), request)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, err := receipt(result.Events)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	first := &result.Events[0]
	h := w.Header()
	h["Etag"] = []string{versionTag(first.Version)}
	if k.opens {
		h.Set("Location", "/accounts/"+first.AccountID.String())
	}
	if result.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	write(w, k.status, "application/json", body)
}

func readCommand(w http.ResponseWriter, r *http.Request, k *commandKind, id uuid.UUID) (command.Request, error) {
	request := command.Request{Metadata: metadata(r)}
	key, given, err := idempotencyKey(r.Header)
	if err != nil {
		return request, headerProblem("Idempotency-Key", err)
	}
	if request.IfVersions, err = ifMatch(r.Header, k.opens); err != nil {
		return request, headerProblem("If-Match", err)
	}
	raw, err := readBody(w, r)
	if err != nil {
		return request, err
	}
	operation := r.Method + "\x00" + r.URL.Path
	if m, plain := readPlainMovement(raw, false); plain {
		if account, c, ok := m.build(k.name); ok {
			request.AccountID, request.Command = account, c
			if given {
				request.Key = newKey(r, key, operation, m.canonical())
			}
			return request, nil
		}
	}
	f := new(form)
	switch {
	case len(raw) > 0:
		if f, err = readForm(raw, k.schema); err != nil {
			return request, err
		}
	case k.needsBody:
		return request, newProblem(kindInvalidJSON, "The body is empty; it must be a JSON object.")
	}
	request.AccountID, request.Command = k.build(f, id)
	if given {
		request.Key = newKey(r, key, operation, appendCanonical(nil, "", f.members))
	}
	return request, f.err()
}

func idempotencyKey(h http.Header) (key string, given bool, err error) {
	switch values := h["Idempotency-Key"]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		key, err = parseIdempotencyKey(values[0])
		return key, true, err
	}
	return "", true, errRepeated
}

// ifMatch returns the versions that If-Match names, nil for no condition.
func ifMatch(h http.Header, opens bool) ([]int64, error) {
	values := h["If-Match"]
	switch {
	case len(values) == 0:
		return nil, nil
	case opens:
		return nil, errNothingToMatch
	}
	return parseIfMatch(strings.Join(values, ", "))
}

func activeCurrency(code string) (money.Currency, bool) {
	c, err := money.ParseCurrency(code)
	return c, err == nil
}

// newID makes the id of an account for a caller that did not. Ids made later sort later, which keeps indexes dense.
func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.New()
	}
	return id
}

// receipt is the body of a command's answer. It depends on nothing but the recorded events, so that a repeated request
// is answered as the first was, byte for byte.
func receipt(events []command.Recorded) ([]byte, error) {
	first, last := &events[0], &events[len(events)-1]
	sent, ok := first.Event.(account.TransferSent)
	if !ok {
		return appendReceipt(make([]byte, 0, 256), first), nil
	}
	return json.Marshal(&genapi.TransferReceipt{
		AccountID: first.AccountID, EventID: first.EventID, Position: last.Position, Version: first.Version,
		Type: first.Event.EventType(), RecordedAt: timeText(first.RecordedAt),
		TransferID: sent.TransferID, From: leg(first), To: leg(last),
	})
}

// appendReceipt writes a Receipt by hand, in the order json.Marshal has it (a test compares them): it is on the path of
// every command, and nothing in it needs to be escaped.
func appendReceipt(b []byte, e *command.Recorded) []byte {
	b = append(b, `{"account_id":"`...)
	b = append(b, e.AccountID.String()...)
	b = append(b, `","event_id":"`...)
	b = append(b, e.EventID.String()...)
	b = append(b, `","position":`...)
	b = strconv.AppendInt(b, e.Position, 10)
	b = append(b, `,"recorded_at":"`...)
	b = e.RecordedAt.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","type":"`...)
	b = append(b, e.Event.EventType()...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, e.Version, 10)
	return append(b, '}')
}

func leg(e *command.Recorded) genapi.TransferLeg {
	return genapi.TransferLeg{AccountID: e.AccountID, EventID: e.EventID, Position: e.Position, Version: e.Version}
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

// timeText writes a time as the API does: UTC, with microseconds, always of one length. The zero time is "", which
// leaves an optional field out.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}
