package eventjson

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// Decode is the inverse of Encode, and accepts any spacing and order of keys, because PostgreSQL changes both. The event does
// not share memory with the payload. Decode upcasts a payload of an older schema version first. It ignores unknown fields;
// missing, ill-typed or impossible ones are errors. For an unknown type it returns ErrUnknownType, for a schema version that
// this code cannot read ErrUnknownSchema.
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

// field enumerates the payload fields: first the numbers, then the texts, then the others.
type field uint8

const (
	fieldAmount field = iota
	fieldOverdraftLimit
	fieldDecimals
	fieldReleased
	fieldReversedPosition

	fieldOwner
	fieldCurrency
	fieldReference
	fieldReason
	fieldTransferID
	fieldTo
	fieldFrom
	fieldHoldID
	fieldExpiresAt
	fieldReversalID
	fieldCounterparty
	fieldSubject

	fieldMetadata
	fieldForced

	firstText  = fieldOwner
	afterTexts = fieldMetadata
)

var fieldNames = [...]string{
	fieldAmount: account.FieldAmount, fieldOverdraftLimit: account.FieldOverdraftLimit, fieldDecimals: "decimals",
	fieldReleased: "released", fieldReversedPosition: "reversed_position",
	fieldOwner: account.FieldOwner, fieldCurrency: account.FieldCurrency, fieldReference: account.FieldReference,
	fieldReason: account.FieldReason, fieldTransferID: "transfer_id", fieldTo: account.FieldTo, fieldFrom: account.FieldFrom,
	fieldHoldID: account.FieldHold, fieldExpiresAt: account.FieldExpiresAt, fieldReversalID: "reversal_id",
	fieldCounterparty: "counterparty_account_id",
	fieldSubject:      account.FieldSubject,
	fieldMetadata:     account.FieldMetadata, fieldForced: "forced",
}

// fieldSet is a set of fields, a bit for each.
type fieldSet uint32

func set(fields ...field) (s fieldSet) {
	for _, f := range fields {
		s |= 1 << f
	}
	return s
}

func (s fieldSet) has(f field) bool { return s&(1<<f) != 0 }

var (
	movementFields  = set(fieldAmount, fieldCurrency)
	movementOptions = set(fieldReference, fieldMetadata)
	transferFields  = movementFields | set(fieldTransferID)
	holdFields      = movementFields | set(fieldHoldID)
	reversalFields  = movementFields | set(fieldReversalID, fieldReversedPosition)
	reversalOptions = set(fieldTransferID, fieldCounterparty, fieldReason, fieldForced)
)

var (
	// required are the fields that a payload must have.
	required = [kindCount]fieldSet{
		kindCreated:         set(fieldOwner, fieldCurrency, fieldOverdraftLimit, fieldDecimals),
		kindDeposited:       movementFields,
		kindWithdrawn:       movementFields,
		kindSent:            transferFields | set(fieldTo),
		kindReceived:        transferFields | set(fieldFrom),
		kindOwnerChanged:    set(fieldOwner),
		kindLimitChanged:    set(fieldOverdraftLimit, fieldCurrency),
		kindMetadataChanged: set(fieldMetadata),
		kindHoldPlaced:      holdFields,
		kindHoldCaptured:    holdFields | set(fieldReleased),
		kindHoldReleased:    holdFields,
		kindHoldExpired:     holdFields,
		kindCreditReversed:  reversalFields,
		kindDebitReversed:   reversalFields,
		kindSubjectErased:   set(fieldSubject),
	}
	// optional are the fields that it may have. All others are ignored.
	optional = [kindCount]fieldSet{
		kindCreated:        set(fieldMetadata, fieldSubject),
		kindDeposited:      movementOptions,
		kindWithdrawn:      movementOptions,
		kindSent:           movementOptions,
		kindReceived:       movementOptions,
		kindSuspended:      set(fieldReason),
		kindReactivated:    set(fieldReason),
		kindClosed:         set(fieldReason),
		kindHoldPlaced:     movementOptions | set(fieldExpiresAt),
		kindHoldReleased:   set(fieldReason),
		kindCreditReversed: reversalOptions,
		kindDebitReversed:  reversalOptions,
	}
)

// fields holds the values of a payload's fields. Texts are unescaped and may share the payload's memory.
type fields struct {
	set      fieldSet
	forced   bool
	numbers  [firstText]int64
	texts    [afterTexts - firstText][]byte
	metadata map[string]string
}

func (f *fields) text(i field) []byte { return f.texts[i-firstText] }

// event builds an event, and checks what JSON types cannot express.
func (f *fields) event(k kind) (account.Event, error) {
	if missing := required[k] &^ f.set; missing != 0 {
		return nil, fmt.Errorf("%s is missing", fieldNames[bits.TrailingZeros32(uint32(missing))])
	}
	switch k {
	case kindCreated:
		return f.created()
	case kindDeposited, kindWithdrawn, kindSent, kindReceived:
		return f.movement(k)
	case kindSuspended:
		return account.AccountSuspended{Reason: string(f.text(fieldReason))}, nil
	case kindReactivated:
		return account.AccountReactivated{Reason: string(f.text(fieldReason))}, nil
	case kindClosed:
		return account.AccountClosed{Reason: string(f.text(fieldReason))}, nil
	case kindOwnerChanged:
		return account.OwnerChanged{Owner: string(f.text(fieldOwner))}, nil
	case kindLimitChanged:
		c, err := f.parseLimit()
		if err != nil {
			return nil, err
		}
		return account.OverdraftLimitChanged{OverdraftLimit: f.numbers[fieldOverdraftLimit], Currency: c}, nil
	case kindMetadataChanged:
		return account.MetadataChanged{Metadata: account.NewMetadata(f.metadata)}, nil
	case kindHoldPlaced, kindHoldCaptured, kindHoldReleased, kindHoldExpired:
		return f.hold(k)
	case kindCreditReversed, kindDebitReversed:
		return f.reversal(k)
	case kindSubjectErased:
		id, err := parseID(account.FieldSubject, f.text(fieldSubject))
		return account.SubjectErased{SubjectID: id}, err
	case kindCount:
	}
	return nil, ErrUnknownType
}

func (f *fields) created() (account.Event, error) {
	c, err := f.parseLimit()
	if err != nil {
		return nil, err
	}
	if f.numbers[fieldDecimals] != int64(c.Exponent()) {
		return nil, fmt.Errorf("the account's amounts have %d decimals, but this code has %d for %s",
			f.numbers[fieldDecimals], c.Exponent(), c)
	}
	e := account.AccountCreated{
		Owner: string(f.text(fieldOwner)), Currency: c, OverdraftLimit: f.numbers[fieldOverdraftLimit],
		Metadata: account.NewMetadata(f.metadata),
	}
	if f.set.has(fieldSubject) {
		e.SubjectID, err = parseID(account.FieldSubject, f.text(fieldSubject))
	}
	return e, err
}

func (f *fields) movement(k kind) (account.Event, error) {
	amount, err := f.parseAmount()
	if err != nil {
		return nil, err
	}
	reference, metadata := string(f.text(fieldReference)), account.NewMetadata(f.metadata)
	switch k {
	case kindDeposited:
		return account.MoneyDeposited{Amount: amount, Reference: reference, Metadata: metadata}, nil
	case kindWithdrawn:
		return account.MoneyWithdrawn{Amount: amount, Reference: reference, Metadata: metadata}, nil
	}
	id, err := parseID("transfer_id", f.text(fieldTransferID))
	if err != nil {
		return nil, err
	}
	if k == kindSent {
		to, err := parseID(account.FieldTo, f.text(fieldTo))
		if err != nil {
			return nil, err
		}
		return account.TransferSent{TransferID: id, To: to, Amount: amount, Reference: reference, Metadata: metadata}, nil
	}
	from, err := parseID(account.FieldFrom, f.text(fieldFrom))
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
	id, err := parseID(account.FieldHold, f.text(fieldHoldID))
	if err != nil {
		return nil, err
	}
	switch k {
	case kindHoldPlaced:
		e := account.HoldPlaced{
			HoldID: id, Amount: amount, Reference: string(f.text(fieldReference)), Metadata: account.NewMetadata(f.metadata),
		}
		if f.set.has(fieldExpiresAt) {
			if e.ExpiresAt, err = parseTime(account.FieldExpiresAt, string(f.text(fieldExpiresAt))); err != nil {
				return nil, err
			}
		}
		return e, nil
	case kindHoldCaptured:
		if f.numbers[fieldReleased] < 0 {
			return nil, fmt.Errorf("released is %d", f.numbers[fieldReleased])
		}
		return account.HoldCaptured{HoldID: id, Amount: amount, Released: f.numbers[fieldReleased]}, nil
	case kindHoldReleased:
		return account.HoldReleased{HoldID: id, Amount: amount, Reason: string(f.text(fieldReason))}, nil
	default:
		return account.HoldExpired{HoldID: id, Amount: amount}, nil
	}
}

func (f *fields) reversal(k kind) (account.Event, error) {
	r := account.Reversal{ReversedPosition: f.numbers[fieldReversedPosition], Reason: string(f.text(fieldReason)), Forced: f.forced}
	if r.ReversedPosition <= 0 {
		return nil, fmt.Errorf("reversed_position is %d", r.ReversedPosition)
	}
	var err error
	if r.Amount, err = f.parseAmount(); err != nil {
		return nil, err
	}
	if r.ReversalID, err = parseID("reversal_id", f.text(fieldReversalID)); err != nil {
		return nil, err
	}
	if f.set.has(fieldTransferID) {
		if r.TransferID, err = parseID("transfer_id", f.text(fieldTransferID)); err != nil {
			return nil, err
		}
	}
	if f.set.has(fieldCounterparty) {
		if r.Counterparty, err = parseID("counterparty_account_id", f.text(fieldCounterparty)); err != nil {
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
	if f.numbers[fieldAmount] <= 0 {
		return money.Amount{}, fmt.Errorf("amount is %d", f.numbers[fieldAmount])
	}
	return money.New(f.numbers[fieldAmount], c), nil
}

// parseLimit checks an overdraft limit and returns its currency.
func (f *fields) parseLimit() (money.Currency, error) {
	c, err := f.parseCurrency()
	if err == nil && f.numbers[fieldOverdraftLimit] < 0 {
		err = fmt.Errorf("overdraft_limit is %d", f.numbers[fieldOverdraftLimit])
	}
	return c, err
}

// parseCurrency accepts withdrawn currencies too, so that old events stay readable.
func (f *fields) parseCurrency() (money.Currency, error) {
	c, ok := money.LookupCurrency(string(f.text(fieldCurrency)))
	if !ok {
		return c, fmt.Errorf("%w %q", money.ErrUnknownCurrency, f.text(fieldCurrency))
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

// parseTime reads any RFC 3339 time, such as those that appendTime writes.
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

// FieldSealed is the member of a payload or a snapshot that has its personal text, encrypted. Package subject writes and opens it.
const FieldSealed = "sealed"

// errSealed is an ErrUnknownSchema, so that a projection halts and skips nothing.
var errSealed = fmt.Errorf("%w: its personal text is sealed, and PASSBOOK_SUBJECT_MASTER_KEY_FILE is not set", ErrUnknownSchema)

var errNotObject = errors.New("the payload is not a JSON object")

// decodeJSON reads the fields of a payload with the JSON library. It accepts any escapes and unknown fields of any type, and
// treats null as missing. It defines what a payload means; scan is a faster way to the same result.
func decodeJSON(k kind, payload []byte) (fields, error) {
	var object map[string]jsontext.Value
	if err := json.Unmarshal(payload, &object); err != nil {
		return fields{}, err
	}
	if object == nil {
		return fields{}, errNotObject
	}
	var f fields
	if _, sealed := object[FieldSealed]; sealed {
		return fields{}, errSealed
	}
	known := required[k] | optional[k]
	for i, name := range fieldNames {
		value, ok := object[name]
		if !ok || !known.has(field(i)) || value.Kind() == 'n' {
			continue
		}
		if err := f.unmarshal(field(i), value); err != nil {
			return fields{}, fmt.Errorf("%s: %w", name, err)
		}
		f.set |= 1 << i
	}
	return f, nil
}

func (f *fields) unmarshal(i field, value jsontext.Value) error {
	switch {
	case i < firstText:
		return json.Unmarshal(value, &f.numbers[i])
	case i == fieldMetadata:
		return json.Unmarshal(value, &f.metadata)
	case i == fieldForced:
		return json.Unmarshal(value, &f.forced)
	}
	var text string
	err := json.Unmarshal(value, &text)
	f.texts[i-firstText] = []byte(text)
	return err
}
