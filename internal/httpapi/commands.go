package httpapi

import (
	"crypto/sha256"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

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
	c, err := s.spec.Kind(name).Read(w, r, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.commands.Do(r.Context(), requested(r, &c))
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
	h["Etag"] = []string{request.VersionTag(first.Version)}
	if c.Kind.Opens {
		h.Set("Location", "/accounts/"+first.AccountID.String())
	}
	if result.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	write(w, c.Kind.Status, "application/json", body)
}

// requested is a command with what the request says of its caller. The idempotency key is hashed together with the caller's
// scope, so that callers do not share keys.
func requested(r *http.Request, c *request.Command) command.Request {
	asked := command.Request{AccountID: c.AccountID, Command: c.Command, IfVersions: c.IfVersions, Metadata: metadata(r)}
	if c.Key == "" {
		return asked
	}
	id := exchangeOf(r.Context()).requestID
	asked.Key = &command.Key{Fingerprint: c.Fingerprint, Refusal: func(err error) []byte {
		_, text := problemText(problemOf(err), id)
		return text
	}}
	scoped := append(append(make([]byte, 0, 512), callerScope(r.Context())...), 0) // no key holds a NUL
	sum := sha256.Sum256(append(scoped, c.Key...))
	copy(asked.Key.Hash[:], sum[:])
	return asked
}

// receipt is the body of a command's response. It depends only on the recorded events, so that a repeated request gets the
// first response again, byte for byte.
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
