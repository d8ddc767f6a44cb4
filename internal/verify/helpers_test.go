package verify_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

var (
	ada    = uuid.MustParse("00000000-0000-4000-8000-00000000000a")
	bob    = uuid.MustParse("00000000-0000-4000-8000-00000000000b")
	cleo   = uuid.MustParse("00000000-0000-4000-8000-00000000000c")
	dora   = uuid.MustParse("00000000-0000-4000-8000-00000000000d")
	eve    = uuid.MustParse("00000000-0000-4000-8000-00000000000e")
	third  = uuid.MustParse("00000000-0000-4000-8000-0000000000f3")
	usd, _ = money.LookupCurrency("USD")
	first  = uuid.MustParse("00000000-0000-4000-8000-0000000000f1")
	second = uuid.MustParse("00000000-0000-4000-8000-0000000000f2")
	eur, _ = money.LookupCurrency("EUR")
	jpy, _ = money.LookupCurrency("JPY")
)

func cents(n int64) money.Amount { return money.New(n, eur) }

// hold returns the id of the n-th hold.
func hold(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-0000000000e%d", n))
}

func labels(value string) account.Metadata {
	return account.NewMetadata(map[string]string{"k": value, "<": "ü\""})
}

// back returns the reversal of the movement at a position.
func back(n byte, position, minor int64) account.Reversal {
	return account.Reversal{ReversalID: uuid.UUID{15: n}, ReversedPosition: position, Amount: money.New(minor, usd)}
}

// backBetween returns one side of the reversal of the transfer third.
func backBetween(n byte, position, minor int64, other uuid.UUID) account.Reversal {
	r := back(n, position, minor)
	r.TransferID, r.Counterparty = third, other
	return r
}

// forced returns the reversal as a forced one.
func forced(r account.Reversal) account.Reversal {
	r.Forced = true
	return r
}

// books writes a small log in one append.
func books(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	pgtest.Append(t, eventstore.New(pool), bookEvents(t)...)
}

func bookEvents(t *testing.T) []eventstore.NewEvent {
	t.Helper()
	dollars := func(minor int64) money.Amount { return money.New(minor, usd) }
	expires := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	versions := make(map[uuid.UUID]int64)
	var events []eventstore.NewEvent
	for _, h := range []struct {
		id    uuid.UUID
		event account.Event
	}{
		{ada, account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: 500}},                                                 // 1
		{bob, account.AccountCreated{Owner: "Bob", Currency: eur}},                                                                      // 2
		{cleo, account.AccountCreated{Owner: "Cleo", Currency: jpy}},                                                                    // 3
		{ada, account.MoneyDeposited{Amount: cents(1000), Reference: "pay"}},                                                            // 4
		{ada, account.TransferSent{TransferID: first, To: bob, Amount: cents(1200)}},                                                    // 5
		{bob, account.TransferReceived{TransferID: first, From: ada, Amount: cents(1200)}},                                              // 6
		{bob, account.MoneyWithdrawn{Amount: cents(700)}},                                                                               // 7
		{bob, account.AccountSuspended{Reason: "why"}},                                                                                  // 8
		{bob, account.AccountReactivated{}},                                                                                             // 9
		{cleo, account.MoneyDeposited{Amount: money.New(9, jpy)}},                                                                       // 10
		{cleo, account.MoneyWithdrawn{Amount: money.New(9, jpy)}},                                                                       // 11
		{cleo, account.AccountClosed{Reason: "done"}},                                                                                   // 12
		{bob, account.TransferSent{TransferID: second, To: ada, Amount: cents(1), Reference: "a\"b"}},                                   // 13
		{ada, account.TransferReceived{TransferID: second, From: bob, Amount: cents(1), Reference: "a\"b"}},                             // 14
		{ada, account.MoneyDeposited{Amount: cents(1 << 60), Reference: "more than a float holds exactly: \u00fc\t"}},                   // 15
		{dora, account.AccountCreated{Owner: "Dora", Currency: usd, OverdraftLimit: 100, Metadata: labels("v")}},                        // 16
		{eve, account.AccountCreated{Owner: "Ève Weiß ØøŁłĐđÐðĦħıŦŧŊŋĸÆæŒœÞþƏəƁɓƊɗƉɖƐɛƆɔƘƙƝɲƳƴƔɣ", Currency: usd}},                      // 17
		{dora, account.MoneyDeposited{Amount: dollars(1000), Metadata: labels("v")}},                                                    // 18
		{dora, account.HoldPlaced{HoldID: hold(1), Amount: dollars(300), Reference: "room", ExpiresAt: expires, Metadata: labels("v")}}, // 19
		{dora, account.HoldPlaced{HoldID: hold(2), Amount: dollars(50)}},                                                                // 20
		{dora, account.HoldPlaced{HoldID: hold(3), Amount: dollars(20), ExpiresAt: expires}},                                            // 21
		{dora, account.HoldCaptured{HoldID: hold(1), Amount: dollars(250), Released: 50}},                                               // 22
		{dora, account.TransferSent{TransferID: third, To: eve, Amount: dollars(250)}},                                                  // 23
		{eve, account.TransferReceived{TransferID: third, From: dora, Amount: dollars(250)}},                                            // 24
		{dora, account.HoldReleased{HoldID: hold(2), Amount: dollars(50), Reason: "why"}},                                               // 25
		{dora, account.HoldExpired{HoldID: hold(3), Amount: dollars(20)}},                                                               // 26
		{dora, account.HoldPlaced{HoldID: hold(4), Amount: dollars(40)}},                                                                // 27
		{dora, account.HoldPlaced{HoldID: hold(5), Amount: dollars(1)}},                                                                 // 28
		{dora, account.OwnerChanged{Owner: "Dörte"}},                                                                                    // 29
		{dora, account.OverdraftLimitChanged{OverdraftLimit: 60, Currency: usd}},                                                        // 30
		{dora, account.MetadataChanged{}},                                                                                               // 31
		{eve, account.MetadataChanged{Metadata: labels("w")}},                                                                           // 32
		{dora, account.DebitReversed{Reversal: backBetween(1, 23, 100, eve)}},                                                           // 33
		{eve, account.CreditReversed{Reversal: backBetween(1, 24, 100, dora)}},                                                          // 34
		{dora, account.CreditReversed{Reversal: back(2, 18, 7)}},                                                                        // 35
		{eve, account.MoneyWithdrawn{Amount: dollars(150), Metadata: labels("v")}},                                                      // 36
		{eve, account.DebitReversed{Reversal: back(3, 36, 5)}},                                                                          // 37
		{dora, account.CreditReversed{Reversal: forced(back(4, 18, 900))}},                                                              // 38
		{dora, account.HoldCaptured{HoldID: hold(4), Amount: dollars(40)}},                                                              // 39
		{dora, account.MoneyWithdrawn{Amount: dollars(40)}},                                                                             // 40
	} {
		e, err := eventjson.Encode(h.event)
		if err != nil {
			t.Fatal(err)
		}
		versions[h.id]++
		events = append(events, eventstore.NewEvent{
			StreamID: h.id, Version: versions[h.id],
			EventID: pgtest.EventID(h.id, versions[h.id]), Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload,
		})
	}
	return events
}

// project applies the log to all read models, in batches of at most a size.
func project(t *testing.T, pool *pgxpool.Pool, batch int) {
	t.Helper()
	engine, err := projector.New(projector.Config{
		Pool: pool, Log: eventstore.New(pool), Instance: "test", Batch: batch, Poll: time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, readmodel.Balances(), readmodel.Transactions(), readmodel.Totals(), readmodel.Holds(), readmodel.Stats())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = engine.Run(ctx) }()
	defer func() { stop(); <-ended }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		all, err := engine.Projections(ctx)
		if err != nil {
			t.Fatal(err)
		}
		behind := len(all) < 5
		for _, p := range all {
			behind = behind || p.Lag > 0
		}
		if !behind {
			return
		}
		<-tick.C
	}
}
