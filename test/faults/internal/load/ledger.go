package load

import (
	"math/rand/v2"
	"strconv"
	"time"

	"passbook/test/faults/internal/oracle"
)

const mergePatch = "application/merge-patch+json"

// held is a hold that was placed.
type held struct {
	account, id string
	amount      int64
}

// movement is money that was moved. Of a transfer it is one side; other is the account of the other side.
type movement struct {
	account, other   string
	position, amount int64
	credit           bool
}

// otherSide returns the other side of a transfer. The sending side comes first.
func (m movement) otherSide() movement {
	other := movement{m.other, m.account, m.position + 1, m.amount, !m.credit}
	if m.credit {
		other.position = m.position - 1
	}
	return other
}

// maxRemembered is how many holds and movements are remembered. What was used is not forgotten, so that a hold is also ended twice
// and a movement reversed beyond its amount, which has to be refused. A movement that was reversed is remembered twice.
const maxRemembered = 100

// remember keeps what an applied command makes possible. The caller holds l.mu.
func (l *Load) remember(c *command) {
	at := c.receipt.Position
	moved := movement{account: c.account, position: at, amount: c.amount}
	switch c.kind {
	case "hold":
		l.holds = latest(append(l.holds, held{c.account, c.hold, c.amount}))
		return
	case "deposit":
		moved.credit = true
	case "withdraw":
	case "transfer":
		moved.position, moved.other = c.receipt.From.Position, c.to
	case "capture":
		amount, err := minor(c.receipt.Captured)
		if err != nil {
			return
		}
		if moved.amount = amount; c.to != "" {
			moved.position, moved.other = at-1, c.to
		}
	case "reverse":
		moved = c.reversed
	default:
		return
	}
	l.movements = latest(append(l.movements, moved))
}

func latest[T any](all []T) []T { return all[max(0, len(all)-maxRemembered):] }

// randomLedger makes c a command on a hold, a reversal or a change. It returns false if there is
// nothing yet to capture, release or reverse.
func (l *Load) randomLedger(rng *rand.Rand, c *command) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch p := rng.IntN(100); {
	case p < 35:
		c.kind, c.hold = "hold", newID(rng)
		if rng.IntN(3) == 0 {
			c.expires = time.Now().Add(time.Second + time.Duration(rng.Int64N(int64(time.Second)))).UTC().Truncate(time.Microsecond)
		}
	case p < 65:
		if len(l.holds) == 0 {
			return false
		}
		h := l.holds[rng.IntN(len(l.holds))]
		c.account, c.hold = h.account, h.id
		if c.kind = "release"; p < 55 {
			c.kind, c.whole, c.amount = "capture", rng.IntN(2) == 0, h.amount
			if !c.whole {
				c.amount = 1 + rng.Int64N(h.amount)
			}
			if rng.IntN(2) == 0 {
				c.to = l.sameCurrency(rng, h.account)
			}
		}
	case p < 88:
		if len(l.movements) == 0 {
			return false
		}
		m := l.movements[rng.IntN(len(l.movements))]
		if m.other != "" && rng.IntN(2) == 0 {
			m = m.otherSide()
		}
		c.kind, c.account, c.reversed = "reverse", m.account, m
		c.whole, c.amount, c.forced = rng.IntN(2) == 0, 1+rng.Int64N(m.amount), rng.IntN(8) == 0
	default:
		c.kind, c.renames, c.sets, c.limit = "change", rng.IntN(2) == 0, rng.IntN(2) == 0, rng.Int64N(3000)
	}
	return true
}

// sameCurrency returns another account of the currency of an account: every second one is.
func (l *Load) sameCurrency(rng *rand.Rand, id string) string {
	n := 0
	for i := range l.accounts {
		if l.accounts[i].id == id {
			n = i
		}
	}
	return l.accounts[(n+2+2*rng.IntN(len(l.accounts)/2-1))%len(l.accounts)].id
}

func (c *command) mediaType() string {
	if c.kind == "change" {
		return mergePatch
	}
	return "application/json"
}

// ledgerFields are fields of the commands of randomLedger, and of those that have a reason only.
func (c *command) ledgerFields() map[string]any {
	fields := make(map[string]any)
	switch c.kind {
	case "hold":
		fields["reference"], fields["hold_id"], fields["amount"] = c.key, c.hold, decimal(c.amount)
		if !c.expires.IsZero() {
			fields["expires_at"] = c.expires.Format(time.RFC3339Nano)
		}
		return fields
	case "capture":
		fields["reference"] = c.key
		if c.to != "" {
			fields["to_account_id"] = c.to
		}
	case "change":
		fields["metadata"] = map[string]string{"key": c.key}
		if c.renames {
			fields["owner"] = c.key
		}
		if c.sets {
			fields["overdraft_limit"] = decimal(c.limit)
		}
		return fields
	case "reverse":
		fields["reason"], fields["position"] = c.key, c.reversed.position
		if c.forced {
			fields["force"] = true
		}
	default:
		fields["reason"] = c.key
		return fields
	}
	if !c.whole {
		fields["amount"] = decimal(c.amount)
	}
	return fields
}

// ledgerSteps are the steps of the commands of randomLedger; one has what all steps have in common.
func (c *command) ledgerSteps(one oracle.Step) []oracle.Step {
	switch one.Hold = c.hold; c.kind {
	case "hold":
		if c.code == "expiry-in-past" || c.code == "too-many-holds" {
			return nil
		}
	case "capture":
		return c.captureSteps(one)
	case "reverse":
		return c.reversalSteps(one)
	case "change":
		if c.fate == oracle.Refused {
			one.SetsLimit = c.sets
			return []oracle.Step{one}
		}
		changes := c.changes()
		steps := make([]oracle.Step, len(changes))
		for i, setsLimit := range changes {
			steps[i] = one
			steps[i].SetsLimit = setsLimit
			if c.fate == oracle.Applied {
				steps[i].Version = one.Version - int64(len(changes)-1-i)
			}
		}
		return steps
	}
	return []oracle.Step{one}
}

// changes says of each event of a change whether it sets the limit: the owner, the limit, the metadata.
func (c *command) changes() []bool {
	var events []bool
	if c.renames {
		events = append(events, false)
	}
	if c.sets {
		events = append(events, true)
	}
	return append(events, false)
}

func (c *command) captureSteps(one oracle.Step) []oracle.Step {
	switch {
	case c.fate == oracle.Refused && (c.to != "" && c.code != "hold-not-open" || c.code == "hold-expired"):
		return nil // because of either account, or of the time
	case c.fate == oracle.Refused:
		return []oracle.Step{one}
	}
	if amount, err := minor(c.receipt.Captured); err == nil && c.fate == oracle.Applied {
		one.Amount = amount
	}
	debit := one
	debit.Kind, debit.Forced = "debit", true
	if c.fate == oracle.Applied {
		one.Version--
	}
	steps := []oracle.Step{one, debit}
	if c.to != "" {
		credit := debit
		credit.Account, credit.Kind, credit.Version, credit.Position = c.to, "credit", 0, c.receipt.Position
		steps = append(steps, credit)
	}
	return steps
}

// reversal returns the kind and the movement of the step that reverses it.
func (m movement) reversal() (kind, id string) {
	kind = "give-back"
	if m.credit {
		kind = "take-back"
	}
	return kind, strconv.FormatInt(m.position, 10)
}

func (c *command) reversalSteps(one oracle.Step) []oracle.Step {
	m := c.reversed
	if m.other != "" && c.fate == oracle.Refused {
		return nil // because of either account
	}
	one.Moved, one.Whole, one.Forced = m.amount, c.whole, c.forced
	one.Kind, one.Movement = m.reversal()
	if amount, err := minor(c.receipt.Amount); err == nil && c.fate == oracle.Applied {
		one.Amount = amount
	}
	if m.other == "" {
		return []oracle.Step{one}
	}
	back := one
	back.Account = m.other
	back.Kind, back.Movement = m.otherSide().reversal()
	if c.fate == oracle.Applied {
		back.Version, back.Position = 0, c.receipt.Position
	}
	return []oracle.Step{one, back}
}
