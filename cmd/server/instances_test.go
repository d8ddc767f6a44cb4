package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// TestTwoInstancesUnderContention runs two instances on one database and 24 clients that compete for three accounts with
// deposits, withdrawals and transfers, each request sent twice with one key, to either instance: no command is applied twice,
// no response is a 5xx, and the log adds up to the cent (I1, I2, I3, I8).
func TestTwoInstancesUnderContention(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	bases := make([]string, 2)
	for i := range bases {
		p := launch(t, bin, "DATABASE_URL="+pgtest.ServiceURL(t, url))
		p.awaitReady(t, 60*time.Second)
		bases[i] = p.base
	}
	client := apitest.Client(t)
	a := api{t, client, bases[0]}
	accounts := make([]string, 3)
	for i := range accounts {
		accounts[i] = a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","overdraft_limit":"5.00"}`, 201)["account_id"].(string)
	}
	const clients, rounds = 24, 12
	var done atomic.Int64
	var group errgroup.Group
	for c := range clients {
		random := rand.New(rand.NewPCG(7, uint64(c)))
		group.Go(func() error {
			for n := range rounds {
				path, body := randomCommand(random, accounts)
				key := fmt.Sprintf("client-%d-request-%d", c, n)
				first, err := sendSettled(t, client, bases[random.IntN(2)]+path, body, key)
				if err != nil {
					return err
				}
				second, err := sendSettled(t, client, bases[random.IntN(2)]+path, body, key)
				if err != nil {
					return err
				}
				// The second response equals the first, also for a refusal.
				if second.status != first.status || !bytes.Equal(second.body, first.body) || second.replayed != "true" {
					return fmt.Errorf("%s %s: first %d %s, then %d %s (replayed %q)", path, body, first.status, first.body,
						second.status, second.body, second.replayed)
				}
				if first.status < 300 {
					done.Add(1)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	refusalsStand(t, bases)
	if done.Load() < clients {
		t.Fatalf("only %d commands were applied: too few to prove anything", done.Load())
	}
	checkBooks(t, url)
	var head int64
	pool := connect(t, url)
	if err := pool.QueryRow(t.Context(), "select max(position) from events").Scan(&head); err != nil {
		t.Fatal(err)
	}
	for _, id := range accounts {
		for _, base := range bases {
			got := api{t, client, base}.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%d", id, head), "", 200)
			var want string
			err := pool.QueryRow(t.Context(), `select to_char(sum(case when type in ('MoneyDeposited', 'TransferReceived') then 1
				when type in ('MoneyWithdrawn', 'TransferSent') then -1 else 0 end * (payload->>'amount')::bigint) / 100, 'FM999999990.00')
				from events where stream_id = $1 and payload ? 'amount'`, id).Scan(&want)
			if err != nil || got["balance"] != want {
				t.Errorf("%s says account %s has %v; the log says %s (%v)", base, id, got["balance"], want, err)
			}
		}
	}
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func randomCommand(random *rand.Rand, accounts []string) (path, body string) {
	from := random.IntN(len(accounts))
	to := (from + 1 + random.IntN(len(accounts)-1)) % len(accounts)
	amount := fmt.Sprintf("%d.%02d", random.IntN(9), 1+random.IntN(99))
	switch random.IntN(3) {
	case 0:
		return "/deposits", fmt.Sprintf(`{"account_id":"%s","amount":"%s"}`, accounts[from], amount)
	case 1:
		return "/withdrawals", fmt.Sprintf(`{"account_id":"%s","amount":"%s"}`, accounts[from], amount)
	default:
		return "/transfers", fmt.Sprintf(`{"from_account_id":"%s","to_account_id":"%s","amount":"%s"}`, accounts[from], accounts[to], amount)
	}
}

type settled struct {
	status   int
	body     []byte
	replayed string
}

// sendSettled sends a command until its response is final: 409 means that the first attempt is still in flight.
func sendSettled(t *testing.T, client *http.Client, url, body, key string) (settled, error) {
	t.Helper()
	for {
		got, err := sendOnce(t, client, url, body, key)
		if err != nil || got.status != http.StatusConflict {
			return got, err
		}
	}
}

// sendOnce sends a command. A 5xx is an error.
func sendOnce(t *testing.T, client *http.Client, url, body, key string) (settled, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return settled{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := client.Do(request)
	if err != nil {
		return settled{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 500 {
		err = fmt.Errorf("%s %s: %d: %s", url, body, response.StatusCode, raw)
	}
	return settled{response.StatusCode, raw, response.Header.Get("Idempotency-Replayed")}, err
}

// refusalsStand sends commands that are refused, removes the reason, and sends the same JSON values, spelled differently, to
// the other instance: each gets its first response, byte for byte, alone and as an item of a bulk request.
func refusalsStand(t *testing.T, bases []string) {
	t.Helper()
	client := &http.Client{}
	a := api{t, client, bases[0]}
	id, _ := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	const missing = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2eff"
	type spelled struct{ path, one, other string }
	refused := map[string]spelled{
		"refusal-1": {"/withdrawals", `{"account_id":"` + id + `","amount":"7.00"}`, `{ "amount": 7, "account_id":"` + id + `" }`},
		"refusal-2": {"/deposits", `{"account_id":"` + missing + `","amount":"1"}`, `{"amount":1.0,"account_id":"` + missing + `"}`},
		"refusal-3": {"/accounts", `{"account_id":"` + id + `","owner":"Eve","currency":"EUR"}`, `{"currency":"EUR","owner":"\u0045ve","account_id":"` + id + `"}`},
	}
	first := make(map[string]settled)
	item := func(amount, key string) string {
		return `{"command":"withdraw","account_id":"` + id + `","amount":` + amount + `,"idempotency_key":"` + key + `"}`
	}
	bulk := func(base, query, body string) string {
		t.Helper()
		response, err := client.Post(base+"/commands"+query, "application/x-ndjson", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		raw, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%d %s %v", response.StatusCode, raw, err)
		}
		return strings.ReplaceAll(string(raw), `"replayed":true,`, "")
	}
	for key, r := range refused {
		var err error
		if first[key], err = sendOnce(t, client, bases[0]+r.path, r.one, key); err != nil || first[key].status/100 != 4 {
			t.Fatalf("%s: %+v, %v", key, first[key], err)
		}
	}
	lines := bulk(bases[0], "", item(`"9"`, "item-1")+"\n"+item(`"9"`, "item-1")+"\n")
	if both := strings.SplitAfter(lines, "\n"); len(both) != 3 || both[0] != both[1] || !strings.Contains(lines, `"status":422`) {
		t.Errorf("a key twice in one request: %s", lines)
	}
	group := bulk(bases[0], "?atomic=true", item(`"0.01"`, "item-2")+"\n"+item(`"9"`, "item-3")+"\n")

	a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"100"}`, 201)
	a.call("POST", "/accounts", `{"account_id":"`+missing+`","owner":"Bob","currency":"EUR"}`, 201)
	for key, r := range refused {
		for _, body := range []string{r.one, r.other} {
			again, err := sendOnce(t, client, bases[1]+r.path, body, key)
			if err != nil || again.status != first[key].status || !bytes.Equal(again.body, first[key].body) || again.replayed != "true" {
				t.Errorf("%s: first %d %s, then %d %s (replayed %q, %v)", body, first[key].status, first[key].body, again.status, again.body,
					again.replayed, err)
			}
		}
	}
	if again := bulk(bases[1], "", item(`9`, "item-1")+"\n"+item(`"9.00"`, "item-1")+"\n"); again != lines {
		t.Errorf("items: %s then %s", lines, again)
	}
	if again := bulk(bases[1], "?atomic=true", item(`0.010`, "item-2")+"\n"+item(`9`, "item-3")+"\n"); again != group {
		t.Errorf("an atomic group: %s then %s", group, again)
	}
}

// checkBooks folds the log in SQL: positions and versions have no gap, no event leaves an account below its limit, and at
// every position the balances equal deposits less withdrawals.
func checkBooks(t *testing.T, url string) {
	t.Helper()
	pool := connect(t, url)
	for what, sql := range map[string]string{
		"positions with a gap": `select position::text from (select position, row_number() over (order by position) as n from events) e where position <> n`,
		"versions with a gap": `select position::text from (select position, version, row_number() over (partition by stream_id order by position) as n
			from events) e where version <> n`,
		"overdrafts": `select position::text from (select position, sum(case when type in ('MoneyDeposited', 'TransferReceived') then 1
			when type in ('MoneyWithdrawn', 'TransferSent') then -1 else 0 end * coalesce((payload->>'amount')::bigint, 0))
			over (partition by stream_id order by position) as balance from events) e where balance < -500`,
		"transfers with one leg": `select payload->>'transfer_id' from events where type like 'Transfer%' group by 1
			having count(*) <> 2 or max(position) - min(position) <> 1 or count(distinct payload->>'amount') <> 1`,
		"keys without their events": `select first_position::text from idempotency_keys k where event_count > 0 and not exists (select from events e where e.position = k.first_position)`,
	} {
		rows, _ := pool.Query(t.Context(), sql)
		for rows.Next() {
			var where string
			if err := rows.Scan(&where); err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s: %s", what, where)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestBulkEndToEnd opens accounts, deposits and withdraws with POST /commands, as lines and as an array.
func TestBulkEndToEnd(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	p := launch(t, build(t), "DATABASE_URL="+pgtest.ServiceURL(t, url))
	p.awaitReady(t, 60*time.Second)
	client := apitest.Client(t)
	const id = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"
	lines := []string{`{"command":"open","account_id":"` + id + `","owner":"Ada","currency":"EUR"}`}
	for i := range 2500 {
		lines = append(lines, fmt.Sprintf(`{"command":"deposit","account_id":"%s","amount":"0.01","idempotency_key":"d%d"}`, id, i))
	}
	lines = append(lines, `{"command":"withdraw","account_id":"`+id+`","amount":"25.01"}`,
		`{"command":"withdraw","account_id":"`+id+`","amount":"25.00"}`, `{"command":"close","account_id":"`+id+`"}`,
		`{"command":"deposit","account_id":"`+id+`","amount":"1"}`)
	send := func(path, mediaType, body string) []map[string]any {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", mediaType)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var results []map[string]any
		decoder := json.NewDecoder(response.Body)
		if mediaType == "application/json" {
			err = decoder.Decode(&results)
		} else {
			for decoder.More() && err == nil {
				var one map[string]any
				err = decoder.Decode(&one)
				results = append(results, one)
			}
		}
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%d %v", response.StatusCode, err)
		}
		return results
	}
	results := send("/commands", "application/x-ndjson", strings.Join(lines, "\n"))
	if len(results) != len(lines) {
		t.Fatalf("%d results for %d commands", len(results), len(lines))
	}
	for i, r := range results {
		want := 201.0
		switch i - 2500 {
		case 1, 4:
			want = 422
		case 3:
			want = 200
		}
		if r["status"] != want || want < 300 && r["position"] != results[0]["position"].(float64)+float64(i)-boolFloat(i > 2501) {
			t.Fatalf("item %d: %v, want %v", i, r, want)
		}
	}
	again := send("/commands", "application/json", "["+lines[1]+","+lines[2]+"]")
	if again[0]["replayed"] != true || again[0]["event_id"] != results[1]["event_id"] || again[1]["position"] != results[2]["position"] {
		t.Errorf("sent again: %v", again)
	}
	atomic := send("/commands?atomic=true", "application/json",
		`[{"command":"open","account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e40","owner":"B","currency":"EUR"},`+lines[len(lines)-1]+`]`)
	if atomic[0]["code"] != "not-applied" || atomic[1]["code"] != "account-closed" {
		t.Errorf("all or nothing: %v", atomic)
	}
	checkBooks(t, url)
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
