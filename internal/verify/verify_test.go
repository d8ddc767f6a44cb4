package verify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// check returns the differences.
func check(t *testing.T, db verify.DB) []string {
	t.Helper()
	report, err := verify.Run(t.Context(), db, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := differences(report)
	for _, c := range report.Checks {
		if int(c.Differences) != len(c.Told) {
			t.Errorf("%s: %d differences, but %d are listed", c.Name, c.Differences, len(c.Told))
		}
	}
	if report.OK != (len(all) == 0) {
		t.Errorf("ok is %v, with %d differences", report.OK, len(all))
	}
	return all
}

// differences returns the listed differences, each as "check: item field: has, not want".
func differences(report verify.Report) (all []string) {
	for _, c := range report.Checks {
		for _, d := range c.Told {
			all = append(all, fmt.Sprintf("%s: %s %s: %s, not %s", c.Name, d.Item, d.Field, d.Has, d.Want))
		}
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
			t.Errorf("batches of %d: %q", batch, got)
		}
	}
}

// TestSoundBetweenTwoSides stops the projections between the two events of a transfer, of its reversal and of a capture, where the
// books must still be sound.
func TestSoundBetweenTwoSides(t *testing.T) {
	t.Parallel()
	for _, position := range []int{5, 22, 23, 33, 39} {
		pool := pgtest.New(t)
		events := bookEvents(t)
		pgtest.Append(t, eventstore.New(pool), events[:position]...)
		project(t, pool, 100)
		pgtest.Append(t, eventstore.New(pool), events[position:]...)
		if got := check(t, pool); got != nil {
			t.Errorf("at position %d: %q", position, got)
		}
	}
}

// TestDamageIsReported damages the log and the read models in a transaction that is rolled back, and expects the report to list it.
func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	books(t, pool)
	project(t, pool, 4)
	const (
		accountA = "account 00000000-0000-4000-8000-00000000000a"
		accountB = "account 00000000-0000-4000-8000-00000000000b"
		accountC = "account 00000000-0000-4000-8000-00000000000c"
		accountD = "account 00000000-0000-4000-8000-00000000000d"
		accountE = "account 00000000-0000-4000-8000-00000000000e"
		hold1    = "holds: hold 00000000-0000-4000-8000-0000000000e1"
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
		"what is held": {
			`update balances set held = 0 where held <> 0`, []string{"balances: " + accountD + " held: 0, not 1"},
		},
		"a snapshot": { // the second is right
			`update events set metadata = jsonb_build_object('state', jsonb_build_object('state_version', 2, 'owner', 'Bob', 'currency', 'EUR',
'balance', 508 - position, 'overdraft_limit', 0, 'held', 8 - position, 'status', 'suspended')) where position in (7, 8)`,
			[]string{
				"decisions: " + accountB + " at position 7 balance in the snapshot: 501, not 500", "decisions: " + accountB + " at position 7 held in the snapshot: 1, not 0",
				"decisions: " + accountB + " at position 7 status in the snapshot: suspended, not active",
			},
		},
		"a folded name": {
			`update balances set owner_folded = 'dorte x' where owner = 'Dörte'`,
			[]string{"balances: " + accountD + " owner_folded: dorte x, not dorte"},
		},
		"a folded name that was not folded": {
			`update balances set owner_folded = owner`,
			[]string{
				"balances: " + accountA + " owner_folded: Ada, not ada", "balances: " + accountB, "balances: " + accountC,
				"balances: " + accountD + " owner_folded: Drte, not dorte", "balances: " + accountE + " owner_folded: ve Wei , not eve weiss oolldd",
			},
		},
		"metadata": {
			`update balances set metadata = '{"k": "x"}'`,
			[]string{
				"balances: " + accountA + ` metadata: {"k": "x"}, not nothing`, "balances: " + accountB, "balances: " + accountC,
				"balances: " + accountD, "balances: " + accountE + ` metadata: {"k": "x"}, not {"<": "ü\"", "k": "w"}`,
			},
		},
		"what a row of transactions links to": {
			`update transactions set held = held + 1, hold_id = account_id, reversed_position = 1, metadata = '{}' where position = 33`,
			[]string{
				"transactions: " + accountD + " at position 33 held: 42, not 41", "transactions: " + accountD + " at position 33 hold_id: 0",
				"transactions: " + accountD + " at position 33 metadata: {}, not nothing",
				"transactions: " + accountD + " at position 33 reversed_position: 1, not 23",
			},
		},
		"a kind": {
			`update transactions set kind = 'd' where kind in ('b', 'r', 'h', 'c', 'f', 'e', 'N', 'L', 'M')`,
			slices.Repeat([]string{"transactions: account"}, 18),
		},
		"details": {
			`update account_details set owner = 'x', overdraft_limit = 1, metadata = '{"k": "x"}', currency = 'EUR' where position = 31`,
			[]string{
				"account details: " + accountD + " at position 31 currency: EUR, not USD",
				"account details: " + accountD + ` at position 31 metadata: {"k": "x"}, not nothing`,
				"account details: " + accountD + " at position 31 overdraft_limit: 1, not 60",
				"account details: " + accountD + " at position 31 owner: x, not Dörte",
			},
		},
		"lost details": {
			`delete from account_details where position = 30`,
			[]string{"account details: " + accountD + " at position 30 row: missing, not present"},
		},
		"a hold": {
			`update holds set account_id = hold_id, amount = 1, captured = 1, currency = 'EUR', reference = 'x', metadata = null, status = 'o',
			 expires_at = null, placed_at = 'epoch', ended_at = null, ended_position = null, transfer_id = null
			 where reference = 'room'`,
			[]string{
				hold1 + " account_id", hold1 + " amount: 1, not 300", hold1 + " captured: 1, not 250", hold1 + " currency: EUR, not USD",
				hold1 + " ended_at: nothing, not", hold1 + " ended_position: nothing, not 22", hold1 + " expires_at: nothing, not 2026-01-02",
				hold1 + ` metadata: nothing, not {`, hold1 + " placed_at: 1970", hold1 + " reference: x, not room", hold1 + " status: o, not c",
				hold1 + " transfer_id: nothing, not " + third.String(),
			},
		},
		"when a hold was placed": {`update holds set placed_position = 1 where reference = 'room'`, []string{hold1 + " placed_position: 1, not 19"}},
		"a lost hold":            {`delete from holds where status = 'e'`, []string{"holds: hold " + hold(3).String() + " row: missing, not present"}},
		"a hold ended twice": {
			`update events set type = 'HoldReleased', payload = payload || jsonb_build_object('hold_id', '` + hold(2).String() + `') where position = 28`,
			[]string{
				"decisions: " + accountD + " at position 39 held: -1, not at least 0", "holds in the log: hold " + hold(2).String() + " at position 28 events: 3, not at most 2",
			},
		},
		"a hold on an account that was never opened": {
			`update events set payload = payload || jsonb_build_object('hold_id', '` + first.String() + `') where position = 25`,
			[]string{"holds in the log: hold " + first.String() + " at position 25 type: HoldReleased, not HoldPlaced"},
		},
		"a hold captured in part, with more released": {
			`update events set payload = payload || '{"released": 51}' where position = 22`,
			[]string{
				"decisions: " + accountD + " at position 26 held: -1, not at least 0",
				"holds in the log: hold " + hold(1).String() + " at position 22 amount: 301, not 300",
			},
		},
		"a capture that moved another amount": {
			`update events set payload = payload || '{"amount": 41}' where position = 40`,
			[]string{"holds in the log: hold " + hold(4).String() + " at position 39 amount moved: 41, not 40"},
		},
		"a capture that moved nothing": {
			`update events set type = 'OwnerChanged', payload = '{"owner": "x"}' where position = 40`,
			[]string{
				"holds in the log: hold " + hold(4).String() + " at position 39 amount moved: nothing, not 40",
				"holds in the log: hold " + hold(4).String() + " at position 39 event after HoldCaptured: OwnerChanged, not its movement",
			},
		},
		"a hold that never expires": {
			`update events set payload = payload - 'expires_at' where position = 21`,
			[]string{"holds in the log: hold " + hold(3).String() + " at position 26 type: HoldExpired, not no expiry"},
		},
		"a hold on what is not there": {
			`update events set payload = payload || '{"amount": 5000}' where position = 27`,
			[]string{"decisions: " + accountD + " at position 27 held: 5000, not at most 850"},
		},
		"a limit below what is used": {
			`update events set payload = '{"currency": "USD", "overdraft_limit": 0}', type = 'OverdraftLimitChanged' where position = 40`,
			[]string{"decisions: " + accountD + " at position 40 overdraft_limit: 0, not at least "},
		},
		"more reversed than was moved": {
			`update events set payload = payload || '{"amount": 994}' where position = 38`,
			[]string{"reversals: reversal at position 38 reversed in all: 1001, not at most 1000"},
		},
		"a reversal that takes what is not there and was not forced": {
			`update events set payload = payload - 'forced' where position = 38`,
			[]string{"decisions: " + accountD + " at position 38 balance: -57, not at least -19"},
		},
		"a reversal of nothing": {
			`update events set payload = payload || '{"reversed_position": 17}' where position = 37`,
			[]string{"reversals: reversal at position 37 reversed_position: 17, not that of an earlier movement"},
		},
		"a reversal of another account's movement": {
			`update events set payload = payload || '{"reversed_position": 18}' where position = 37`,
			[]string{
				"reversals: reversal at position 37 account: " + eve.String() + ", not " + dora.String(),
				"reversals: reversal at position 37 type: DebitReversed, not the opposite of MoneyDeposited",
			},
		},
		"one side of a reversal": {
			`update events set payload = payload || '{"amount": 99}' where position = 34`,
			[]string{"reversals: reversal at position 33 event beside it: CreditReversed, not the other side"},
		},
		"a reversal with one side": {
			`update events set payload = payload - 'transfer_id' where position = 34`,
			[]string{
				"reversals: reversal at position 33 event beside it", "reversals: reversal at position 34 events with its reversal_id: 2, not 1",
				"reversals: reversal at position 34 transfer_id: nothing, not " + third.String(),
			},
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
				"checkpoints: projection balances position: 40, not at most 12", "checkpoints: projection holds", "checkpoints: projection stats", "checkpoints: projection totals",
				"checkpoints: projection transactions", "balances: ", "balances: ",
			},
		},
		"several taken out": {`delete from events where position in (7, 8)`, []string{"positions: positions 7 to 8 events: none, not one"}},
		"an event put in twice": {
			`insert into events select 41, stream_id, 9, event_id, type, schema_version, payload, metadata, now() from events where position = 4`,
			[]string{"event ids: event", "versions: " + accountA + " at position 41 version: 9, not 6"},
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
				"balances: " + accountA + " overdraft_limit: 500, not 199", "account details: " + accountA + " at position 1 overdraft_limit: 500, not 199",
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
			[]string{"account details: " + accountA + " at position 1 owner: Eve, not Ada"},
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
		"lost account counts": {`delete from stats_accounts`, []string{"account counts: accounts closed: 0, not 1", "account counts: accounts opened: 0, not 5"}},
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
			got := differences(report)
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

// TestParkedAccountIsCheckedUpToItsFailure parks an account at position 7, by SQL.
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
		if c.Name == "transactions" && (c.Differences != 40 || len(c.Told) != 2 || c.Told[0].Item != "account "+ada.String()+" at position 1") {
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
