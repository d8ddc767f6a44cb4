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
	ids := make(map[string]bool, len(events))
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
		c.checkCapture(events, i)
		c.checkMoney(b, events, i)
	}
	return marked(events)
}

// marked returns the events by the key of their command. Some have no text of the caller: an initial deposit, whose account is
// opened by the event before, and the events before the movement of a capture and before the metadata of a change.
func marked(events []event) map[string][]*event {
	byMark := make(map[string][]*event)
	for i := range events {
		mark := events[i].mark()
		switch events[i].kind {
		case "HoldCaptured", "OverdraftLimitChanged":
			if i+1 < len(events) {
				mark = events[i+1].mark()
			}
		case "MoneyDeposited":
			if mark == "" && i > 0 && events[i].version == 2 && events[i-1].stream == events[i].stream {
				mark = events[i-1].mark()
			}
		}
		if mark != "" {
			byMark[mark] = append(byMark[mark], &events[i])
		}
	}
	return byMark
}

// checkCapture checks that the movement of a captured hold follows on it.
func (c *checker) checkCapture(events []event, i int) {
	e := &events[i]
	if e.kind != "HoldCaptured" {
		return
	}
	if i+1 < len(events) {
		next := &events[i+1]
		if (next.kind == "MoneyWithdrawn" || next.kind == "TransferSent") && next.stream == e.stream && next.payload.Amount == e.payload.Amount {
			return
		}
	}
	c.violated("I8", "position %d: a hold is captured, and its %d are not moved", e.position, e.payload.Amount)
}

// otherSide returns the other side of a transfer, or of the reversal of one: the event before or after that has the same id.
// after says which. Without a neighbour like that it returns nil.
func otherSide(events []event, i int) (other *event, after bool) {
	e := &events[i]
	matches := func(o *event) bool {
		return o.payload.TransferID == e.payload.TransferID && o.payload.ReversalID == e.payload.ReversalID && o.sign() == -e.sign()
	}
	before := i > 0 && matches(&events[i-1])
	if after = i+1 < len(events) && matches(&events[i+1]); before == after {
		return nil, false
	}
	if after {
		return &events[i+1], true
	}
	return &events[i-1], false
}

// checkTransfer checks that the two sides of a transfer, or of the reversal of one, are adjacent and agree.
func (c *checker) checkTransfer(events []event, i int) {
	e := &events[i]
	if e.payload.TransferID == "" {
		return
	}
	other, after := otherSide(events, i)
	switch {
	case other == nil:
		c.violated("I8", "position %d: %s without the other side beside it", e.position, e.kind)
	case e.kind == "TransferSent" && !after:
		c.violated("I8", "position %d: a transfer that is received before it is sent", e.position)
	case e.payload.Amount != other.payload.Amount || e.counterparty() != other.stream:
		c.violated("I8", "position %d: %s of %d on account %s, and on the other side %s of %d on account %s", e.position, e.kind,
			e.payload.Amount, e.stream, other.kind, other.payload.Amount, other.stream)
	}
}

// checkMoney checks that balances add up to deposits less withdrawals, and that as much was received as was sent, except between
// the two sides of a transfer or of a reversal.
func (c *checker) checkMoney(b *books, events []event, i int) {
	if events[i].sign() == 0 {
		return
	}
	if _, between := otherSide(events, i); between && events[i].payload.TransferID != "" {
		return
	}
	for currency, p := range b.purses {
		if p.balance != p.deposited-p.withdrawn || p.sent != p.received {
			c.violated("I8", "at position %d balances in %s add up to %d; deposits less withdrawals are %d, sent %d and received %d",
				events[i].position, currency, p.balance, p.deposited-p.withdrawn, p.sent, p.received)
		}
	}
}
