package command_test

import (
	"errors"
	"maps"
	"slices"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/money"
)

// modelAccount is an account in its simplest form.
type modelAccount struct {
	status               string // "", "active", "suspended" or "closed"
	currency             string
	balance, limit, held int64
	version              int64
}

func (a *modelAccount) frozen() string {
	switch a.status {
	case "suspended":
		return account.CodeAccountSuspended
	case "closed":
		return account.CodeAccountClosed
	}
	return ""
}

// modelHold is a hold that was placed.
type modelHold struct {
	account uuid.UUID
	amount  int64
	ended   bool
}

// modelMove is a movement of money; the id of outside is nil.
type modelMove struct {
	from, to uuid.UUID
	left     int64 // not reversed yet
	// position is 0 until an answer contains it. The other side of a transfer is at the next.
	position int64
}

// model is all accounts, holds and movements.
type model struct {
	accounts  map[uuid.UUID]*modelAccount
	holds     map[uuid.UUID]*modelHold
	transfers map[uuid.UUID]bool
	moves     []modelMove
}

func newModel(ids []uuid.UUID) *model {
	m := &model{make(map[uuid.UUID]*modelAccount), make(map[uuid.UUID]*modelHold), make(map[uuid.UUID]bool), nil}
	for _, id := range ids {
		m.accounts[id] = new(modelAccount)
	}
	return m
}

func (m *model) clone() *model {
	c := &model{make(map[uuid.UUID]*modelAccount), make(map[uuid.UUID]*modelHold), maps.Clone(m.transfers), slices.Clone(m.moves)}
	for id, a := range m.accounts {
		c.accounts[id] = new(*a)
	}
	for id, h := range m.holds {
		c.holds[id] = new(*h)
	}
	return c
}

// apply applies a request to the model and returns "", or the code of its refusal, or "not found", "exists" or "version".
func (m *model) apply(r command.Request) string {
	if c, ok := r.Command.(account.Reverse); ok {
		return m.reverse(c)
	}
	a := m.accounts[r.AccountID]
	if r.IfVersions != nil && !slices.Contains(r.IfVersions, a.version) {
		if a.version == 0 {
			return "not found"
		}
		return "version"
	}
	code := m.command(a, r)
	if code == "" {
		a.version++
	}
	return code
}

func (m *model) command(a *modelAccount, r command.Request) string {
	switch c := r.Command.(type) {
	case account.Transfer:
		return m.transfer(a, r.AccountID, c)
	case account.CaptureHold:
		return m.capture(a, r.AccountID, c)
	case account.PlaceHold:
		return m.hold(a, r.AccountID, c)
	case account.ReleaseHold:
		h := m.holds[c.HoldID]
		switch {
		case h == nil || h.account != r.AccountID:
			return "not found"
		case h.ended:
			return account.CodeHoldNotOpen
		}
		h.ended = true
		a.held -= h.amount
		return ""
	case account.Open:
		if a.status != "" {
			return "exists"
		}
		a.status, a.currency = "active", c.Currency.Code()
		if c.OverdraftLimit != nil {
			a.limit = minor(*c.OverdraftLimit, a.currency)
		}
		return ""
	}
	if a.status == "" {
		return "not found"
	}
	switch c := r.Command.(type) {
	case account.Deposit:
		return m.move(uuid.Nil, r.AccountID, minor(c.Amount, a.currency))
	case account.Withdraw:
		return m.move(r.AccountID, uuid.Nil, minor(c.Amount, a.currency))
	case account.Suspend:
		if a.frozen() != "" {
			return a.frozen()
		}
		a.status = "suspended"
	case account.Reactivate:
		if a.status == "active" {
			return account.CodeAccountNotSuspended
		}
		if a.status == "closed" {
			return account.CodeAccountClosed
		}
		a.status = "active"
	case account.Close:
		if a.status == "closed" {
			return account.CodeAccountClosed
		}
		if a.balance != 0 {
			return account.CodeBalanceNotZero
		}
		if a.held != 0 {
			return account.CodeHoldsOpen
		}
		a.status = "closed"
	}
	return ""
}

// move moves money on accounts that exist, and records the movement.
func (m *model) move(from, to uuid.UUID, amount int64) string {
	for _, id := range []uuid.UUID{from, to} {
		if a := m.accounts[id]; a != nil && a.frozen() != "" {
			return a.frozen()
		}
	}
	if a := m.accounts[from]; a != nil {
		if amount > a.balance+a.limit-a.held {
			return account.CodeInsufficientFunds
		}
		a.balance -= amount
	}
	if a := m.accounts[to]; a != nil {
		a.balance += amount
	}
	m.moves = append(m.moves, modelMove{from: from, to: to, left: amount})
	return ""
}

func (m *model) transfer(from *modelAccount, id uuid.UUID, c account.Transfer) string {
	to := m.accounts[c.To]
	switch {
	case m.transfers[c.TransferID]:
		return "exists"
	case from == to:
		return account.CodeSameAccount
	case from.status == "" || to.status == "":
		return "not found"
	case from.frozen() != "":
		return from.frozen()
	case to.frozen() != "":
		return to.frozen()
	case from.currency != to.currency:
		return account.CodeCurrencyMismatch
	}
	if code := m.move(id, c.To, minor(c.Amount, from.currency)); code != "" {
		return code
	}
	m.transfers[c.TransferID] = true
	to.version++
	return ""
}

func (m *model) hold(a *modelAccount, id uuid.UUID, c account.PlaceHold) string {
	switch {
	case m.holds[c.HoldID] != nil:
		return "exists"
	case a.status == "":
		return "not found"
	case a.frozen() != "":
		return a.frozen()
	}
	amount := minor(c.Amount, a.currency)
	if amount > a.balance+a.limit-a.held {
		return account.CodeInsufficientFunds
	}
	a.held += amount
	m.holds[c.HoldID] = &modelHold{account: id, amount: amount}
	return ""
}

func (m *model) capture(a *modelAccount, id uuid.UUID, c account.CaptureHold) string {
	h, to := m.holds[c.HoldID], m.accounts[c.To]
	if h != nil && h.account != id {
		h = nil
	}
	switch {
	case h != nil && h.ended:
		return account.CodeHoldNotOpen
	case a == to:
		return account.CodeSameAccount
	case a.status == "" || to != nil && to.status == "":
		return "not found"
	case a.frozen() != "":
		return a.frozen()
	case h == nil:
		return "not found"
	}
	amount := h.amount
	if c.Amount != nil {
		if amount = minor(*c.Amount, a.currency); amount > h.amount {
			return account.CodeAmountAboveHold
		}
	}
	if to != nil {
		if to.frozen() != "" {
			return to.frozen()
		}
		if to.currency != a.currency {
			return account.CodeCurrencyMismatch
		}
		to.version++
	}
	h.ended = true
	a.held -= h.amount
	a.version++
	return m.move(id, c.To, amount)
}

func (m *model) reverse(c account.Reverse) string {
	n := slices.IndexFunc(m.moves, func(v modelMove) bool {
		return v.position == c.Position || v.from != uuid.Nil && v.to != uuid.Nil && v.position+1 == c.Position
	})
	if n < 0 {
		return "not found"
	}
	v := &m.moves[n]
	own, other := m.accounts[v.from], m.accounts[v.to]
	if own == nil || v.position != c.Position {
		own, other = other, own
	}
	amount := v.left
	if c.Amount != nil {
		amount = minor(*c.Amount, own.currency)
	}
	switch {
	case v.left == 0:
		return account.CodeAlreadyReversed
	case amount > v.left:
		return account.CodeAmountAboveMovement
	case own.frozen() != "":
		return own.frozen()
	case other != nil && other.frozen() != "":
		return other.frozen()
	}
	if to := m.accounts[v.to]; to != nil {
		if amount > to.balance+to.limit-to.held {
			return account.CodeInsufficientFunds
		}
		to.balance -= amount
		to.version++
	}
	if from := m.accounts[v.from]; from != nil {
		from.balance += amount
		from.version++
	}
	v.left -= amount
	return ""
}

// learn sets the positions of the movements from the answers, in order.
func (m *model) learn(results ...command.Result) {
	n := slices.IndexFunc(m.moves, func(v modelMove) bool { return v.position == 0 })
	for _, result := range results {
		for _, e := range result.Events {
			switch e.Event.(type) {
			case account.MoneyDeposited, account.MoneyWithdrawn, account.TransferSent:
				m.moves[n].position = e.Position
				n++
			}
		}
	}
}

func minor(d money.Decimal, code string) int64 {
	a, err := d.In(currency(code))
	if err != nil {
		panic(err)
	}
	return a.Minor()
}

// codeOf returns the model's name of an error of Do.
func codeOf(err error) string {
	var refusal *account.Refusal
	var version *command.VersionError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &version):
		return "version"
	case errors.Is(err, account.ErrNotFound), errors.Is(err, account.ErrHoldNotFound), errors.Is(err, account.ErrMovementNotFound):
		return "not found"
	case errors.Is(err, account.ErrExists), errors.Is(err, account.ErrTransferExists), errors.Is(err, account.ErrHoldExists):
		return "exists"
	}
	return "unexpected: " + err.Error()
}
