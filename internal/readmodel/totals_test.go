package readmodel_test

import (
	"context"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/pgtest"
	"passbook/internal/readmodel"
)

// total is a row of totals, its sums as text.
type total struct {
	Currency                                      string
	Accounts                                      int64
	Deposited, Withdrawn, Sent, Received, Balance string
}

func totals(t failer, pool *pgxpool.Pool) []total {
	t.Helper()
	r, _ := pool.Query(context.Background(), `select currency, accounts, deposited::text, withdrawn::text, sent::text, received::text,
balance::text from totals where generation = 1 order by currency`)
	all, err := pgx.CollectRows(r, pgx.RowToStructByPos[total])
	if err != nil {
		t.Fatalf("totals: %v", err)
	}
	return all
}

// sumsOf returns the expected totals of a history: the sum of the balances by Evolve, and the sums of the movements.
func sumsOf(t failer, all []accountEvent) []total {
	type sums struct {
		accounts                                      int64
		deposited, withdrawn, sent, received, balance big.Int
	}
	states, by := make(map[uuid.UUID]account.State), make(map[string]*sums)
	for _, h := range all {
		next, err := account.Evolve(states[h.id], h.event)
		if err != nil {
			t.Fatalf("evolve: %v", err)
		}
		states[h.id] = next
		s := by[next.Currency.Code()]
		if s == nil {
			s = new(sums)
			by[next.Currency.Code()] = s
		}
		add := func(n *big.Int, minor int64) { n.Add(n, big.NewInt(minor)) }
		switch e := h.event.(type) {
		case account.AccountCreated:
			s.accounts++
		case account.MoneyDeposited:
			add(&s.deposited, e.Amount.Minor())
		case account.MoneyWithdrawn:
			add(&s.withdrawn, e.Amount.Minor())
		case account.TransferSent:
			add(&s.sent, e.Amount.Minor())
		case account.TransferReceived:
			add(&s.received, e.Amount.Minor())
		case account.CreditReversed:
			if e.TransferID == uuid.Nil {
				add(&s.deposited, -e.Amount.Minor())
			} else {
				add(&s.received, -e.Amount.Minor())
			}
		case account.DebitReversed:
			if e.TransferID == uuid.Nil {
				add(&s.withdrawn, -e.Amount.Minor())
			} else {
				add(&s.sent, -e.Amount.Minor())
			}
		}
	}
	for _, s := range states {
		sum := &by[s.Currency.Code()].balance
		sum.Add(sum, big.NewInt(s.Balance))
	}
	var want []total
	for _, code := range []string{"EUR", "JPY"} {
		if s, ok := by[code]; ok {
			want = append(want, total{
				code, s.accounts, s.deposited.String(), s.withdrawn.String(), s.sent.String(), s.received.String(), s.balance.String(),
			})
		}
	}
	return want
}

// TestTotalsAtEveryCheckpoint reads the totals at each checkpoint of random histories. Their balance must be the sum of the balances,
// and deposits less withdrawals less what is in transit between two accounts.
func TestTotalsAtEveryCheckpoint(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		clearLog(t, pool)
		all, _ := history(t, 40)
		appendAll(t, pool, all)
		for _, batch := range []int{1, len(all), rapid.IntRange(1, len(all)).Draw(t, "batch")} {
			seen := make(map[int64][]total)
			project(t, pool, readmodel.Totals(), batch, func(position int64) { seen[position] = totals(t, pool) })
			seen[int64(len(all))] = totals(t, pool) // the engine was stopped, perhaps before it could say so
			for position, got := range seen {
				if diff := cmp.Diff(sumsOf(t, all[:position]), got); diff != "" {
					t.Fatalf("batches of %d, position %d (-want +got):\n%s", batch, position, diff)
				}
				for _, row := range got {
					if !row.conserved() {
						t.Fatalf("batches of %d, position %d: money is not conserved: %+v", batch, position, row)
					}
				}
			}
		}
	})
}

// conserved reports whether no money was created or lost.
func (r total) conserved() bool {
	number := func(text string) *big.Int {
		n, _ := new(big.Int).SetString(text, 10)
		return n
	}
	left := number(r.Deposited)
	left.Sub(left, number(r.Withdrawn)).Sub(left, number(r.Sent)).Add(left, number(r.Received))
	return left.Cmp(number(r.Balance)) == 0
}
