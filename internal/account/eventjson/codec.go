// Package eventjson encodes and decodes the events and states of accounts as JSON: the payloads in the log, in every schema
// version they ever had, the snapshots in events' metadata, and the payloads that the feed publishes.
package eventjson

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// Errors of Decode and UnmarshalState for data that is not damaged.
var (
	// ErrUnknownType means that this code has no event type of that name.
	ErrUnknownType = errors.New("unknown event type")
	// ErrUnknownSchema means that this code cannot read the schema version; most likely a newer release wrote it.
	ErrUnknownSchema = errors.New("unknown schema version")
)

// kind numbers the event types, for tables.
type kind uint8

const (
	kindCreated kind = iota
	kindDeposited
	kindWithdrawn
	kindSent
	kindReceived
	kindSuspended
	kindReactivated
	kindClosed
	kindOwnerChanged
	kindLimitChanged
	kindMetadataChanged
	kindHoldPlaced
	kindHoldCaptured
	kindHoldReleased
	kindHoldExpired
	kindCreditReversed
	kindDebitReversed
	kindSubjectErased
	kindCount
)

var kindNames = [kindCount]string{
	account.TypeAccountCreated, account.TypeMoneyDeposited, account.TypeMoneyWithdrawn,
	account.TypeTransferSent, account.TypeTransferReceived,
	account.TypeAccountSuspended, account.TypeAccountReactivated, account.TypeAccountClosed,
	account.TypeOwnerChanged, account.TypeOverdraftLimitChanged, account.TypeMetadataChanged,
	account.TypeHoldPlaced, account.TypeHoldCaptured, account.TypeHoldReleased, account.TypeHoldExpired,
	account.TypeCreditReversed, account.TypeDebitReversed, account.TypeSubjectErased,
}

// EventTypes returns the name of every event type, in a new slice.
func EventTypes() []string { return append([]string(nil), kindNames[:]...) }

func kindOf(name string) (kind, bool) {
	switch name {
	case account.TypeAccountCreated:
		return kindCreated, true
	case account.TypeMoneyDeposited:
		return kindDeposited, true
	case account.TypeMoneyWithdrawn:
		return kindWithdrawn, true
	case account.TypeTransferSent:
		return kindSent, true
	case account.TypeTransferReceived:
		return kindReceived, true
	case account.TypeAccountSuspended:
		return kindSuspended, true
	case account.TypeAccountReactivated:
		return kindReactivated, true
	case account.TypeAccountClosed:
		return kindClosed, true
	case account.TypeOwnerChanged:
		return kindOwnerChanged, true
	case account.TypeOverdraftLimitChanged:
		return kindLimitChanged, true
	case account.TypeMetadataChanged:
		return kindMetadataChanged, true
	case account.TypeHoldPlaced:
		return kindHoldPlaced, true
	case account.TypeHoldCaptured:
		return kindHoldCaptured, true
	case account.TypeHoldReleased:
		return kindHoldReleased, true
	case account.TypeHoldExpired:
		return kindHoldExpired, true
	case account.TypeCreditReversed:
		return kindCreditReversed, true
	case account.TypeDebitReversed:
		return kindDebitReversed, true
	case account.TypeSubjectErased:
		return kindSubjectErased, true
	}
	return kindCount, false
}

// upcaster turns a payload of one schema version into the payload the next version would have had.
type upcaster func(payload []byte) ([]byte, error)

// upcasters holds, for each event type, the upcaster from version 1 to 2, from 2 to 3, and so on. The newest version
// is thus one more than the number of upcasters. To change a payload: change AppendPayload and the decoder, append the
// upcaster here, and add a golden file of the new version beside the old ones. An optional field that readers may ignore,
// such as metadata, needs no new version.
type upcasters [kindCount][]upcaster

var registered = upcasters{
	kindCreated: {withDecimals},
}

// withDecimals upcasts AccountCreated from version 1 to 2, which adds how many decimals the account's amounts have: without
// it, a reader whose table of currencies is missing or has changed cannot interpret the integers in the log.
func withDecimals(payload []byte) ([]byte, error) {
	var f fields
	if !f.scan(payload) {
		var err error
		if f, err = decodeJSON(kindCreated, payload); err != nil {
			return nil, err
		}
	}
	c, err := f.parseCurrency()
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(payload, '}') // the payload is an object
	upcast := make([]byte, 0, len(payload)+len(`,"decimals":2`))
	upcast = appendDecimals(append(upcast, payload[:end]...), c)
	return append(upcast, payload[end:]...), nil
}

func (u *upcasters) newest(k kind) int { return len(u[k]) + 1 }

func (u *upcasters) upcast(k kind, version int, payload []byte) ([]byte, error) {
	newest := u.newest(k)
	if version == newest {
		return payload, nil
	}
	if version < 1 || version > newest {
		return nil, fmt.Errorf("%w %d of %s: this code knows 1 to %d", ErrUnknownSchema, version, kindNames[k], newest)
	}
	for ; version < newest; version++ {
		next, err := u[k][version-1](payload)
		if err != nil {
			return nil, fmt.Errorf("eventjson: upcast %s from version %d: %w", kindNames[k], version, err)
		}
		payload = next
	}
	return payload, nil
}

// SchemaVersion returns the schema version that Encode writes for an event type, or 0 for an unknown one.
func SchemaVersion(eventType string) int {
	k, ok := kindOf(eventType)
	if !ok {
		return 0
	}
	return registered.newest(k)
}

// Encoded is an event as the log stores it.
type Encoded struct {
	Type          string
	SchemaVersion int
	// Payload is a JSON object in UTF-8. Amounts in it are integer minor units.
	Payload []byte
}

// Encode returns an event as the log stores it. It fails only for an event that account.Decide would never return.
func Encode(e account.Event) (Encoded, error) {
	payload, err := AppendPayload(make([]byte, 0, 96), e)
	if err != nil {
		return Encoded{}, err
	}
	return Encoded{Type: e.EventType(), SchemaVersion: SchemaVersion(e.EventType()), Payload: payload}, nil
}

// AppendPayload appends the payload that Encode returns to dst. On an error it returns dst unchanged.
func AppendPayload(dst []byte, e account.Event) ([]byte, error) {
	out, err := appendPayload(dst, e)
	if err != nil {
		return dst, fmt.Errorf("eventjson: encode %T: %w", e, err)
	}
	return out, nil
}

func appendPayload(dst []byte, e account.Event) ([]byte, error) {
	switch e := e.(type) {
	case account.AccountCreated:
		return appendCreated(dst, e)
	case account.MoneyDeposited:
		return appendMovement(append(dst, '{'), e.Amount, e.Reference, e.Metadata)
	case account.MoneyWithdrawn:
		return appendMovement(append(dst, '{'), e.Amount, e.Reference, e.Metadata)
	case account.TransferSent:
		dst = appendID(append(dst, `{"transfer_id":"`...), e.TransferID)
		dst = appendID(append(dst, `","to_account_id":"`...), e.To)
		return appendMovement(append(dst, '"', ','), e.Amount, e.Reference, e.Metadata)
	case account.TransferReceived:
		dst = appendID(append(dst, `{"transfer_id":"`...), e.TransferID)
		dst = appendID(append(dst, `","from_account_id":"`...), e.From)
		return appendMovement(append(dst, '"', ','), e.Amount, e.Reference, e.Metadata)
	case account.AccountSuspended:
		return appendReason(dst, e.Reason)
	case account.AccountReactivated:
		return appendReason(dst, e.Reason)
	case account.AccountClosed:
		return appendReason(dst, e.Reason)
	case account.OwnerChanged:
		dst, err := appendText(append(dst, `{"owner":`...), e.Owner)
		return append(dst, '}'), err
	case account.OverdraftLimitChanged:
		return appendLimitChanged(dst, e)
	case account.MetadataChanged:
		dst, err := appendMetadata(append(dst, `{"metadata":`...), e.Metadata)
		return append(dst, '}'), err
	case account.HoldPlaced:
		return appendHoldPlaced(dst, e)
	case account.HoldCaptured:
		return appendHoldCaptured(dst, e)
	case account.HoldReleased:
		dst, err := appendHold(dst, e.HoldID, e.Amount)
		if err != nil {
			return nil, err
		}
		return appendEnd(dst, account.FieldReason, e.Reason, account.Metadata{})
	case account.HoldExpired:
		dst, err := appendHold(dst, e.HoldID, e.Amount)
		return append(dst, '}'), err
	case account.CreditReversed:
		return appendReversal(dst, e.Reversal)
	case account.DebitReversed:
		return appendReversal(dst, e.Reversal)
	case account.SubjectErased:
		dst = appendID(append(dst, `{"subject_id":"`...), e.SubjectID)
		return append(dst, '"', '}'), nil
	}
	return nil, ErrUnknownType
}

func appendCreated(dst []byte, e account.AccountCreated) ([]byte, error) {
	dst, err := appendText(append(dst, `{"owner":`...), e.Owner)
	if err != nil {
		return nil, err
	}
	if dst, err = appendLimit(append(dst, `,"currency":"`...), e.OverdraftLimit, e.Currency); err != nil {
		return nil, err
	}
	dst = appendDecimals(dst, e.Currency)
	if e.SubjectID != uuid.Nil {
		dst = append(appendID(append(dst, `,"subject_id":"`...), e.SubjectID), '"')
	}
	return appendEnd(dst, "", "", e.Metadata)
}

func appendLimitChanged(dst []byte, e account.OverdraftLimitChanged) ([]byte, error) {
	dst, err := appendLimit(append(dst, `{"currency":"`...), e.OverdraftLimit, e.Currency)
	return append(dst, '}'), err
}

// appendLimit appends a currency, whose opening quote is in dst already, and an overdraft limit in it.
func appendLimit(dst []byte, minor int64, c money.Currency) ([]byte, error) {
	if c.IsZero() || minor < 0 {
		return nil, fmt.Errorf("currency %q, overdraft limit %d", c, minor)
	}
	return strconv.AppendInt(append(append(dst, c.Code()...), `","overdraft_limit":`...), minor, 10), nil
}

func appendDecimals(dst []byte, c money.Currency) []byte {
	return strconv.AppendInt(append(dst, `,"decimals":`...), int64(c.Exponent()), 10)
}

// appendMovement appends amount, currency, reference and metadata, and closes the object.
func appendMovement(dst []byte, a money.Amount, reference string, m account.Metadata) ([]byte, error) {
	dst, err := appendAmount(dst, a)
	if err != nil {
		return nil, err
	}
	return appendEnd(dst, account.FieldReference, reference, m)
}

func appendAmount(dst []byte, a money.Amount) ([]byte, error) {
	if a.Currency().IsZero() || a.Sign() <= 0 {
		return nil, fmt.Errorf("amount %d of currency %q", a.Minor(), a.Currency())
	}
	dst = strconv.AppendInt(append(dst, `"amount":`...), a.Minor(), 10)
	dst = append(append(dst, `,"currency":"`...), a.Currency().Code()...)
	return append(dst, '"'), nil
}

// appendEnd appends the member name with its text, and metadata, each unless it is empty, and closes the object. The object must
// have members already.
func appendEnd(dst []byte, name, text string, m account.Metadata) (_ []byte, err error) {
	if text != "" {
		dst = append(append(append(dst, ',', '"'), name...), '"', ':')
		if dst, err = appendText(dst, text); err != nil {
			return nil, err
		}
	}
	if !m.IsEmpty() {
		if dst, err = appendMetadata(append(dst, `,"metadata":`...), m); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendMetadata(dst []byte, m account.Metadata) (_ []byte, err error) {
	start := len(dst)
	for key, value := range m.All() {
		if dst, err = appendText(append(dst, ','), key); err != nil {
			return nil, err
		}
		if dst, err = appendText(append(dst, ':'), value); err != nil {
			return nil, err
		}
	}
	if len(dst) == start {
		dst = append(dst, ',')
	}
	dst[start] = '{' // replaces the first comma
	return append(dst, '}'), nil
}

// appendHold appends the members that all events of holds begin with, and leaves the object open.
func appendHold(dst []byte, id uuid.UUID, a money.Amount) ([]byte, error) {
	dst = appendID(append(dst, `{"hold_id":"`...), id)
	return appendAmount(append(dst, '"', ','), a)
}

func appendHoldPlaced(dst []byte, e account.HoldPlaced) ([]byte, error) {
	dst, err := appendHold(dst, e.HoldID, e.Amount)
	if err != nil {
		return nil, err
	}
	if !e.ExpiresAt.IsZero() {
		if dst, err = appendTime(append(dst, `,"expires_at":`...), e.ExpiresAt); err != nil {
			return nil, err
		}
	}
	return appendEnd(dst, account.FieldReference, e.Reference, e.Metadata)
}

func appendHoldCaptured(dst []byte, e account.HoldCaptured) ([]byte, error) {
	dst, err := appendHold(dst, e.HoldID, e.Amount)
	if err != nil {
		return nil, err
	}
	if e.Released < 0 {
		return nil, fmt.Errorf("released %d", e.Released)
	}
	return append(strconv.AppendInt(append(dst, `,"released":`...), e.Released, 10), '}'), nil
}

func appendReversal(dst []byte, r account.Reversal) ([]byte, error) {
	if r.ReversedPosition <= 0 {
		return nil, fmt.Errorf("reversed position %d", r.ReversedPosition)
	}
	dst = appendID(append(dst, `{"reversal_id":"`...), r.ReversalID)
	dst = strconv.AppendInt(append(dst, `","reversed_position":`...), r.ReversedPosition, 10)
	dst, err := appendAmount(append(dst, ','), r.Amount)
	if err != nil {
		return nil, err
	}
	if r.TransferID != uuid.Nil {
		dst = append(appendID(append(dst, `,"transfer_id":"`...), r.TransferID), '"')
	}
	if r.Counterparty != uuid.Nil {
		dst = append(appendID(append(dst, `,"counterparty_account_id":"`...), r.Counterparty), '"')
	}
	if r.Forced {
		dst = append(dst, `,"forced":true`...)
	}
	return appendEnd(dst, account.FieldReason, r.Reason, account.Metadata{})
}

func appendReason(dst []byte, reason string) ([]byte, error) {
	if reason == "" {
		return append(dst, '{', '}'), nil
	}
	dst, err := appendText(append(dst, `{"reason":`...), reason)
	return append(dst, '}'), err
}

// timeLayout is RFC 3339 in UTC with microseconds, PostgreSQL's precision.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func appendTime(dst []byte, t time.Time) ([]byte, error) {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 || !t.Equal(t.Truncate(time.Microsecond)) {
		return nil, fmt.Errorf("time %s", t)
	}
	return append(t.AppendFormat(append(dst, '"'), timeLayout), '"'), nil
}

// appendText appends a JSON string. It returns an error for text that jsonb cannot store, which Decide refuses earlier.
func appendText(dst []byte, text string) ([]byte, error) {
	if isPlain(text) {
		dst = append(append(dst, '"'), text...)
		return append(dst, '"'), nil
	}
	if strings.IndexByte(text, 0) >= 0 {
		return nil, errors.New("text contains NUL")
	}
	return jsontext.AppendQuote(dst, text) // fails for invalid UTF-8
}

// isPlain reports whether the text needs no escapes in JSON, and is ASCII.
func isPlain[T ~string | ~[]byte](text T) bool {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b == '"' || b == '\\' || b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendID(dst []byte, id uuid.UUID) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		dst = hex.AppendEncode(append(dst, '-'), part)
	}
	return dst
}
