package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// recordOld appends one event in a schema version, with the payload of its golden file, as an older release wrote it.
func recordOld(t *testing.T, pool *pgxpool.Pool, position int64, account string, version, schema int, eventType string) {
	t.Helper()
	name := fmt.Sprintf("%s.v%d.json", eventType, schema)
	payload, err := os.ReadFile(filepath.Join("..", "..", "internal", "account", "eventjson", "testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	_, err = pool.Exec(t.Context(), `insert into events values ($1, $2, $3, $4, $5, $6, $7, '{}', clock_timestamp())`,
		position, account, version, uuid.New(), eventType, schema, payload)
	if err != nil {
		t.Fatal(err)
	}
}

// TestOldSchemaVersions uses a log of golden payloads in their first versions, including AccountCreated without decimals.
// Commands are decided on it; projections, replays, statements, time travel, pages and the live stream show it in the newest
// version; server verify finds nothing; and the log itself does not change.
func TestOldSchemaVersions(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	pool := connect(t, url)
	const id = "0190a0d2-0000-7000-8000-000000000001"
	for i, eventType := range []string{"AccountCreated", "MoneyDeposited", "AccountSuspended", "AccountReactivated"} {
		recordOld(t, pool, int64(i)+1, id, i+1, 1, eventType)
	}
	p := launch(t, bin, "DATABASE_URL="+url)
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}

	// Opened with an overdraft limit of 50.00 and paid 12.34: no more than their sum can be withdrawn.
	a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":"62.35"}`, 422)
	position := a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":"62.34"}`, 201)["position"].(float64)
	opened := a.call("POST", "/accounts", `{"owner":"Bob","currency":"JPY"}`, 201)
	check := func(when string) {
		t.Helper()
		got := a.call("GET", fmt.Sprintf("/accounts/%s?min_position=%.0f", id, position), "", 200)
		if got["balance"] != "-50.00" || got["available"] != "0.00" || got["owner"] != "Ada Lovelace" || got["status"] != "active" {
			t.Errorf("%s: %v", when, got)
		}
		past := a.call("GET", fmt.Sprintf("/accounts/%s/balance?at_position=3&min_position=%.0f", id, position), "", 200)
		if past["balance"] != "12.34" || past["available"] != "62.34" || past["status"] != "suspended" {
			t.Errorf("%s, as it stood at 3: %v", when, past)
		}
		moves := a.call("GET", fmt.Sprintf("/accounts/%s/transactions?min_position=%.0f", id, position), "", 200)["transactions"].([]any)
		if len(moves) != 2 {
			t.Errorf("%s: the statement is %v", when, moves)
		}
		if code, out := runVerify(t, bin, url); code != 0 {
			t.Errorf("%s: verify says %s", when, out)
		}
	}
	check("projected")
	for _, projection := range []string{"balances", "transactions", "totals"} {
		replay := a.call("POST", "/projections/"+projection+"/replay", "", 202)["id"].(string)
		a.awaitReplayOf(projection, replay)
	}
	check("replayed")

	live := p.follow(t, "?after=0&subject="+id)
	if e := await(t, live, "1"); e.Extensions()["schemaversion"] != int32(2) || !strings.Contains(string(e.Data()), `"decimals":2`) {
		t.Errorf("live, the first event is %v", e)
	}
	if e := await(t, live, "2"); e.Extensions()["schemaversion"] != int32(1) {
		t.Errorf("live, the second event is %v", e)
	}
	var schemas []int
	var kept string
	err := pool.QueryRow(t.Context(), `select array_agg(schema_version order by position),
min(payload::text) filter (where position = 1) from events where type = 'AccountCreated'`).Scan(&schemas, &kept)
	if err != nil || fmt.Sprint(schemas) != "[1 2]" || strings.Contains(kept, "decimals") {
		t.Errorf("accounts were opened in the schema versions %v, the first with %s (%v); then %v", schemas, kept, err, opened)
	}
}
