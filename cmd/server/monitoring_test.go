package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// queriesOf returns the expressions of the dashboard and of the alerts, by their place.
func queriesOf(t *testing.T) map[string]string {
	t.Helper()
	read := func(path string, decode func([]byte, any) error, into any) {
		text, err := os.ReadFile("../../deploy/" + path)
		if err == nil {
			err = decode(text, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	queries := make(map[string]string)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, RefID string }
		}
	}
	read("grafana/dashboards/passbook.json", json.Unmarshal, &dashboard)
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries["panel "+p.Title+" "+target.RefID] = target.Expr
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	read("prometheus/alerts.yml", yaml.Unmarshal, &rules)
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			queries["alert "+rule.Alert] = rule.Expr
		}
	}
	return queries
}

var (
	// The parts of a query that are labels, numbers and durations, not metrics.
	quoted   = regexp.MustCompile(`"[^"]*"`)
	inBraces = regexp.MustCompile(`\{[^}]*\}`)
	inParens = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	numbers  = regexp.MustCompile(`\b[0-9][0-9a-zA-Z.]*`)
	word     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	operator = []string{"and", "or", "unless", "bool", "offset"}
)

// metricsIn returns the metrics of a query: every word that is not a function, an operator, a label or a duration.
func metricsIn(query string) (names []string) {
	for _, part := range []*regexp.Regexp{quoted, inBraces, inParens, ranges, numbers} {
		query = part.ReplaceAllString(query, " ")
	}
	for _, w := range word.FindAllString(query, -1) {
		if name := strings.TrimSpace(w); !strings.HasSuffix(name, "(") && !slices.Contains(operator, name) {
			names = append(names, name)
		}
	}
	return names
}

func TestMetricsInAQuery(t *testing.T) {
	t.Parallel()
	got := metricsIn(`histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{x="b_total"}[5m]))) > 1e3 and ignoring (c) d_total unless on () up == 1 offset 5m`)
	if want := []string{"a_bucket", "d_total", "up"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestDashboardAndAlertsNameMetricsThatExist compares every shipped query with the metrics of a real server, after each
// counted thing has happened.
func TestDashboardAndAlertsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	const noNATS = "nats://127.0.0.1:1" // whose absence the metrics report
	key, _ := keygen(t, build(t))
	b := newErasureTestbed(t)
	p := launch(t, b.bin, append(b.settings, "DATABASE_URL="+pgtest.ServiceURL(t, b.log), "PASSBOOK_RELAY_NATS_URL="+noNATS, "PASSBOOK_SIGNING_KEY_FILE="+key)...)
	follower := launchCommand(t, exec.Command(build(t), "follow", noNATS), "DATABASE_URL="+pgtest.URL(t))
	p.awaitReady(t, time.Minute)
	follower.awaitPort(t)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":1}`, 422)
	a.call("GET", "/accounts/"+id+"?min_position=1", "", 200)
	a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))

	text := scrape(t, p.base)
	shown := map[string]bool{"up": true} // Prometheus adds it
	for line := range strings.Lines(text + scrape(t, follower.base)) {
		if name := strings.FieldsFunc(line, func(r rune) bool { return r == '{' || r == ' ' }); !strings.HasPrefix(line, "#") {
			shown[name[0]] = true
		}
	}
	queries := queriesOf(t)
	if len(queries) < 30 {
		t.Fatalf("only %d queries were found", len(queries))
	}
	for where, query := range queries {
		names := metricsIn(query)
		if len(names) == 0 {
			t.Errorf("%s: no metric in %s", where, query)
		}
		for _, name := range names {
			if !shown[name] {
				t.Errorf("%s: the server does not export %s: %s", where, name, query)
			}
		}
	}
	for _, want := range []string{
		`passbook_commands_total{command="open",outcome="applied"} 1`, `passbook_commands_total{command="withdraw",outcome="refused"} 1`,
		`passbook_append_batch_events_count 1`, `passbook_events_appended_total 1`, `passbook_projection_head{projection="balances"} 1`,
		`passbook_projection_replay_processed_events{projection="balances"} 1`, `passbook_database_up 1`, `passbook_pool_max_connections{pool="commands"} 4`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	checkMetricsDocumented(t, shown)
}

func scrape(t *testing.T, base string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := plain.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", response.StatusCode, err)
	}
	return string(text)
}

// checkMetricsDocumented compares the table in docs/observability.md with the exported metrics, both ways.
func checkMetricsDocumented(t *testing.T, shown map[string]bool) {
	t.Helper()
	text, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, name := range regexp.MustCompile("`(passbook_[a-z_]+)[`{]").FindAllStringSubmatch(string(text), -1) {
		documented[name[1]] = true
		if !shown[name[1]] && !shown[name[1]+"_count"] {
			t.Errorf("docs/observability.md has %s, which the server does not export", name[1])
		}
	}
	for name := range shown {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if strings.HasPrefix(name, "passbook_") && !documented[name] && !documented[base] {
			t.Errorf("docs/observability.md lacks %s", name)
		}
	}
}
