package eventjson

import (
	"errors"
	"fmt"
	"time"

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
type fieldSet uint32

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
	hasMetadata
	hasHoldID
	hasExpiresAt
	hasReleased
	hasReversalID
	hasReversedPosition
	hasCounterparty
	hasForced
)

var fieldNames = [...]string{
	account.FieldOwner, account.FieldCurrency, account.FieldOverdraftLimit, account.FieldAmount, account.FieldReference,
	"transfer_id", account.FieldTo, account.FieldFrom, account.FieldReason, "decimals",
	account.FieldMetadata, account.FieldHold, account.FieldExpiresAt, "released", "reversal_id", "reversed_position",
	"counterparty_account_id", "forced",
}

const (
	movementFields = hasAmount | hasCurrency
	transferFields = movementFields | hasTransferID
	holdFields     = movementFields | hasHoldID
	reversalFields = movementFields | hasReversalID | hasReversedPosition
)

// required are the fields without which a payload is damaged, known those it may have. Any other is ignored.
var (
	required = [kindCount]fieldSet{
		kindCreated:         hasOwner | hasCurrency | hasOverdraftLimit | hasDecimals,
		kindDeposited:       movementFields,
		kindWithdrawn:       movementFields,
		kindSent:            transferFields | hasTo,
		kindReceived:        transferFields | hasFrom,
		kindOwnerChanged:    hasOwner,
		kindLimitChanged:    hasOverdraftLimit | hasCurrency,
		kindMetadataChanged: hasMetadata,
		kindHoldPlaced:      holdFields,
		kindHoldCaptured:    holdFields | hasReleased,
		kindHoldReleased:    holdFields,
		kindHoldExpired:     holdFields,
		kindCreditReversed:  reversalFields,
		kindDebitReversed:   reversalFields,
	}
	known = [kindCount]fieldSet{
		kindCreated:         required[kindCreated] | hasMetadata,
		kindDeposited:       required[kindDeposited] | hasReference | hasMetadata,
		kindWithdrawn:       required[kindWithdrawn] | hasReference | hasMetadata,
		kindSent:            required[kindSent] | hasReference | hasMetadata,
		kindReceived:        required[kindReceived] | hasReference | hasMetadata,
		kindSuspended:       hasReason,
		kindReactivated:     hasReason,
		kindClosed:          hasReason,
		kindOwnerChanged:    required[kindOwnerChanged],
		kindLimitChanged:    required[kindLimitChanged],
		kindMetadataChanged: required[kindMetadataChanged],
		kindHoldPlaced:      required[kindHoldPlaced] | hasReference | hasExpiresAt | hasMetadata,
		kindHoldCaptured:    required[kindHoldCaptured],
		kindHoldReleased:    required[kindHoldReleased] | hasReason,
		kindHoldExpired:     required[kindHoldExpired],
		kindCreditReversed:  required[kindCreditReversed] | reversalOptions,
		kindDebitReversed:   required[kindDebitReversed] | reversalOptions,
	}
)

const reversalOptions = hasTransferID | hasCounterparty | hasReason | hasForced

// fields is a payload taken apart. Text is that of the payload, unescaped, and may share its memory.
type fields struct {
	set                                    fieldSet
	forced                                 bool
	amount, overdraftLimit, decimals       int64
	released, reversedPosition             int64
	owner, currency, reference, reason     []byte
	transferID, toAccountID, fromAccountID []byte
	holdID, expiresAt                      []byte
	reversalID, counterparty               []byte
	metadata                               map[string]string
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
	case kindOwnerChanged:
		return account.OwnerChanged{Owner: string(f.owner)}, nil
	case kindLimitChanged:
		c, err := f.parseLimit()
		if err != nil {
			return nil, err
		}
		return account.OverdraftLimitChanged{OverdraftLimit: f.overdraftLimit, Currency: c}, nil
	case kindMetadataChanged:
		return account.MetadataChanged{Metadata: account.NewMetadata(f.metadata)}, nil
	case kindHoldPlaced, kindHoldCaptured, kindHoldReleased, kindHoldExpired:
		return f.hold(k)
	case kindCreditReversed, kindDebitReversed:
		return f.reversal(k)
	case kindCount:
	}
	return nil, ErrUnknownType
}

func (f *fields) created() (account.Event, error) {
	c, err := f.parseLimit()
	if err != nil {
		return nil, err
	}
	if f.decimals != int64(c.Exponent()) {
		return nil, fmt.Errorf("the account counts in %d decimals, but this code has %d for %s", f.decimals, c.Exponent(), c)
	}
	return account.AccountCreated{
		Owner: string(f.owner), Currency: c, OverdraftLimit: f.overdraftLimit, Metadata: account.NewMetadata(f.metadata),
	}, nil
}

func (f *fields) movement(k kind) (account.Event, error) {
	amount, err := f.parseAmount()
	if err != nil {
		return nil, err
	}
	reference, metadata := string(f.reference), account.NewMetadata(f.metadata)
	switch k {
	case kindDeposited:
		return account.MoneyDeposited{Amount: amount, Reference: reference, Metadata: metadata}, nil
	case kindWithdrawn:
		return account.MoneyWithdrawn{Amount: amount, Reference: reference, Metadata: metadata}, nil
	}
	id, err := parseID("transfer_id", f.transferID)
	if err != nil {
		return nil, err
	}
	if k == kindSent {
		to, err := parseID(account.FieldTo, f.toAccountID)
		if err != nil {
			return nil, err
		}
		return account.TransferSent{TransferID: id, To: to, Amount: amount, Reference: reference, Metadata: metadata}, nil
	}
	from, err := parseID(account.FieldFrom, f.fromAccountID)
	if err != nil {
		return nil, err
	}
	return account.TransferReceived{TransferID: id, From: from, Amount: amount, Reference: reference, Metadata: metadata}, nil
}

func (f *fields) hold(k kind) (account.Event, error) {
	amount, err := f.parseAmount()
	if err != nil {
		return nil, err
	}
	id, err := parseID(account.FieldHold, f.holdID)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindHoldPlaced:
		e := account.HoldPlaced{
			HoldID: id, Amount: amount, Reference: string(f.reference), Metadata: account.NewMetadata(f.metadata),
		}
		if f.set&hasExpiresAt != 0 {
			if e.ExpiresAt, err = parseTime(account.FieldExpiresAt, string(f.expiresAt)); err != nil {
				return nil, err
			}
		}
		return e, nil
	case kindHoldCaptured:
		if f.released < 0 {
			return nil, fmt.Errorf("released is %d", f.released)
		}
		return account.HoldCaptured{HoldID: id, Amount: amount, Released: f.released}, nil
	case kindHoldReleased:
		return account.HoldReleased{HoldID: id, Amount: amount, Reason: string(f.reason)}, nil
	default:
		return account.HoldExpired{HoldID: id, Amount: amount}, nil
	}
}

func (f *fields) reversal(k kind) (account.Event, error) {
	r := account.Reversal{ReversedPosition: f.reversedPosition, Reason: string(f.reason), Forced: f.forced}
	if r.ReversedPosition <= 0 {
		return nil, fmt.Errorf("reversed_position is %d", r.ReversedPosition)
	}
	var err error
	if r.Amount, err = f.parseAmount(); err != nil {
		return nil, err
	}
	if r.ReversalID, err = parseID("reversal_id", f.reversalID); err != nil {
		return nil, err
	}
	if f.set&hasTransferID != 0 {
		if r.TransferID, err = parseID("transfer_id", f.transferID); err != nil {
			return nil, err
		}
	}
	if f.set&hasCounterparty != 0 {
		if r.Counterparty, err = parseID("counterparty_account_id", f.counterparty); err != nil {
			return nil, err
		}
	}
	if k == kindCreditReversed {
		return account.CreditReversed{Reversal: r}, nil
	}
	return account.DebitReversed{Reversal: r}, nil
}

func (f *fields) parseAmount() (money.Amount, error) {
	c, err := f.parseCurrency()
	if err != nil {
		return money.Amount{}, err
	}
	if f.amount <= 0 {
		return money.Amount{}, fmt.Errorf("amount is %d", f.amount)
	}
	return money.New(f.amount, c), nil
}

// parseLimit returns the currency of an overdraft limit, and checks the limit.
func (f *fields) parseLimit() (money.Currency, error) {
	c, err := f.parseCurrency()
	if err == nil && f.overdraftLimit < 0 {
		err = fmt.Errorf("overdraft_limit is %d", f.overdraftLimit)
	}
	return c, err
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

// parseTime reads what appendTime writes, and other spellings of it.
func parseTime(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, fmt.Errorf("%s is not a time: %w", field, err)
	}
	if t = t.UTC().Truncate(time.Microsecond); t.Year() < 0 || t.Year() > 9999 {
		return t, fmt.Errorf("%s is in the year %d", field, t.Year())
	}
	return t, nil
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
	switch field {
	case hasMetadata:
		return json.Unmarshal(value, &f.metadata)
	case hasForced:
		return json.Unmarshal(value, &f.forced)
	}
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
	case hasReleased:
		return &f.released
	case hasReversedPosition:
		return &f.reversedPosition
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
	case hasHoldID:
		return &f.holdID
	case hasExpiresAt:
		return &f.expiresAt
	case hasReversalID:
		return &f.reversalID
	case hasCounterparty:
		return &f.counterparty
	default:
		return &f.reason
	}
}
