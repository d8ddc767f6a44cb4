package readmodel_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

func TestStats(t *testing.T) {
	t.Parallel()
	jpy, _ := money.LookupCurrency("JPY")
	yen := money.New(7, jpy)
	ids := make([]uuid.UUID, 5)
	for i := range ids {
		ids[i] = uuid.New()
	}
	const most = 1<<63 - 1
	var log []happening
	for i, id := range ids {
		currency := eur
		if i == 4 {
			currency = jpy
		}
		log = append(log, happening{id, account.AccountCreated{Owner: "o", Currency: currency}})
	}
	log = append(log,
		happening{ids[0], account.MoneyDeposited{Amount: cents(most)}},
		happening{ids[0], account.MoneyWithdrawn{Amount: cents(most)}},
		happening{ids[0], account.MoneyDeposited{Amount: cents(3)}},
		happening{ids[0], account.TransferSent{TransferID: uuid.New(), To: ids[1], Amount: cents(3)}},
		happening{ids[1], account.TransferReceived{TransferID: uuid.New(), From: ids[0], Amount: cents(3)}},
		happening{ids[4], account.MoneyDeposited{Amount: yen}},
		happening{ids[2], account.AccountSuspended{}},
		happening{ids[2], account.AccountReactivated{}},
		happening{ids[1], account.AccountSuspended{}},
		happening{ids[2], account.AccountClosed{}}, // from active
		happening{ids[3], account.AccountSuspended{}},
		happening{ids[3], account.AccountClosed{}}, // from suspended
	)
	pool := pgtest.New(t)
	recorded := appendAll(t, pool, log)
	stats := readmodel.NewStats()
	engine, err := projector.New(projector.Config{
		Pool: pool, Log: eventstore.New(pool), Instance: "test", Poll: time.Millisecond, Batch: 4,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, stats.Projection)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan struct{})
	go func() { _ = engine.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	n := int64(len(log))
	for stats.At(recorded).Position < n {
		if ctx.Err() != nil {
			t.Fatalf("it is at %d of %d", stats.At(recorded).Position, n)
		}
		<-ticker.C
	}

	want := readmodel.Snapshot{Position: n, Active: 2, Suspended: 1, Closed: 2}
	if diff := cmp.Diff(want, stats.At(recorded)); diff != "" {
		t.Errorf("in the second that is not over (-want +got):\n%s", diff)
	}
	want.Moved = []readmodel.Moved{
		{Currency: "EUR", Amount: "184467440737095516.20", Movements: 4}, {Currency: "JPY", Amount: "7", Movements: 1},
	}
	for _, tt := range []struct {
		after    time.Duration
		one, ten float64
	}{{time.Second, float64(n), float64(n) / 10}, {2 * time.Second, 0, float64(n) / 10}, {10 * time.Second, 0, float64(n) / 10}, {11 * time.Second, 0, 0}, {60 * time.Second, 0, 0}} {
		want.Last1, want.Last10, want.Last60 = tt.one, tt.ten, float64(n)/60
		if diff := cmp.Diff(want, stats.At(recorded.Add(tt.after))); diff != "" {
			t.Errorf("%s later (-want +got):\n%s", tt.after, diff)
		}
	}
	want.Last60, want.Moved = 0, nil
	if diff := cmp.Diff(want, stats.At(recorded.Add(61*time.Second))); diff != "" {
		t.Errorf("a minute later (-want +got):\n%s", diff)
	}
}
