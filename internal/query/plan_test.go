package query_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"passbook/internal/pgtest"
	"passbook/internal/query"
)

// A plan is made once, most often for a table that nothing is known of yet, and kept until the table is first analyzed.
func TestAccountsAreLookedUpByTheirKey(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, stage := range []struct{ name, before string }{
		{"empty", `select 1`},
		{"filled, not analyzed", `insert into balances
select 1, gen_random_uuid(), 'owner', 'owner', 'EUR', 0, 0, 0, 0, 0, 'active', 1, n, n, now(), now() from generate_series(1, 5000) as n`},
		{"analyzed", `analyze balances`},
	} {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			stage.before, `set plan_cache_mode = force_generic_plan`,
			`prepare read_accounts (uuid[]) as ` + query.ReadAccountsSQL,
		} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		rows, _ := conn.Query(t.Context(), `explain (costs off) execute read_accounts (array[gen_random_uuid()])`, pgx.QueryExecModeSimpleProtocol)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(lines, "\n")
		if !strings.Contains(plan, "balances_pkey") || !strings.Contains(plan, "AND (account_id = k.account_id))") {
			t.Errorf("%s: accounts are not looked up by balances_pkey:\n%s", stage.name, plan)
		}
		conn.Hijack().Close(t.Context())
	}
}
