package account

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// Decide returns the events that carry out a command on an account in the given state; today always exactly one.
// It decides every command but Transfer. The error is ErrNotFound, ErrExists or a *Refusal.
func Decide(s State, c Command) ([]Event, error) {
	e, err := decide(s, c)
	if err != nil {
		return nil, err
	}
	return []Event{e}, nil
}

func decide(s State, c Command) (Event, error) {
	if open, ok := c.(Open); ok {
		return decideOpen(s, open)
	}
	if !s.Exists() {
		return nil, ErrNotFound
	}
	switch c := c.(type) {
	case Deposit:
		return decideDeposit(s, c)
	case Withdraw:
		return decideWithdraw(s, c)
	case Suspend:
		return decideSuspend(s, c)
	case Reactivate:
		return decideReactivate(s, c)
	case Close:
		return decideClose(s, c)
	default:
		return nil, fmt.Errorf("account: Decide was given a %T", c)
	}
}

func decideOpen(s State, c Open) (Event, error) {
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
	var limit int64
	if c.OverdraftLimit != nil {
		a, err := amountIn(*c.OverdraftLimit, c.Currency, FieldOverdraftLimit)
		if err != nil {
			return nil, err
		}
		limit = a.Minor()
	}
	return AccountCreated{Owner: owner, Currency: c.Currency, OverdraftLimit: limit}, nil
}

func decideDeposit(s State, c Deposit) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	amount, err := movement(s, c.Amount, c.Currency, c.Reference)
	if err != nil {
		return nil, err
	}
	if err := creditable(s, amount); err != nil {
		return nil, err
	}
	return MoneyDeposited{Amount: amount, Reference: c.Reference}, nil
}

func decideWithdraw(s State, c Withdraw) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	amount, err := movement(s, c.Amount, c.Currency, c.Reference)
	if err != nil {
		return nil, err
	}
	if err := debitable(s, amount); err != nil {
		return nil, err
	}
	return MoneyWithdrawn{Amount: amount, Reference: c.Reference}, nil
}

func decideSuspend(s State, c Suspend) (Event, error) {
	if err := movable(s, ""); err != nil {
		return nil, err
	}
	if err := checkText(FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountSuspended(c), nil
}

func decideReactivate(s State, c Reactivate) (Event, error) {
	switch s.Status {
	case Closed:
		return nil, closed("")
	case Active, Missing:
		return nil, refuse(CodeAccountNotSuspended, "", "the account is not suspended")
	case Suspended:
	}
	if err := checkText(FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountReactivated(c), nil
}

func decideClose(s State, c Close) (Event, error) {
	if s.Status == Closed {
		return nil, closed("")
	}
	if s.Balance != 0 {
		return nil, refuse(CodeBalanceNotZero, "", "the balance is %s %s; an account is closed at zero",
			money.FormatMinor(s.Balance, s.Currency), s.Currency)
	}
	if err := checkText(FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return AccountClosed(c), nil
}

// DecideTransfer returns the event of each side of a transfer from the account fromID to t.To; they must be recorded
// together or not at all. The error is a *NotFoundError or a *Refusal.
func DecideTransfer(fromID uuid.UUID, from, to State, t Transfer) (TransferSent, TransferReceived, error) {
	amount, err := decideTransfer(fromID, from, to, t)
	if err != nil {
		return TransferSent{}, TransferReceived{}, err
	}
	sent := TransferSent{TransferID: t.TransferID, To: t.To, Amount: amount, Reference: t.Reference}
	received := TransferReceived{TransferID: t.TransferID, From: fromID, Amount: amount, Reference: t.Reference}
	return sent, received, nil
}

func decideTransfer(fromID uuid.UUID, from, to State, t Transfer) (money.Amount, error) {
	var none money.Amount
	if fromID == t.To {
		return none, refuse(CodeSameAccount, FieldTo, "a transfer needs two different accounts")
	}
	if !from.Exists() {
		return none, &NotFoundError{AccountID: fromID}
	}
	if !to.Exists() {
		return none, &NotFoundError{AccountID: t.To}
	}
	if err := movable(from, FieldFrom); err != nil {
		return none, err
	}
	if err := movable(to, FieldTo); err != nil {
		return none, err
	}
	if from.Currency != to.Currency {
		return none, refuse(CodeCurrencyMismatch, FieldTo, "the receiving account is in %s and the sending one in %s",
			to.Currency, from.Currency)
	}
	amount, err := movement(from, t.Amount, t.Currency, t.Reference)
	if err != nil {
		return none, err
	}
	if err := debitable(from, amount); err != nil {
		return none, err
	}
	if err := creditable(to, amount); err != nil {
		return none, err
	}
	return amount, nil
}

// movable refuses unless money may move on the account; field is the one that named the account.
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

// movement checks what deposits, withdrawals and transfers have in common, and gives the amount its currency.
func movement(s State, d money.Decimal, given money.Currency, reference string) (money.Amount, error) {
	if !given.IsZero() && given != s.Currency {
		return money.Amount{}, refuse(CodeCurrencyMismatch, FieldCurrency, "the account is in %s, not %s",
			s.Currency, given)
	}
	amount, err := amountIn(d, s.Currency, FieldAmount)
	if err != nil {
		return money.Amount{}, err
	}
	if amount.IsZero() {
		return money.Amount{}, refuse(CodeAmountZero, FieldAmount, "amount must be more than zero")
	}
	return amount, checkText(FieldReference, reference, MaxTextLen)
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

func debitable(s State, amount money.Amount) error {
	if amount.Minor() <= s.Available() {
		return nil
	}
	return refuse(CodeInsufficientFunds, FieldAmount, "insufficient funds: %s %s available, %s needed",
		money.FormatMinor(s.Available(), s.Currency), s.Currency, amount)
}

func creditable(s State, amount money.Amount) error {
	if _, ok := s.afterCredit(amount.Minor()); ok {
		return nil
	}
	return refuse(CodeBalanceOverflow, FieldAmount,
		"amount %s would take the balance with its overdraft limit beyond %s %s, the most an account can hold",
		amount, money.FormatMinor(maxBalance, s.Currency), s.Currency)
}
