package eventjson

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// Decode returns the event that Encode was given, whatever the spacing and the order of keys PostgreSQL gave the
// payload; the event does not share memory with it. A payload of an older schema version is upcast first. Fields it
// does not know are ignored; missing, ill-typed or impossible ones are errors. A type this code does not have is
// ErrUnknownType, a version it cannot read ErrUnknownSchema.
func Decode(eventType string, schemaVersion int, payload []byte) (account.Event, error) {
	return registered.decode(eventType, schemaVersion, payload)
}

func (u *upcasters) decode(eventType string, schemaVersion int, payload []byte) (account.Event, error) {
	k, ok := kindOf(eventType)
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownType, eventType)
	}
	payload, err := u.upcast(k, schemaVersion, payload)
	if err != nil {
		return nil, err
	}
	var f fields
	if !f.scan(payload) {
		if f, err = decodeJSON(k, payload); err != nil {
			return nil, fmt.Errorf("eventjson: decode %s: %w", eventType, err)
		}
	}
	e, err := f.event(k)
	if err != nil {
		return nil, fmt.Errorf("eventjson: decode %s: %w", eventType, err)
	}
	return e, nil
}

// fieldSet is a set of payload fields.
type fieldSet uint16

const (
	hasOwner fieldSet = 1 << iota
	hasCurrency
	hasOverdraftLimit
	hasAmount
	hasReference
	hasTransferID
	hasTo
	hasFrom
	hasReason
	hasDecimals
)

var fieldNames = [...]string{
	account.FieldOwner, account.FieldCurrency, account.FieldOverdraftLimit, account.FieldAmount, account.FieldReference,
	"transfer_id", account.FieldTo, account.FieldFrom, account.FieldReason, "decimals",
}

const (
	movementFields = hasAmount | hasCurrency
	transferFields = movementFields | hasTransferID
)

// required are the fields without which a payload is damaged, known those it may have. Any other is ignored.
var (
	required = [kindCount]fieldSet{
		kindCreated:   hasOwner | hasCurrency | hasOverdraftLimit | hasDecimals,
		kindDeposited: movementFields,
		kindWithdrawn: movementFields,
		kindSent:      transferFields | hasTo,
		kindReceived:  transferFields | hasFrom,
	}
	known = [kindCount]fieldSet{
		kindCreated:     required[kindCreated],
		kindDeposited:   required[kindDeposited] | hasReference,
		kindWithdrawn:   required[kindWithdrawn] | hasReference,
		kindSent:        required[kindSent] | hasReference,
		kindReceived:    required[kindReceived] | hasReference,
		kindSuspended:   hasReason,
		kindReactivated: hasReason,
		kindClosed:      hasReason,
	}
)

// fields is a payload taken apart. Text is that of the payload, unescaped, and may share its memory.
type fields struct {
	set                                    fieldSet
	amount, overdraftLimit, decimals       int64
	owner, currency, reference, reason     []byte
	transferID, toAccountID, fromAccountID []byte
}

// event puts an event together, and checks what JSON types do not say.
func (f *fields) event(k kind) (account.Event, error) {
	if missing := required[k] &^ f.set; missing != 0 {
		for i, name := range fieldNames {
			if missing&(1<<i) != 0 {
				return nil, fmt.Errorf("%s is missing", name)
			}
		}
	}
	switch k {
	case kindCreated:
		return f.created()
	case kindDeposited, kindWithdrawn, kindSent, kindReceived:
		return f.movement(k)
	case kindSuspended:
		return account.AccountSuspended{Reason: string(f.reason)}, nil
	case kindReactivated:
		return account.AccountReactivated{Reason: string(f.reason)}, nil
	case kindClosed:
		return account.AccountClosed{Reason: string(f.reason)}, nil
	case kindCount:
	}
	return nil, ErrUnknownType
}

func (f *fields) created() (account.Event, error) {
	c, err := f.parseCurrency()
	if err != nil {
		return nil, err
	}
	if f.overdraftLimit < 0 {
		return nil, fmt.Errorf("overdraft_limit is %d", f.overdraftLimit)
	}
	if f.decimals != int64(c.Exponent()) {
		return nil, fmt.Errorf("the account counts in %d decimals, but this code has %d for %s", f.decimals, c.Exponent(), c)
	}
	return account.AccountCreated{Owner: string(f.owner), Currency: c, OverdraftLimit: f.overdraftLimit}, nil
}

func (f *fields) movement(k kind) (account.Event, error) {
	c, err := f.parseCurrency()
	if err != nil {
		return nil, err
	}
	if f.amount <= 0 {
		return nil, fmt.Errorf("amount is %d", f.amount)
	}
	amount, reference := money.New(f.amount, c), string(f.reference)
	switch k {
	case kindDeposited:
		return account.MoneyDeposited{Amount: amount, Reference: reference}, nil
	case kindWithdrawn:
		return account.MoneyWithdrawn{Amount: amount, Reference: reference}, nil
	default:
		return f.transfer(k, amount, reference)
	}
}

func (f *fields) transfer(k kind, amount money.Amount, reference string) (account.Event, error) {
	id, err := parseID("transfer_id", f.transferID)
	if err != nil {
		return nil, err
	}
	if k == kindSent {
		to, err := parseID(account.FieldTo, f.toAccountID)
		if err != nil {
			return nil, err
		}
		return account.TransferSent{TransferID: id, To: to, Amount: amount, Reference: reference}, nil
	}
	from, err := parseID(account.FieldFrom, f.fromAccountID)
	if err != nil {
		return nil, err
	}
	return account.TransferReceived{TransferID: id, From: from, Amount: amount, Reference: reference}, nil
}

// parseCurrency knows withdrawn currencies too: what was recorded in one stays readable.
func (f *fields) parseCurrency() (money.Currency, error) {
	c, ok := money.LookupCurrency(string(f.currency))
	if !ok {
		return c, fmt.Errorf("%w %q", money.ErrUnknownCurrency, f.currency)
	}
	return c, nil
}

func parseID(field string, text []byte) (uuid.UUID, error) {
	const canonical = 36
	if len(text) != canonical {
		return uuid.UUID{}, fmt.Errorf("%s is not a UUID", field)
	}
	id, err := uuid.ParseBytes(text)
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("%s is not a UUID: %w", field, err)
	}
	return id, nil
}

var errNotObject = errors.New("the payload is not a JSON object")

// decodeJSON takes a payload apart with the JSON library: any escapes, unknown fields of any type. A null is a missing
// field. It defines what a payload means; scan is a faster way to the same result.
func decodeJSON(k kind, payload []byte) (fields, error) {
	var object map[string]jsontext.Value
	if err := json.Unmarshal(payload, &object); err != nil {
		return fields{}, err
	}
	if object == nil {
		return fields{}, errNotObject
	}
	var f fields
	for i, name := range fieldNames {
		field := fieldSet(1) << i
		value, ok := object[name]
		if !ok || field&known[k] == 0 || value.Kind() == 'n' {
			continue
		}
		if err := f.unmarshal(field, value); err != nil {
			return fields{}, fmt.Errorf("%s: %w", name, err)
		}
		f.set |= field
	}
	return f, nil
}

func (f *fields) unmarshal(field fieldSet, value jsontext.Value) error {
	if number := f.number(field); number != nil {
		return json.Unmarshal(value, number)
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return err
	}
	*f.text(field) = []byte(text)
	return nil
}

// number returns where a number is kept, or nil for a field that is text.
func (f *fields) number(field fieldSet) *int64 {
	switch field {
	case hasAmount:
		return &f.amount
	case hasOverdraftLimit:
		return &f.overdraftLimit
	case hasDecimals:
		return &f.decimals
	default:
		return nil
	}
}

// text returns where a text is kept.
func (f *fields) text(field fieldSet) *[]byte {
	switch field {
	case hasOwner:
		return &f.owner
	case hasCurrency:
		return &f.currency
	case hasReference:
		return &f.reference
	case hasTransferID:
		return &f.transferID
	case hasTo:
		return &f.toAccountID
	case hasFrom:
		return &f.fromAccountID
	default:
		return &f.reason
	}
}
