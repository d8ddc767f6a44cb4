package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
)

// TestLedgerOnTheCommandLine keeps books with the commands of the binary against a real server.
func TestLedgerOnTheCommandLine(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), private(t))
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	ada := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":"100"}`, 201)["account_id"].(string)
	cafe := a.call("POST", "/accounts", `{"owner":"Café Müller","currency":"EUR"}`, 201)["account_id"].(string)
	do := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := invoke(t.Context(), append(args, "--server", p.base), "HOME=/")
		if code != want {
			t.Fatalf("%v: %d %s%s", args, code, stdout, stderr)
		}
		return stdout + stderr
	}
	see := func(pattern string, args ...string) []string {
		t.Helper()
		out := do(exitOK, args...)
		found := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("%v printed\n%s\nand nothing like %s", args, out, pattern)
		}
		return found
	}
	settled := func(position string) {
		t.Helper()
		want, err := strconv.ParseFloat(position, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"balances", "transactions", "holds"} {
			eventually(t, id+" has applied position "+position, func() bool {
				return a.call("GET", "/projections/"+id, "", 200)["position"].(float64) >= want
			})
		}
	}

	see(`would have a balance of 100\.00 EUR, and 40\.00 available`, "hold", ada, "60", "--dry-run")
	placed := see(`hold ([0-9a-f-]{36}), position (\d+)`, "hold", ada, "60", "--reference", "table for six", "--expires-at", "2999-01-01", "--idempotency-key", "six")
	hold := placed[1]
	if again := see(`hold ([0-9a-f-]{36})`, "hold", ada, "60", "--reference", "table for six", "--expires-at", "2999-01-01", "--idempotency-key", "six"); again[1] != hold {
		t.Errorf("the same key placed another hold: %s", again[1])
	}
	settled(placed[2])
	see(hold+` +60\.00 +0\.00 +EUR +open`, "holds", ada, "--status", "open")
	if out := do(exitFailed, "hold", ada, "60"); !strings.Contains(out, "insufficient-funds") {
		t.Errorf("a hold on what is held: %s", out)
	}
	captured := see(`captured 45\.50, released 14\.50, position (\d+)`, "capture", ada, hold, "--amount", "45.5", "--to", cafe, "--reference", "dinner")
	settled(captured[1])
	found := see(`(?m)^ *(\d+) .* transfer_out +45\.50 +EUR .*dinner`, "transactions", "--reference", "dinner")
	see(`reversed 5\.50, position (\d+)`, "reverse", found[1], "--amount", "5.5")
	changed := see(`version \d+, position (\d+)`, "change", ada, "--owner", "Ada L.", "--set", "branch=Bonn")
	settled(changed[1])
	see(`Café Müller +40\.00`, "accounts", "MULLER")
	statement := do(exitOK, "statement", ada)
	for _, want := range []string{"of Ada L.", "opening balance", "transfer_out", "reversal_in", "60.00"} {
		if !strings.Contains(statement, want) {
			t.Errorf("the statement does not say %q:\n%s", want, statement)
		}
	}
	if csv := do(exitOK, "statement", ada, "--csv"); strings.Count(csv, "\r\n") < 5 {
		t.Errorf("the statement as CSV:\n%s", csv)
	}
	// A statement of the past is the same to the byte, whatever happens later to what is in it.
	to := time.Now().UTC().Format(time.RFC3339Nano)
	for _, accept := range []string{"application/json", "text/csv"} {
		ask := func() string {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/accounts/"+ada+"/statement?to="+to, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			response, err := apitest.Client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			text, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("%d %s %v", response.StatusCode, text, err)
			}
			return string(text)
		}
		before := ask()
		later := see(`reversed 1\.00, position (\d+)`, "reverse", found[1], "--amount", "1")
		settled(later[1])
		if after := ask(); after != before {
			t.Errorf("a statement has changed from\n%s\nto\n%s", before, after)
		}
	}
	var one map[string]any
	if err := json.Unmarshal([]byte(do(exitOK, "transactions", "--metadata", "none=such", "--json")+"{}"), &one); err != nil || len(one) > 0 {
		t.Errorf("movements with metadata that none has: %v %v", one, err)
	}
	for _, usage := range [][]string{{"hold", ada}, {"reverse", "x"}, {"statement", "ada"}, {"statement", ada, "--from", "yesterday"}} {
		do(exitSettings, usage...)
	}
}
