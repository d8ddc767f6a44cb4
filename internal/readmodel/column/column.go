// Package column says what the values in the columns of the read models mean. Package readmodel writes them, and package
// query reads them; neither may import the other.
package column

// The ids of the projections, as in live_generations.projection.
const (
	Balances     = "balances"
	Transactions = "transactions"
	Totals       = "totals"
	Holds        = "holds"
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

// HoldStatus is holds.status.
type HoldStatus byte

// The statuses of holds. All but HoldOpen are final.
const (
	HoldOpen     HoldStatus = 'o'
	HoldCaptured HoldStatus = 'c'
	HoldReleased HoldStatus = 'r'
	HoldExpired  HoldStatus = 'e'
)

// Kind is transactions.kind: what happened to the account.
type Kind byte

// The kinds. Only the first six move money: Deposit, TransferIn and ReversalIn bring it in, the other three take it out.
const (
	Deposit     Kind = 'd'
	Withdrawal  Kind = 'w'
	TransferIn  Kind = 'i'
	TransferOut Kind = 'o'
	ReversalIn  Kind = 'b'
	ReversalOut Kind = 'r'

	AccountOpened         Kind = 'O'
	AccountSuspended      Kind = 'S'
	AccountReactivated    Kind = 'R'
	AccountClosed         Kind = 'C'
	OwnerChanged          Kind = 'N'
	OverdraftLimitChanged Kind = 'L'
	MetadataChanged       Kind = 'M'
	Erased                Kind = 'E'

	KindHoldPlaced   Kind = 'h'
	KindHoldCaptured Kind = 'c'
	KindHoldReleased Kind = 'f'
	KindHoldExpired  Kind = 'e'
)
