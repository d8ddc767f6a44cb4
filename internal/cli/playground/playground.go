// Package playground makes up the history of a small bank: months of accounts in several currencies, with salaries, rents, card
// payments, holds, reversals, overdrafts and closed accounts. Every event is decided by package account, as a command's would be.
package playground

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
)

// Days is how long the history is.
const Days = 180

// Summary is what a history has.
type Summary struct {
	Accounts, Currencies int
	From, To             time.Time
	// Example is an account with much to see.
	Example uuid.UUID
}

// History returns the events of the days before the day of now, in UTC. They are the same for the same seed and day.
func History(seed uint64, now time.Time) ([]eventstore.Event, Summary, error) {
	end := now.UTC().Truncate(24 * time.Hour)
	b := &bank{
		rng: rand.New(rand.NewPCG(seed, seed)), clock: end.AddDate(0, 0, -Days), end: end, //nolint:gosec // nothing secret
		states: make(map[uuid.UUID]account.State), versions: make(map[uuid.UUID]int64), index: account.NewIndex(),
	}
	for day := b.clock; day.Before(end) && b.err == nil; day = day.AddDate(0, 0, 1) {
		b.day(day)
	}
	if b.err != nil {
		return nil, Summary{}, fmt.Errorf("playground: %w", b.err)
	}
	return b.log, Summary{
		Accounts: len(b.states), Currencies: len(markets), Example: b.people[0].id,
		From: b.log[0].RecordedAt, To: b.log[len(b.log)-1].RecordedAt,
	}, nil
}

// bank is a history in the making.
type bank struct {
	rng      *rand.Rand
	clock    time.Time
	end      time.Time // the day after the last
	log      []eventstore.Event
	states   map[uuid.UUID]account.State
	versions map[uuid.UUID]int64
	index    *account.Index
	people   []*person
	shops    map[string][]uuid.UUID // by currency
	employer map[string]uuid.UUID
	landlord map[string]uuid.UUID
	holds    []hold
	spent    []int64 // positions of payments that may be reversed
	err      error   // of the first failure, after which nothing happens
}

// person is the account of a person.
type person struct {
	id       uuid.UUID
	currency money.Currency
}

// hold is one that ends on a day: captured, released or expired.
type hold struct {
	account, id, shop uuid.UUID
	amount            int64
	day               time.Time
	expires           bool
}

// newID returns a UUID of version 7 at the clock.
func (b *bank) newID() uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(b.clock.UnixMilli())<<16|b.rng.Uint64N(1<<16))
	binary.BigEndian.PutUint64(id[8:], b.rng.Uint64())
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

// do carries out a command on an account, and returns the position of its first event, or 0 if the rules refuse it.
func (b *bank) do(id uuid.UUID, c account.Command) (position int64) {
	if b.err != nil {
		return 0
	}
	b.clock = b.clock.Add(time.Duration(1+b.rng.IntN(50)) * time.Second).Add(time.Duration(b.rng.IntN(1e6)) * time.Microsecond)
	if reverse, ok := c.(account.Reverse); ok {
		b.index.Want(c)
		event := &b.log[reverse.Position-1]
		id = event.StreamID
		b.index.Add(reverse.Position, id, event.Decoded.(account.Event))
	}
	c, err := b.index.Complete(id, c, b.newID)
	var entries []account.Entry
	if err == nil {
		entries, err = account.Decide(b.clock, id, c, func(id uuid.UUID) account.State { return b.states[id] })
	}
	if _, refused := errors.AsType[*account.Refusal](err); refused {
		return 0
	}
	if err != nil {
		b.err = fmt.Errorf("%s: %w", c.Name(), err)
		return 0
	}
	position = int64(len(b.log)) + 1
	for _, entry := range entries {
		if b.err = b.append(entry); b.err != nil {
			return 0
		}
	}
	return position
}

func (b *bank) append(entry account.Entry) error {
	state, err := account.Evolve(b.states[entry.AccountID], entry.Event)
	if err != nil {
		return err
	}
	encoded, err := eventjson.Encode(entry.Event)
	if err != nil {
		return err
	}
	b.states[entry.AccountID] = state
	b.versions[entry.AccountID]++
	b.index.Apply(entry.AccountID, entry.Event)
	e := eventstore.Event{
		Position: int64(len(b.log)) + 1, StreamID: entry.AccountID, Version: b.versions[entry.AccountID], EventID: b.newID(),
		Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload, Metadata: []byte(`{}`),
		RecordedAt: b.clock, Decoded: entry.Event,
	}
	if e.Version%eventstore.SnapshotEvery == 0 {
		snapshot, err := eventjson.MarshalState(state)
		if err != nil {
			return err
		}
		e.Metadata = fmt.Appendf(nil, `{"state":%s}`, snapshot)
	}
	b.log = append(b.log, e)
	return nil
}

// amount returns an amount of minor units as a command has it.
func (b *bank) amount(minor int64, c money.Currency) money.Decimal {
	d, err := money.ParseDecimal(money.FormatMinor(minor, c))
	if err != nil && b.err == nil {
		b.err = err
	}
	return d
}
