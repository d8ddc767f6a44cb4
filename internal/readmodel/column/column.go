// Package column says what the values in the columns of the read models mean. Package readmodel writes them, and package
// query reads them; neither may import the other.
package column

// The ids of the projections, as in live_generations.projection.
const (
	Balances     = "balances"
	Transactions = "transactions"
	Totals       = "totals"
	Stats        = "stats"
)

// Status is balances.status: whether money may move on the account.
type Status string

// The statuses.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
	Closed    Status = "closed"
)

// StatusCode is transactions.status, a Status in one byte.
type StatusCode byte

// The codes of the statuses.
const (
	ActiveCode    StatusCode = 'a'
	SuspendedCode StatusCode = 's'
	ClosedCode    StatusCode = 'c'
)

// Status returns the status that the code stands for, or "" if there is none.
func (c StatusCode) Status() Status {
	switch c {
	case ActiveCode:
		return Active
	case SuspendedCode:
		return Suspended
	case ClosedCode:
		return Closed
	}
	return ""
}

// Kind is transactions.kind: what happened to the account.
type Kind byte

// The kinds. Money moves with the first four only.
const (
	Deposit     Kind = 'd'
	Withdrawal  Kind = 'w'
	TransferIn  Kind = 'i'
	TransferOut Kind = 'o'

	AccountOpened      Kind = 'O'
	AccountSuspended   Kind = 'S'
	AccountReactivated Kind = 'R'
	AccountClosed      Kind = 'C'
)
