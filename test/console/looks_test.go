//go:build browser

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// axeRun returns the serious violations of the rules on the page, as lines.
const axeRun = `axe.run(document, { resultTypes: ['violations'], ...(rules.length > 0 ? { runOnly: rules } : {}) }).then((result) => result.violations
  .filter((v) => v.impact === 'serious' || v.impact === 'critical')
  .map((v) => v.id + ' (' + v.impact + '): ' + v.help + '\n  ' + v.nodes.map((n) => n.html + ' ' + (n.any[0]?.message ?? '')).join('\n  ')).join('\n'))`

// axe is the source of axe-core, or "" if it could not be fetched.
func axe(t *testing.T) string {
	t.Helper()
	path := os.Getenv("AXE_CORE")
	if path == "" {
		return ""
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// ofColors are the rules of axe-core whose outcome depends on the theme.
var ofColors = []string{"color-contrast", "link-in-text-block"}

// accessible fails the test for each serious violation of these rules that axe-core finds on the page, or of all if none is given.
func (b *tab) accessible(source, what string, rules ...string) {
	b.t.Helper()
	if source == "" {
		return
	}
	if there, err := eval[bool](b, `typeof axe === 'object'`); err != nil || !there {
		if _, err := eval[bool](b, source+`; true`); err != nil {
			b.t.Fatal(err)
		}
	}
	list, err := json.Marshal(append([]string{}, rules...))
	if err != nil {
		b.t.Fatal(err)
	}
	found, err := eval[string](b, "(async (rules) => "+axeRun+")("+string(list)+")")
	if err != nil {
		b.t.Fatal(err)
	}
	if found != "" {
		b.t.Errorf("%s is not accessible:\n%s", what, found)
	}
}

// fits fails the test if the page is wider than the window.
func (b *tab) fits(what string, width int64) {
	b.t.Helper()
	over, err := eval[[]string](b, fmt.Sprintf(`document.documentElement.scrollWidth <= %[1]d && innerWidth <= %[1]d ? [] : ['the page', ...[...document.querySelectorAll('main *')]
		.filter((e) => e.getBoundingClientRect().right > %[1]d && !e.closest('.scroll, .tabs, pre, .canvas')).map((e) => e.outerHTML.slice(0, 120))]`, width))
	if err != nil || len(over) > 0 {
		b.t.Errorf("%s scrolls horizontally (%v): %s", what, err, strings.Join(over, "\n"))
	}
}

// TestEveryPage checks every page, light and dark, at both widths: it fits, it is accessible, and the browser reports no
// error.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	source := axe(t)
	s := serve(t, past(t))
	ada := pastAccount(0)
	s.call("POST", "/accounts/"+pastAccount(11)+"/suspend", `{"reason":"under review"}`)
	s.deposit(ada, "1234.56")
	s.call("POST", "/accounts/"+ada+"/holds", `{"amount":"60.00","reference":"room 12","expires_at":"2100-01-01T00:00:00Z","metadata":{"guest":"Grace"}}`)
	s.worries()
	ctx, stop := context.WithCancel(t.Context())
	busy := make(chan struct{})
	go func() { defer close(busy); keepBusy(ctx, s) }()
	defer func() { stop(); <-busy }()
	b := browse(t, s.gate.URL, "/")
	for _, look := range []struct {
		name, path, shown string
		open              string // a button to click on
		gallery           bool   // docs/console.md shows it
	}{
		{"overview", "/", `document.querySelectorAll('tbody tr').length >= 4 && document.querySelectorAll('.checks li').length >= 5 && document.querySelectorAll('.chart .line').length === 6 && document.querySelectorAll('[aria-label="Holds about to expire"] tbody tr').length === 4 && document.querySelector('[aria-label="Webhooks that fail"] tbody tr')`, "", true},
		{"accounts", "/accounts", `document.querySelectorAll('tbody tr').length >= 12`, "", true},
		{"open-account", "/accounts", `document.querySelector('dialog[open]')`, "Open an account", false},
		{"account", "/accounts/" + ada, `document.querySelector('.chart .line') && document.querySelectorAll('tbody tr').length >= 20`, "", true},
		{"deposit", "/accounts/" + ada, `document.querySelector('dialog[open]')`, "Deposit", true},
		{"reverse", "/accounts/" + ada, `document.querySelector('dialog[open]')`, "Reverse", false},
		{"edit", "/accounts/" + ada, `document.querySelector('dialog[open]')`, "Edit", false},
		{"hold", "/accounts/" + ada, `document.querySelector('dialog[open]')`, "Hold", false},
		{"account-holds", "/accounts/" + ada + "/holds", `document.querySelectorAll('tbody tr').length === 1`, "", false},
		{"search", "/search?q=EMMY", `document.querySelectorAll('tbody tr').length === 1`, "", true},
		{"movements", "/movements", `document.querySelectorAll('tbody tr').length === 25`, "", true},
		{"account-events", "/accounts/" + ada + "/events", `document.querySelectorAll('tbody tr').length >= 100 && document.querySelector('.chart .line')`, "", false},
		{"log", "/log", `document.querySelectorAll('tbody tr').length >= 50 && document.querySelector('[role=status] .good')`, "", true},
		{"event", "/log/400", `document.querySelector('pre')`, "", false},
		{"projections", "/projections", `document.querySelectorAll('.projection').length === 5`, "", false},
		{"projection", "/projections/balances", `document.querySelector('.projection dd')`, "", false},
		{"replay", "/projections/balances", `document.querySelector('dialog[open]')`, "Replay", false},
		{"time-travel", "/time-travel?account=" + ada + "&at=" + time.Now().Add(-30*24*time.Hour).UTC().Format(time.RFC3339), `document.querySelector('.chart .mark') && document.querySelector('#then')`, "", false},
		{"missing", "/nowhere", `document.querySelector('h1').innerText === 'No such page'`, "", false},
	} {
		b.visit(look.path)
		if look.open != "" {
			b.button(look.open)
		}
		b.until(look.shown)
		for _, width := range []int64{360, 1440} {
			b.size(width)
			for _, theme := range []string{"light", "dark"} {
				rules := map[string][]string{"dark": ofColors}[theme] // the others do not depend on it
				b.theme(theme)
				what := fmt.Sprintf("%s-%d-%s", look.name, width, theme)
				b.until(look.shown)
				b.fits(what, width)
				b.accessible(source, what, rules...)
				b.shoot(what)
				if look.gallery {
					b.picture(look.name, width, theme)
				}
				if look.name == "overview" {
					b.script(`document.querySelector('[aria-label="Holds about to expire"]').closest('.panel').scrollIntoView()`)
					b.picture("overview-below", width, theme)
					b.script(`scrollTo(0, 0)`)
				}
			}
		}
		if look.open != "" {
			b.button("Cancel")
		}
	}
	if source == "" {
		t.Skip("AXE_CORE is not set: accessibility was not checked, because axe-core could not be fetched (scripts/axe-core)")
	}
}

// worries places holds that expire soon, in several currencies, and makes a webhook that has failed for long.
func (s *fixture) worries() {
	s.t.Helper()
	for _, hold := range []struct {
		account        int
		amount, reason string
		days           int
	}{{1, "420.00", "hotel, three nights", 1}, {2, "150.50", "rental car", 3}, {3, "90000", "deposit for the hall", 4}, {4, "80.00", "fuel", 6}} {
		account := pastAccount(hold.account)
		s.deposit(account, hold.amount)
		s.call("POST", "/accounts/"+account+"/holds", fmt.Sprintf(`{"amount":%q,"reference":%q,"expires_at":%q}`, hold.amount, hold.reason,
			time.Now().UTC().AddDate(0, 0, hold.days).Format(time.RFC3339)))
	}
	s.call("POST", "/webhooks", `{"url":"https://hooks.invalid/orders"}`)
	s.exec(`update webhooks set state = 'parked', epoch = epoch + 1, last_error = 'the receiver responded with 503', failing_since = now() - interval '25 hours'`)
}

// keepBusy moves money regularly, so that live views show something.
func keepBusy(ctx context.Context, s *fixture) {
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range 1 + n%5 {
			path, why := "/deposits", "card payment"
			if (n+i)%3 == 0 {
				path, why = "/withdrawals", "cash"
			}
			_, _, _ = s.send("POST", path, fmt.Sprintf(`{"account_id":%q,"amount":"%d","reference":"%s %d"}`, pastAccount(1+(n+2*i)%5), 10+(7*n+13*i)%90, why, 100+n))
		}
	}
}
