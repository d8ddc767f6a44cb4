package account

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// Entry is an event and its account.
type Entry struct {
	AccountID uuid.UUID
	Event     Event
}

// Decide returns the events that carry out a command on the account id at the time now. There is at least one. They must be
// recorded together or not at all, in this order and next to each other. The events of the account id come first. A Reverse
// ignores id and takes the account of its Movement. Decide calls state for the states of the accounts that the command concerns.
// The error is ErrNotFound, ErrExists, ErrHoldExists, ErrHoldNotFound, ErrMovementNotFound, a *NotFoundError or a *Refusal.
func Decide(now time.Time, id uuid.UUID, c Command, state func(uuid.UUID) State) ([]Entry, error) {
	entries, err := decide(now, id, c, state)
	return withoutText(entries, state), err
}

func decide(now time.Time, id uuid.UUID, c Command, state func(uuid.UUID) State) ([]Entry, error) {
	switch c := c.(type) {
	case Transfer:
		return decideTransfer(id, state, c)
	case CaptureHold:
		return decideCapture(now, id, state, c)
	case Reverse:
		return decideReversal(state, c)
	}
	s := state(id)
	if open, ok := c.(Open); ok {
		return decideOpen(id, s, open)
	}
	if change, ok := c.(Change); ok {
		return decideChange(id, s, change)
	}
	e, err := decideOne(now, s, c)
	if err != nil {
		return nil, err
	}
	return []Entry{{id, e}}, nil
}

// decideOne decides the commands that make one event.
func decideOne(now time.Time, s State, c Command) (Event, error) {
	if !s.Exists() {
		return nil, ErrNotFound
	}
	switch c := c.(type) {
	case Deposit:
		return decideDeposit(s, c)
	case Withdraw:
		return decideWithdraw(s, c)
	case PlaceHold:
		return decideHold(now, s, c)
	case ReleaseHold:
		return decideRelease(s, c)
	case ExpireHold:
		return decideExpiry(now, s, c)
	case Suspend:
		return decideSuspend(s, c)
	case Reactivate:
		return decideReactivate(s, c)
	case Close:
		return decideClose(s, c)
	case EraseSubject:
		return decideErasure(s, c)
	default:
		return nil, fmt.Errorf("account: Decide was given a %T", c)
	}
}

func decideOpen(id uuid.UUID, s State, c Open) ([]Entry, error) {
	if s.Exists() {
		return nil, ErrExists
	}
	owner, err := checkOwner(c.Owner)
	if err != nil {
		return nil, err
	}
	if !c.Currency.Active() {
		return nil, refuse(CodeCurrencyUnknown, FieldCurrency, "currency must be an active ISO 4217 code, such as EUR")
	}
	created := AccountCreated{Owner: owner, Currency: c.Currency, Metadata: c.Metadata, SubjectID: c.SubjectID}
	if created.OverdraftLimit, err = limitIn(c.OverdraftLimit, c.Currency); err != nil {
		return nil, err
	}
	if err := checkMetadata(c.Metadata); err != nil {
		return nil, err
	}
	if c.InitialDeposit == nil {
		return []Entry{{id, created}}, nil
	}
	opened := State{Status: Active, Currency: c.Currency, OverdraftLimit: created.OverdraftLimit}
	amount, err := positive(*c.InitialDeposit, c.Currency, FieldInitialDeposit)
	if err != nil {
		return nil, err
	}
	if err := creditable(opened, amount, FieldInitialDeposit); err != nil {
		return nil, err
	}
	return []Entry{{id, created}, {id, MoneyDeposited{Amount: amount}}}, nil
}

// limitIn returns an overdraft limit in minor units; nil means 0.
func limitIn(limit *money.Decimal, c money.Currency) (int64, error) {
	if limit == nil {
		return 0, nil
	}
	a, err := amountIn(*limit, c, FieldOverdraftLimit)
	return a.Minor(), err
}

// decideChange returns an event for each field that is set.
func decideChange(id uuid.UUID, s State, c Change) ([]Entry, error) {
	switch s.Status {
	case Missing:
		return nil, ErrNotFound
	case Closed:
		return nil, closed(FieldAccount)
	case Active, Suspended:
	}
	if s.Erased && (c.Owner != nil || c.Metadata != nil || c.ClearMetadata) {
		return nil, erased("the account's subject has been erased, so its owner and metadata cannot change")
	}
	var entries []Entry
	if c.Owner != nil {
		owner, err := checkOwner(*c.Owner)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{id, OwnerChanged{Owner: owner}})
	}
	if c.OverdraftLimit != nil {
		e, err := decideLimit(s, *c.OverdraftLimit)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{id, e})
	}
	if c.Metadata != nil || c.ClearMetadata {
		before := s.Metadata
		if c.ClearMetadata {
			before = Metadata{}
		}
		merged := before.merge(c.Metadata)
		if err := checkMetadata(merged); err != nil {
			return nil, err
		}
		entries = append(entries, Entry{id, MetadataChanged{Metadata: merged}})
	}
	if len(entries) == 0 {
		return nil, refuse(CodeNothingToChange, "", "owner, overdraft_limit or metadata is needed")
	}
	return entries, nil
}

// decideLimit refuses to lower the limit below what the account has used or held. It may always be raised: after a forced
// reversal even a raised limit may not cover that yet.
func decideLimit(s State, limit money.Decimal) (Event, error) {
	minor, err := limitIn(&limit, s.Currency)
	if err != nil {
		return nil, err
	}
	after := s
	after.OverdraftLimit = minor
	if !after.Fits() {
		return nil, refuse(CodeBalanceOverflow, FieldOverdraftLimit,
			"the balance with this overdraft limit would be beyond %s %s, the most an account can hold",
			money.FormatMinor(maxBalance, s.Currency), s.Currency)
	}
	if after.Available() < 0 && minor < s.OverdraftLimit {
		return nil, refuse(CodeLimitBelowDebit, FieldOverdraftLimit,
			"the overdraft limit must be at least %s %s, which the account has used or held",
			money.FormatMinor(s.Held-s.Balance, s.Currency), s.Currency)
	}
	return OverdraftLimitChanged{OverdraftLimit: minor, Currency: s.Currency}, nil
}

func decideDeposit(s State, c Deposit) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	amount, err := movement(s, c.Amount, c.Currency, c.Reference, c.Metadata)
	if err != nil {
		return nil, err
	}
	if err := creditable(s, amount, FieldAmount); err != nil {
		return nil, err
	}
	return MoneyDeposited{Amount: amount, Reference: c.Reference, Metadata: c.Metadata}, nil
}

func decideWithdraw(s State, c Withdraw) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	amount, err := movement(s, c.Amount, c.Currency, c.Reference, c.Metadata)
	if err != nil {
		return nil, err
	}
	if err := debitable(s, amount, false); err != nil {
		return nil, err
	}
	return MoneyWithdrawn{Amount: amount, Reference: c.Reference, Metadata: c.Metadata}, nil
}

func decideSuspend(s State, c Suspend) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	if err := checkText(FieldReason, FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountSuspended(c), nil
}

func decideReactivate(s State, c Reactivate) (Event, error) {
	switch s.Status {
	case Closed:
		return nil, closed(FieldAccount)
	case Active, Missing:
		return nil, refuse(CodeAccountNotSuspended, FieldAccount, "the account is not suspended")
	case Suspended:
	}
	if err := checkText(FieldReason, FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountReactivated(c), nil
}

func decideClose(s State, c Close) (Event, error) {
	if s.Status == Closed {
		return nil, closed(FieldAccount)
	}
	if s.Balance != 0 {
		return nil, refuse(CodeBalanceNotZero, FieldAccount, "the balance is %s %s; an account is closed at zero",
			money.FormatMinor(s.Balance, s.Currency), s.Currency)
	}
	if n := len(s.Holds); n > 0 {
		return nil, refuse(CodeHoldsOpen, FieldAccount, "the account has open holds (%d); capture or release them first", n)
	}
	if err := checkText(FieldReason, FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountClosed(c), nil
}

// decideTransfer decides on the states of both accounts.
func decideTransfer(id uuid.UUID, state func(uuid.UUID) State, t Transfer) ([]Entry, error) {
	if id == t.To {
		return nil, refuse(CodeSameAccount, FieldTo, "a transfer needs two different accounts")
	}
	from, to := state(id), state(t.To)
	if !from.Exists() {
		return nil, &NotFoundError{AccountID: id, Field: FieldFrom}
	}
	if !to.Exists() {
		return nil, &NotFoundError{AccountID: t.To, Field: FieldTo}
	}
	if err := movable(from, FieldFrom); err != nil {
		return nil, err
	}
	if err := receivable(from, to); err != nil {
		return nil, err
	}
	amount, err := movement(from, t.Amount, t.Currency, t.Reference, t.Metadata)
	if err != nil {
		return nil, err
	}
	if err := debitable(from, amount, false); err != nil {
		return nil, err
	}
	if err := creditable(to, amount, FieldAmount); err != nil {
		return nil, err
	}
	return transferred(id, amount, t), nil
}

// transferred returns the two events of a transfer.
func transferred(id uuid.UUID, amount money.Amount, t Transfer) []Entry {
	return []Entry{
		{id, TransferSent{TransferID: t.TransferID, To: t.To, Amount: amount, Reference: t.Reference, Metadata: t.Metadata}},
		{t.To, TransferReceived{TransferID: t.TransferID, From: id, Amount: amount, Reference: t.Reference, Metadata: t.Metadata}},
	}
}

// receivable returns a refusal unless to may receive money from from.
func receivable(from, to State) error {
	if err := movable(to, FieldTo); err != nil {
		return err
	}
	if from.Currency != to.Currency {
		return refuse(CodeCurrencyMismatch, FieldTo, "the receiving account is in %s and the sending one in %s",
			to.Currency, from.Currency)
	}
	return nil
}

// movable returns an error unless money may move on the account; field is the request field that names it.
func movable(s State, field string) error {
	switch s.Status {
	case Active:
		return nil
	case Suspended:
		return refuse(CodeAccountSuspended, field, "the account is suspended; reactivate it first")
	case Closed:
		return closed(field)
	case Missing:
	}
	return ErrNotFound
}

func closed(field string) error {
	return refuse(CodeAccountClosed, field, "the account is closed")
}

// movement checks the fields that deposits, withdrawals, transfers and holds share, and returns the amount in its currency.
func movement(s State, d money.Decimal, given money.Currency, reference string, m Metadata) (money.Amount, error) {
	if !given.IsZero() && given != s.Currency {
		return money.Amount{}, refuse(CodeCurrencyMismatch, FieldCurrency, "the account is in %s, not %s",
			s.Currency, given)
	}
	amount, err := positive(d, s.Currency, FieldAmount)
	if err != nil {
		return money.Amount{}, err
	}
	if err := checkText(FieldReference, FieldReference, reference, MaxTextLen); err != nil {
		return money.Amount{}, err
	}
	return amount, checkMetadata(m)
}

func positive(d money.Decimal, c money.Currency, field string) (money.Amount, error) {
	amount, err := amountIn(d, c, field)
	if err == nil && amount.IsZero() {
		err = refuse(CodeAmountZero, field, "%s must be more than zero", field)
	}
	return amount, err
}

func amountIn(d money.Decimal, c money.Currency, field string) (money.Amount, error) {
	a, err := d.In(c)
	if err == nil {
		return a, nil
	}
	var pe *money.ParseError
	if !errors.As(err, &pe) {
		return a, fmt.Errorf("account: %s: %w", field, err)
	}
	code := CodeAmountTooPrecise
	if errors.Is(err, money.ErrOverflow) {
		code = CodeAmountOverflow
	}
	return a, refuse(code, field, "%s %s", field, pe.Detail)
}

// debitable refuses an amount that is not available. With force it only has to fit int64.
func debitable(s State, amount money.Amount, force bool) error {
	if amount.Minor() <= s.Available() {
		return nil
	}
	if _, fits := s.afterDebit(amount.Minor()); force && fits {
		return nil
	}
	return refuse(CodeInsufficientFunds, FieldAmount, "insufficient funds: %s %s available, %s needed",
		money.FormatMinor(s.Available(), s.Currency), s.Currency, amount)
}

func creditable(s State, amount money.Amount, field string) error {
	if _, ok := s.afterCredit(amount.Minor()); ok {
		return nil
	}
	return refuse(CodeBalanceOverflow, field,
		"%s %s would take the balance with its overdraft limit beyond %s %s, the most an account can hold",
		field, amount, money.FormatMinor(maxBalance, s.Currency), s.Currency)
}
