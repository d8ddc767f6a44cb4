package verify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	"passbook/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	ada    = uuid.MustParse("00000000-0000-4000-8000-00000000000a")
	bob    = uuid.MustParse("00000000-0000-4000-8000-00000000000b")
	cleo   = uuid.MustParse("00000000-0000-4000-8000-00000000000c")
	first  = uuid.MustParse("00000000-0000-4000-8000-0000000000f1")
	second = uuid.MustParse("00000000-0000-4000-8000-0000000000f2")
	eur, _ = money.LookupCurrency("EUR")
	jpy, _ = money.LookupCurrency("JPY")
)

func cents(n int64) money.Amount { return money.New(n, eur) }

// books writes a small log in one append.
func books(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	versions := make(map[uuid.UUID]int64)
	var events []eventstore.NewEvent
	for _, h := range []struct {
		id    uuid.UUID
		event account.Event
	}{
		{ada, account.AccountCreated{Owner: "Ada", Currency: eur, OverdraftLimit: 500}},                               // 1
		{bob, account.AccountCreated{Owner: "Bob", Currency: eur}},                                                    // 2
		{cleo, account.AccountCreated{Owner: "Cleo", Currency: jpy}},                                                  // 3
		{ada, account.MoneyDeposited{Amount: cents(1000), Reference: "pay"}},                                          // 4
		{ada, account.TransferSent{TransferID: first, To: bob, Amount: cents(1200)}},                                  // 5
		{bob, account.TransferReceived{TransferID: first, From: ada, Amount: cents(1200)}},                            // 6
		{bob, account.MoneyWithdrawn{Amount: cents(700)}},                                                             // 7
		{bob, account.AccountSuspended{Reason: "why"}},                                                                // 8
		{bob, account.AccountReactivated{}},                                                                           // 9
		{cleo, account.MoneyDeposited{Amount: money.New(9, jpy)}},                                                     // 10
		{cleo, account.MoneyWithdrawn{Amount: money.New(9, jpy)}},                                                     // 11
		{cleo, account.AccountClosed{Reason: "done"}},                                                                 // 12
		{bob, account.TransferSent{TransferID: second, To: ada, Amount: cents(1), Reference: "a\"b"}},                 // 13
		{ada, account.TransferReceived{TransferID: second, From: bob, Amount: cents(1), Reference: "a\"b"}},           // 14
		{ada, account.MoneyDeposited{Amount: cents(1 << 60), Reference: "more than a float holds exactly: \u00fc\t"}}, // 15
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
	pgtest.Append(t, eventstore.New(pool), events...)
}

// project applies the log to all read models, in batches of a size.
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

// check returns the differences, each as "check: item field: has, not want".
func check(t *testing.T, db verify.DB) []string {
	t.Helper()
	report, err := verify.Run(t.Context(), db, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range report.Checks {
		if int(c.Differences) != len(c.Told) {
			t.Errorf("%s: %d differences, %d told", c.Name, c.Differences, len(c.Told))
		}
		for _, d := range c.Told {
			all = append(all, fmt.Sprintf("%s: %s %s: %s, not %s", c.Name, d.Item, d.Field, d.Has, d.Want))
		}
	}
	if report.OK != (len(all) == 0) {
		t.Errorf("ok is %v, with %d differences", report.OK, len(all))
	}
	return all
}

func TestSoundBooks(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 4, 100} {
		pool := pgtest.New(t)
		if got := check(t, pool); got != nil {
			t.Errorf("an empty database: %q", got)
		}
		books(t, pool)
		if got := check(t, pool); got != nil {
			t.Errorf("before the projections ran: %q", got)
		}
		project(t, pool, batch)
		if got := check(t, pool); got != nil {
			t.Errorf("by batches of %d: %q", batch, got)
		}
	}
}

// TestDamageIsReported damages the log and read models in a transaction that is rolled back, and expects the report to say so.
func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 4)
	const (
		accountA = "account 00000000-0000-4000-8000-00000000000a"
		accountB = "account 00000000-0000-4000-8000-00000000000b"
		accountC = "account 00000000-0000-4000-8000-00000000000c"
		sent1    = "transfer 00000000-0000-4000-8000-0000000000f1 at position 5"
		moved    = "money: currency EUR sum of balances: "
	)
	for name, test := range map[string]struct {
		damage string
		want   []string // in order; each is the beginning of a difference
	}{
		"a balance": {
			`update balances set balance = balance + 1 where account_id = '` + bob.String() + `'`,
			[]string{"balances: " + accountB + " balance: 500, not 499", moved},
		},
		"two balances that cancel out": {
			`update balances set balance = balance + case account_id when '` + bob.String() + `' then 1 else -1 end where currency = 'EUR'`,
			[]string{"balances: " + accountA + " balance: ", "balances: " + accountB + " balance: 500, not 499"},
		},
		"a status": {
			`update balances set status = 'active' where status = 'closed'`,
			[]string{"balances: " + accountC + " status: active, not closed"},
		},
		"a lost account": {
			`delete from balances where owner = 'Cleo'`,
			[]string{"balances: " + accountC + " row: missing, not present"},
		},
		"an account without events": {
			`insert into balances select generation, '` + first.String() + `', owner, owner_folded, currency, balance, held,
			 overdraft_limit, deposited, withdrawn, status, version, position, opened_position, opened_at, updated_at, closed_at from balances where owner = 'Cleo'`,
			[]string{"balances: account " + first.String() + " row: present, not missing"},
		},
		"another generation": {`update balances set generation = 99 where owner = 'Cleo'`, []string{"balances: " + accountC + " row: missing"}},
		"a generation that is not live": {
			`insert into balances select 99, account_id, owner, owner_folded, currency, 0, 0, 0, 0, 0, status, version, position, opened_position,
			 opened_at, updated_at, closed_at from balances`, nil,
		},
		"an event taken out": {
			`delete from events where position = 10`,
			[]string{
				"positions: position 10 events: none, not one", "versions: " + accountC + " at position 11 version: 3, not 2",
				"decisions: " + accountC + " at position 11 balance: -9, not at least 0",
				"decisions: " + accountC + " at position 12 balance: -9, not 0",
				"balances: " + accountC + " balance: 0, not -9", "balances: " + accountC + " deposited: 9, not 0",
				"transactions: " + accountC + " at position 10 row: present, not missing",
				"transactions: " + accountC + " at position 11 balance: 0, not -9",
				"transactions: " + accountC + " at position 12 balance: 0, not -9",
				"totals: currency JPY balance: 0, not -9", "totals: currency JPY deposited: 9, not 0",
				"recent seconds: slot", "recent seconds: slot", "recent seconds: slot", "money: currency JPY",
			},
		},
		"several taken out at the end": {
			`delete from events where position > 12`,
			[]string{
				"checkpoints: projection balances position: 15, not at most 12", "checkpoints: projection stats", "checkpoints: projection totals",
				"checkpoints: projection transactions", "balances: ", "balances: ",
			},
		},
		"several taken out": {`delete from events where position in (7, 8)`, []string{"positions: positions 7 to 8 events: none, not one"}},
		"an event put in twice": {
			`insert into events select 16, stream_id, 9, event_id, type, schema_version, payload, metadata, now() from events where position = 4`,
			[]string{"event ids: event", "versions: " + accountA + " at position 16 version: 9, not 6"},
		},
		"a position twice": {
			`alter table events drop constraint events_pkey;
			 update events set position = 14 where position = 15`,
			[]string{"positions: position 14 events: two, not one"},
		},
		"a future schema version": {
			`update events set schema_version = 2 where position = 7`,
			[]string{"schemas: event at position 7 schema_version: 2, not a version of MoneyWithdrawn that this release knows"},
		},
		"a schema version less than its payload": {
			`update events set payload = payload - 'decimals' where position = 1`,
			[]string{"schemas: event at position 1 decimals: none, not a number"},
		},
		"an older schema version, which is no damage": {
			`update events set payload = payload - 'decimals', schema_version = 1 where position = 1`, nil,
		},
		"a time that goes back": {
			`update events set recorded_at = '2001-01-01Z' where position = 11`,
			[]string{"positions: position 11 recorded_at: 2001", "transactions: " + accountC + " at position 11 recorded_at"},
		},
		"an amount changed in the log": {
			`update events set payload = payload || '{"amount": 1201}' where position = 6`,
			[]string{
				"transfers: " + sent1 + " amount received: 1201, not 1200", "balances: " + accountB + " balance: 499, not 500",
				"balances: " + accountB + " deposited: 1200, not 1201", "transactions: " + accountB + " at position 6",
			},
		},
		"a transfer never received": {
			`update events set type = 'MoneyDeposited' where position = 6`,
			[]string{"transfers: " + sent1 + " event after TransferSent: MoneyDeposited, not TransferReceived", "transactions:", "totals:"},
		},
		"an overdraft": {
			`update events set payload = payload || '{"overdraft_limit": 199}' where position = 1`,
			[]string{
				"decisions: " + accountA + " at position 5 balance: -200, not at least -199",
				"balances: " + accountA + " overdraft_limit: 500, not 199", "account details: " + accountA + " overdraft_limit: 500, not 199",
			},
		},
		"a movement while suspended": {
			`update events set type = 'AccountSuspended' where position = 9`,
			[]string{"decisions: " + accountB + " at position 13 type: TransferSent, not no movement", "balances: " + accountB + " status: active, not suspended"},
		},
		"another currency": {
			`update events set payload = payload || '{"currency": "JPY"}' where position = 7`,
			[]string{"decisions: " + accountB + " at position 7 currency: JPY, not EUR"},
		},
		"a statement": {
			`update transactions set balance = 1, reference = 'x' where position = 7`,
			[]string{"transactions: " + accountB + " at position 7 balance: 1, not 500", "transactions: " + accountB + " at position 7 reference: x, not "},
		},
		"a statement's account": {
			`update account_details set owner = 'Eve' where owner = 'Ada'`,
			[]string{"account details: " + accountA + " owner: Eve, not Ada"},
		},
		"a lost statement": {`delete from transactions where position = 7`, []string{"transactions: " + accountB + " at position 7 row: missing"}},
		"totals":           {`update totals set withdrawn = withdrawn + 1 where currency = 'JPY'`, []string{"totals: currency JPY withdrawn: 10, not 9"}},
		"a second": {
			`update stats_seconds set events = events + 1 where currency = 'JPY'`,
			[]string{"recent seconds: slot "},
		},
		"a lost second": {`delete from stats_seconds where currency = ''`, []string{"recent seconds: slot "}},
		"the account counts": {
			`update stats_accounts set closed = 0, suspended = 1`,
			[]string{"account counts: accounts closed: 0, not 1", "account counts: accounts suspended: 1, not 0"},
		},
		"lost account counts": {`delete from stats_accounts`, []string{"account counts: accounts closed: 0, not 1", "account counts: accounts opened: 0, not 3"}},
		"an account that is not suspended": {
			`insert into stats_suspended select generation, '` + bob.String() + `' from projections where id = 'stats'`,
			[]string{"suspended accounts: " + accountB + " row: present, not missing"},
		},
		"a checkpoint of another log": {
			`update projections set last_event_id = gen_random_uuid() where id = 'totals'`,
			[]string{"checkpoints: projection totals last_event_id"},
		},
	} {
		t.Run(name, func(t *testing.T) { // not in parallel: they would wait for each other's locks
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(t.Context(), test.damage); err != nil {
				t.Fatal(err)
			}
			report, err := verify.Within(t.Context(), tx, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range report.Checks {
				for _, d := range c.Told {
					got = append(got, fmt.Sprintf("%s: %s %s: %s, not %s", c.Name, d.Item, d.Field, d.Has, d.Want))
				}
			}
			for i := range max(len(got), len(test.want)) {
				if i >= len(got) || i < len(test.want) && !strings.HasPrefix(got[i], test.want[i]) {
					t.Fatalf("difference %d is not %q; all are\n%s", i, test.want[min(i, len(test.want)-1)], strings.Join(got, "\n"))
				}
			}
			if test.want == nil && !report.OK {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestParkedAccountIsCheckedUpToItsFailure parks an account by hand at its event 7.
func TestParkedAccountIsCheckedUpToItsFailure(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 100)
	_, err := pool.Exec(t.Context(), `insert into projection_failures (projection, generation, stream_id, position, event_id, type, error, attempts, parked)
		select 'balances', p.generation, e.stream_id, 7, e.event_id, e.type, 'an error', 5, true
		from projections p, events e where p.id = 'balances' and e.position = 7`)
	if err != nil {
		t.Fatal(err)
	}
	if got := check(t, pool); len(got) == 0 || !strings.HasPrefix(got[0], "balances: account "+bob.String()) {
		t.Errorf("an account that has applied an event past its failure: %q", got)
	}
	_, err = pool.Exec(t.Context(), `update balances set balance = 1200, deposited = 1200, withdrawn = 0, version = 2, position = 6,
		updated_at = (select recorded_at from events where position = 6) where account_id = $1`, bob)
	if err != nil {
		t.Fatal(err)
	}
	if got := check(t, pool); got != nil {
		t.Errorf("%q", got)
	}
}

func TestDifferencesAreLimited(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 100)
	if _, err := pool.Exec(t.Context(), `update transactions set balance = balance + 1`); err != nil {
		t.Fatal(err)
	}
	report, err := verify.Run(t.Context(), pool, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Checks {
		if c.Name == "transactions" && (c.Differences != 15 || len(c.Told) != 2 || c.Told[0].Item != "account "+ada.String()+" at position 1") {
			t.Errorf("%+v", c)
		}
	}
}

// TestUnknownProjectionIsNotChecked expects the report to list a projection that has no check.
func TestUnknownProjectionIsNotChecked(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 100)
	for _, want := range [][]string{{}, {"largest_deposits"}} {
		report, err := verify.Run(t.Context(), pool, 2, nil)
		if err != nil || !report.OK || !slices.Equal(report.NotChecked, want) {
			t.Errorf("%+v, %v, want %q not to be checked", report, err, want)
		}
		_, err = pool.Exec(t.Context(), `insert into projections (id, version, generation, position, last_event_id)
			select 'largest_deposits', 1, 1, position, event_id from events where position = 3 on conflict do nothing`)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoSchema(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), `drop table totals`); err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Run(t.Context(), pool, 1, nil); !errors.Is(err, verify.ErrNoSchema) {
		t.Errorf("%v", err)
	}
}
