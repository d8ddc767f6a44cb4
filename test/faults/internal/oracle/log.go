package oracle

import "fmt"

// checker collects violations, a bounded number of each kind, since one cause can break many rows.
type checker struct {
	found []Violation
	count map[string]int
}

const mostOfAKind = 5

func (c *checker) violated(invariant, format string, args ...any) {
	if c.count == nil {
		c.count = make(map[string]int)
	}
	kind := invariant + format
	if c.count[kind]++; c.count[kind] <= mostOfAKind {
		c.found = append(c.found, Violation{Invariant: invariant, Detail: fmt.Sprintf(format, args...)})
	}
}

// checkLog checks the log alone: I1, I3 and I8. It returns the events by the key of their command.
func (c *checker) checkLog(events []event) map[string][]*event {
	byMark, ids := make(map[string][]*event), make(map[string]bool, len(events))
	b := newBooks()
	for i := range events {
		e := &events[i]
		if want := int64(i) + 1; e.position != want {
			c.violated("I1", "found position %d instead of %d", e.position, want)
		}
		if i > 0 && e.recorded.Before(events[i-1].recorded) {
			c.violated("I1", "position %d has an earlier time than the one before it", e.position)
		}
		if ids[e.id] {
			c.violated("I2", "event %s is in the log twice", e.id)
		}
		ids[e.id] = true
		if err := b.apply(e); err != nil {
			c.violated("I3", "position %d: %v", e.position, err)
		}
		c.checkTransfer(events, i)
		c.checkMoney(b, events, i)
		if mark := e.mark(); mark != "" {
			byMark[mark] = append(byMark[mark], e)
		}
	}
	return byMark
}

// checkTransfer checks that the two events of a transfer are adjacent and agree.
func (c *checker) checkTransfer(events []event, i int) {
	switch e := &events[i]; e.kind {
	case "TransferSent":
		if i+1 == len(events) || events[i+1].kind != "TransferReceived" || events[i+1].payload.TransferID != e.payload.TransferID {
			c.violated("I8", "position %d: a transfer that is not received", e.position)
			return
		}
		got := &events[i+1]
		if got.payload.Amount != e.payload.Amount || got.stream != e.payload.To || got.payload.From != e.stream {
			c.violated("I8", "position %d: %d sent and %d received", e.position, e.payload.Amount, got.payload.Amount)
		}
	case "TransferReceived":
		if i == 0 || events[i-1].kind != "TransferSent" || events[i-1].payload.TransferID != e.payload.TransferID {
			c.violated("I8", "position %d: a transfer that was not sent", e.position)
		}
	}
}

// checkMoney checks that balances add up to deposits less withdrawals, except between the two events of a transfer.
func (c *checker) checkMoney(b *books, events []event, i int) {
	e := &events[i]
	if e.sign() == 0 || e.kind == "TransferSent" {
		return
	}
	for currency, p := range b.purses {
		if p.balance != p.deposited-p.withdrawn {
			c.violated("I8", "at position %d balances in %s add up to %d; deposits less withdrawals are %d", e.position, currency,
				p.balance, p.deposited-p.withdrawn)
		}
	}
}
