package httpapi

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/money"
)

// OpenAccount serves POST /accounts.
func (s *server) OpenAccount(w http.ResponseWriter, r *http.Request, p genapi.OpenAccountParams) {
	s.command(w, r, account.Open{}.Name(), request.Path{}, p.DryRun)
}

// Deposit serves POST /deposits.
func (s *server) Deposit(w http.ResponseWriter, r *http.Request, p genapi.DepositParams) {
	s.command(w, r, account.Deposit{}.Name(), request.Path{}, p.DryRun)
}

// Withdraw serves POST /withdrawals.
func (s *server) Withdraw(w http.ResponseWriter, r *http.Request, p genapi.WithdrawParams) {
	s.command(w, r, account.Withdraw{}.Name(), request.Path{}, p.DryRun)
}

// Transfer serves POST /transfers.
func (s *server) Transfer(w http.ResponseWriter, r *http.Request, p genapi.TransferParams) {
	s.command(w, r, account.Transfer{}.Name(), request.Path{}, p.DryRun)
}

// SuspendAccount serves POST /accounts/{account_id}/suspend.
func (s *server) SuspendAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.SuspendAccountParams) {
	s.command(w, r, account.Suspend{}.Name(), request.Path{AccountID: id}, p.DryRun)
}

// ReactivateAccount serves POST /accounts/{account_id}/reactivate.
func (s *server) ReactivateAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.ReactivateAccountParams) {
	s.command(w, r, account.Reactivate{}.Name(), request.Path{AccountID: id}, p.DryRun)
}

// CloseAccount serves POST /accounts/{account_id}/close.
func (s *server) CloseAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.CloseAccountParams) {
	s.command(w, r, account.Close{}.Name(), request.Path{AccountID: id}, p.DryRun)
}

// ChangeAccount serves PATCH /accounts/{account_id}.
func (s *server) ChangeAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.ChangeAccountParams) {
	s.command(w, r, account.Change{}.Name(), request.Path{AccountID: id}, p.DryRun)
}

// PlaceHold serves POST /accounts/{account_id}/holds.
func (s *server) PlaceHold(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.PlaceHoldParams) {
	s.command(w, r, account.PlaceHold{}.Name(), request.Path{AccountID: id}, p.DryRun)
}

// CaptureHold serves POST /accounts/{account_id}/holds/{hold_id}/capture.
func (s *server) CaptureHold(
	w http.ResponseWriter, r *http.Request, id genapi.AccountID, hold genapi.HoldID, p genapi.CaptureHoldParams,
) {
	s.command(w, r, account.CaptureHold{}.Name(), request.Path{AccountID: id, HoldID: hold}, p.DryRun)
}

// ReleaseHold serves POST /accounts/{account_id}/holds/{hold_id}/release.
func (s *server) ReleaseHold(
	w http.ResponseWriter, r *http.Request, id genapi.AccountID, hold genapi.HoldID, p genapi.ReleaseHoldParams,
) {
	s.command(w, r, account.ReleaseHold{}.Name(), request.Path{AccountID: id, HoldID: hold}, p.DryRun)
}

// Reverse serves POST /reversals.
func (s *server) Reverse(w http.ResponseWriter, r *http.Request, p genapi.ReverseParams) {
	s.command(w, r, account.Reverse{}.Name(), request.Path{}, p.DryRun)
}

func (s *server) command(w http.ResponseWriter, r *http.Request, name string, p request.Path, dryRun bool) {
	c, err := s.spec.Kind(name).Read(w, r, p)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	asked := requested(r, &c, dryRun)
	result, err := s.commands.Do(r.Context(), asked)
	if err != nil || dryRun {
		readingOf(r).decided(&asked, result.Events)
	}
	if err != nil {
		s.fail(w, r, &commandError{c.Source, err})
		return
	}
	status, body, err := response(c.Kind, &result, dryRun)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !dryRun {
		h := w.Header()
		h["Etag"] = []string{request.VersionTag(versionAfter(result.Events))}
		if path := created(result.Events[0]); path != "" {
			h.Set("Location", path)
		}
		if result.Replayed {
			h.Set("Idempotency-Replayed", "true")
		}
	}
	write(w, status, "application/json", body)
}

// response returns the status and the body for a successful command.
func response(k *request.Kind, result *command.Result, dryRun bool) (status int, body []byte, err error) {
	if dryRun {
		body, err = dryRunOf(result)
		return http.StatusOK, body, err
	}
	body, err = receipt(result.Events)
	return k.Status, body, err
}

// created returns the path of the resource that a command has created, or ""; e is its first event.
func created(e command.Recorded) string {
	path := "/accounts/" + e.AccountID.String()
	switch e := e.Event.(type) {
	case account.AccountCreated:
		return path
	case account.HoldPlaced:
		return path + "/holds/" + e.HoldID.String()
	}
	return ""
}

// requested returns a command for the write side, with what the request tells of its caller. The idempotency key is hashed
// together with the caller's scope, so that callers do not share keys. A dry run has no key.
func requested(r *http.Request, c *request.Command, dryRun bool) command.Request {
	asked := command.Request{AccountID: c.AccountID, Command: c.Command, IfVersions: c.IfVersions, Metadata: metadata(r), DryRun: dryRun}
	if c.Key == "" || dryRun {
		return asked
	}
	id, source := exchangeOf(r.Context()).requestID, c.Source
	asked.Key = &command.Key{Fingerprint: c.Fingerprint, Refusal: func(err error) []byte {
		_, text := problemText(problemOf(&commandError{source, err}), id)
		return text
	}}
	scoped := append(append(make([]byte, 0, 512), callerScope(r.Context())...), 0) // no key holds a NUL
	sum := sha256.Sum256(append(scoped, c.Key...))
	copy(asked.Key.Hash[:], sum[:])
	return asked
}

// receipt renders the response to a command. It depends only on the recorded events, so that a repeated request gets the first
// response again, byte for byte.
func receipt(events []command.Recorded) ([]byte, error) {
	first, position, version := &events[0], events[len(events)-1].Position, versionAfter(events)
	switch e := first.Event.(type) {
	case account.TransferSent:
		return json.Marshal(&genapi.TransferReceipt{
			AccountID: first.AccountID, EventID: first.EventID, Position: position, Version: version,
			Type: e.EventType(), RecordedAt: timeText(first.RecordedAt),
			TransferID: e.TransferID, From: leg(first), To: leg(&events[len(events)-1]),
		})
	case account.HoldPlaced:
		return holdReceipt(first, e.HoldID)
	case account.HoldReleased:
		return holdReceipt(first, e.HoldID)
	case account.HoldCaptured:
		r := genapi.CaptureReceipt{
			AccountID: first.AccountID, EventID: first.EventID, Position: position, Version: version,
			Type: e.EventType(), RecordedAt: timeText(first.RecordedAt), HoldID: e.HoldID, CapturedAmount: e.Amount.String(),
			ReleasedAmount: money.FormatMinor(e.Released, e.Amount.Currency()),
		}
		if sent, ok := events[1].Event.(account.TransferSent); ok {
			r.TransferID = sent.TransferID
		}
		return json.Marshal(&r)
	case account.CreditReversed:
		return reversalReceipt(first, position, e.Reversal)
	case account.DebitReversed:
		return reversalReceipt(first, position, e.Reversal)
	}
	return appendReceipt(make([]byte, 0, 256), first, position, version), nil
}

// versionAfter returns the version of the first event's account after all events.
func versionAfter(events []command.Recorded) int64 {
	version := events[0].Version
	for i := range events {
		if events[i].AccountID == events[0].AccountID {
			version = events[i].Version
		}
	}
	return version
}

func holdReceipt(e *command.Recorded, hold uuid.UUID) ([]byte, error) {
	return json.Marshal(&genapi.HoldReceipt{
		AccountID: e.AccountID, EventID: e.EventID, Position: e.Position, Version: e.Version,
		Type: e.Event.EventType(), RecordedAt: timeText(e.RecordedAt), HoldID: hold,
	})
}

func reversalReceipt(e *command.Recorded, position int64, r account.Reversal) ([]byte, error) {
	return json.Marshal(&genapi.ReversalReceipt{
		AccountID: e.AccountID, EventID: e.EventID, Position: position, Version: e.Version,
		Type: e.Event.EventType(), RecordedAt: timeText(e.RecordedAt),
		ReversalID: r.ReversalID, ReversedPosition: r.ReversedPosition, Amount: r.Amount.String(), TransferID: r.TransferID,
	})
}

// dryRunOf renders the response to a dry run.
func dryRunOf(result *command.Result) ([]byte, error) {
	first, after := &result.Events[0], &result.After
	body := genapi.DryRunResult{
		DryRun: true, AccountID: first.AccountID, Events: make([]genapi.DryRunEvent, len(result.Events)),
		Currency: after.Currency.Code(), Balance: money.FormatMinor(after.Balance, after.Currency),
		Available: money.FormatMinor(after.Available(), after.Currency), Version: versionAfter(result.Events),
	}
	for i := range result.Events {
		e := &result.Events[i]
		encoded, err := eventjson.Encode(e.Event)
		if err != nil {
			return nil, fmt.Errorf("httpapi: dry run: %w", err)
		}
		data, err := eventjson.Public(encoded.Payload)
		if err != nil {
			return nil, fmt.Errorf("httpapi: dry run: %w", err)
		}
		body.Events[i] = genapi.DryRunEvent{
			AccountID: e.AccountID, Type: genapi.EventType(encoded.Type), Version: e.Version, Data: data,
		}
	}
	return json.Marshal(&body)
}

// appendReceipt writes a Receipt by hand, in the order of json.Marshal (a test compares them): every command pays for it, and
// nothing in it needs escaping. e is the first event.
func appendReceipt(b []byte, e *command.Recorded, position, version int64) []byte {
	b = append(b, `{"account_id":"`...)
	b = append(b, e.AccountID.String()...)
	b = append(b, `","event_id":"`...)
	b = append(b, e.EventID.String()...)
	b = append(b, `","position":`...)
	b = strconv.AppendInt(b, position, 10)
	b = append(b, `,"recorded_at":"`...)
	b = e.RecordedAt.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","type":"`...)
	b = append(b, e.Event.EventType()...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, version, 10)
	return append(b, '}')
}

func leg(e *command.Recorded) genapi.TransferLeg {
	return genapi.TransferLeg{AccountID: e.AccountID, EventID: e.EventID, Position: e.Position, Version: e.Version}
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

// timeText formats a time as the API does: UTC, with microseconds, always of one length. The zero time is "", which omits an
// optional field.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}
