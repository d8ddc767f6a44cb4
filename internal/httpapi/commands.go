package httpapi

import (
	"net/http"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/money"
)

// OpenAccount serves POST /accounts.
func (s *server) OpenAccount(w http.ResponseWriter, r *http.Request, _ OpenAccountParams) {
	s.command(w, r, commandRoute{
		status: http.StatusCreated, schema: s.spec.openAccount, needsBody: true, opens: true,
		build: func(f *form) (uuid.UUID, account.Command) {
			id := f.id("account_id")
			if !f.has("account_id") {
				id = newID()
			}
			open := account.Open{Owner: f.text("owner"), Currency: f.currency("currency", activeCurrency)}
			if limit, ok := f.decimal("overdraft_limit"); ok {
				open.OverdraftLimit = &limit
			}
			return id, open
		},
	})
}

// Deposit serves POST /deposits.
func (s *server) Deposit(w http.ResponseWriter, r *http.Request, _ DepositParams) {
	s.command(w, r, commandRoute{
		status: http.StatusCreated, schema: s.spec.moneyMovement, needsBody: true,
		build: func(f *form) (uuid.UUID, account.Command) {
			amount, _ := f.decimal("amount")
			return f.id("account_id"), account.Deposit{
				Amount: amount, Currency: f.currency("currency", money.LookupCurrency), Reference: f.text("reference"),
			}
		},
	})
}

// Withdraw serves POST /withdrawals.
func (s *server) Withdraw(w http.ResponseWriter, r *http.Request, _ WithdrawParams) {
	s.command(w, r, commandRoute{
		status: http.StatusCreated, schema: s.spec.moneyMovement, needsBody: true,
		build: func(f *form) (uuid.UUID, account.Command) {
			amount, _ := f.decimal("amount")
			return f.id("account_id"), account.Withdraw{
				Amount: amount, Currency: f.currency("currency", money.LookupCurrency), Reference: f.text("reference"),
			}
		},
	})
}

// SuspendAccount serves POST /accounts/{account_id}/suspend.
func (s *server) SuspendAccount(w http.ResponseWriter, r *http.Request, id AccountID, _ SuspendAccountParams) {
	s.changeStatus(w, r, id, func(reason string) account.Command { return account.Suspend{Reason: reason} })
}

// ReactivateAccount serves POST /accounts/{account_id}/reactivate.
func (s *server) ReactivateAccount(w http.ResponseWriter, r *http.Request, id AccountID, _ ReactivateAccountParams) {
	s.changeStatus(w, r, id, func(reason string) account.Command { return account.Reactivate{Reason: reason} })
}

// CloseAccount serves POST /accounts/{account_id}/close.
func (s *server) CloseAccount(w http.ResponseWriter, r *http.Request, id AccountID, _ CloseAccountParams) {
	s.changeStatus(w, r, id, func(reason string) account.Command { return account.Close{Reason: reason} })
}

func (s *server) changeStatus(
	w http.ResponseWriter, r *http.Request, id uuid.UUID, build func(reason string) account.Command,
) {
	s.command(w, r, commandRoute{
		status: http.StatusOK, schema: s.spec.statusChange,
		build: func(f *form) (uuid.UUID, account.Command) { return id, build(f.text("reason")) },
	})
}

// commandRoute is what one command's route has of its own.
type commandRoute struct {
	status    int // of a success
	schema    *openapi3.Schema
	needsBody bool
	// opens says that the command makes the account, so that its answer has a Location and it cannot have an If-Match.
	opens bool
	// build takes the command out of the body. Fields that are bad it leaves out; the form remembers them.
	build func(f *form) (uuid.UUID, account.Command)
}

func (s *server) command(w http.ResponseWriter, r *http.Request, route commandRoute) {
	request, err := readCommand(w, r, route)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.commands.Do(r.Context(), request)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	first := &result.Events[0]
	body, err := receipt(first)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h["Etag"] = []string{versionTag(first.Version)}
	if route.opens {
		h.Set("Location", "/accounts/"+first.AccountID.String())
	}
	if result.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	write(w, route.status, "application/json", body)
}

func readCommand(w http.ResponseWriter, r *http.Request, route commandRoute) (command.Request, error) {
	request := command.Request{Metadata: metadata(r)}
	key, given, err := idempotencyKey(r.Header)
	if err != nil {
		return request, headerProblem("Idempotency-Key", err)
	}
	if request.IfVersion, err = ifMatch(r.Header, route.opens); err != nil {
		return request, headerProblem("If-Match", err)
	}
	raw, err := readBody(w, r)
	if err != nil {
		return request, err
	}
	if given {
		request.Key = hashKey(callerScope(r.Context()), key, r, raw)
	}
	f := new(form)
	switch {
	case len(raw) > 0:
		if f, err = readForm(raw, route.schema); err != nil {
			return request, err
		}
	case route.needsBody:
		return request, newProblem(kindInvalidJSON, "The body is empty; it must be a JSON object.")
	}
	request.AccountID, request.Command = route.build(f)
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

func ifMatch(h http.Header, opens bool) (*int64, error) {
	values := h["If-Match"]
	switch {
	case len(values) == 0:
		return nil, nil //nolint:nilnil // no condition
	case opens:
		return nil, errNothingToMatch
	case len(values) > 1:
		return nil, errRepeated
	}
	return parseIfMatch(values[0])
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

// receipt is the body of a command's answer. It depends on nothing but the recorded event, so that a repeated request
// is answered as the first was, byte for byte.
func receipt(e *command.Recorded) ([]byte, error) {
	return json.Marshal(&Receipt{ //nolint:wrapcheck // an unexpected error, logged as it is
		AccountID:  e.AccountID,
		EventID:    e.EventID,
		Position:   e.Position,
		Version:    e.Version,
		Type:       e.Event.EventType(),
		RecordedAt: timeText(e.RecordedAt),
	})
}

// timeText writes a time as the API does: UTC, with microseconds, always of one length. The zero time is "", which
// leaves an optional field out.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}
