//go:build browser

package console

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// owners of the accounts that past makes; the first has the longest history.
var owners = []string{
	"Ada Lovelace", "Grace Hopper", "Mary Somerville", "Emmy Noether", "Sophie Germain", "Hypatia", "Maryam Mirzakhani",
	"Katherine Johnson", "Lise Meitner", "Rosalind Franklin", "Cecilia Payne", "Chien-Shiung Wu",
}

var currencies = []string{"EUR", "EUR", "USD", "JPY", "EUR", "CHF"}

func pastAccount(n int) string { return fmt.Sprintf("0190a0d2-0000-7000-8000-%012d", n) }

// past writes a fixed log of three months by SQL, because the API cannot record events in the past.
func past(t *testing.T) func(*pgxpool.Pool) {
	t.Helper()
	return func(pool *pgxpool.Pool) {
		const events = 900
		source := rand.New(rand.NewPCG(7, 11))
		now := time.Now().UTC().Truncate(time.Second)
		balances, versions := make([]int64, len(owners)), make([]int64, len(owners))
		rows := make([][]any, 0, events)
		for n := range events {
			who := n
			if n >= len(owners) {
				who = min(source.IntN(len(owners)), source.IntN(len(owners)), source.IntN(len(owners)))
			}
			versions[who]++
			var kind, payload string
			currency := currencies[who%len(currencies)]
			amount := int64(500 + source.IntN(40_000))
			switch {
			case n < len(owners):
				kind, payload = "AccountCreated", fmt.Sprintf(`{"owner":%q,"currency":%q,"overdraft_limit":0}`, owners[who], currency)
			case balances[who] > 2*amount && source.IntN(5) < 3:
				balances[who] -= amount
				kind, payload = "MoneyWithdrawn", fmt.Sprintf(`{"amount":%d,"currency":%q,"reference":"invoice %d"}`, amount, currency, n)
			default:
				amount += 9000
				balances[who] += amount
				kind, payload = "MoneyDeposited", fmt.Sprintf(`{"amount":%d,"currency":%q,"reference":"payment %d"}`, amount, currency, n)
			}
			at := now.Add(-time.Duration(events-n) * 144 * time.Minute)
			rows = append(rows, []any{n + 1, pastAccount(who), versions[who], uuid.NewString(), kind, 1, payload, `{}`, at})
		}
		_, err := pool.CopyFrom(t.Context(), pgx.Identifier{"events"},
			[]string{"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at"}, pgx.CopyFromRows(rows))
		if err != nil {
			t.Fatal(err)
		}
	}
}
