//go:build browser

package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
)

// figure waits until the account's page shows an amount.
func (b *tab) figure(id, amount string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('#%s').innerText === %q`, id, amount))
}

// rows waits until the page's table has so many.
func (b *tab) rows(n int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelectorAll('tbody tr').length === %d && !document.querySelector('main [aria-busy]')`, n))
}

// tried waits until the open form shows what a dry run would do, which has the focus.
func (b *tab) tried(pieces ...string) {
	b.t.Helper()
	for _, piece := range pieces {
		b.until(fmt.Sprintf(`document.activeElement.matches('.dry-run') && document.activeElement.innerText.includes(%q)`, piece))
	}
}

// TestHolds opens an account with money and metadata, and places, captures and releases holds, wrongly first.
func TestHolds(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	b := browse(t, s.gate.URL, "/accounts", "status of 422")
	b.button("Open an account")
	b.fill("owner", "Ada Lovelace")
	b.choose("dialog [name=currency]", "EUR")
	b.fill("initial_deposit", "100.00")
	b.fill("metadata", "branch: Paris\nno colon here")
	b.submit()
	b.beside("metadata")
	b.fill("metadata", "branch: Paris\n\"a: b\": \"  two\\nlines\"")
	b.submitted()
	b.figure("balance", "100.00")
	b.figure("held", "0.00")
	b.sees("branch", "Paris", "a: b")
	ada := b.text("#account-id")
	metadata := s.call("GET", "/accounts/"+ada, "")["metadata"].(map[string]any)
	if len(metadata) != 2 || metadata["branch"] != "Paris" || metadata["a: b"] != "  two\nlines" {
		t.Errorf("the metadata is %v", metadata)
	}

	b.link("Holds")
	b.sees("No holds match.")
	b.button("Hold")
	b.fill("amount", "100.01")
	b.submit()
	b.beside("amount")
	b.fill("amount", "60")
	b.fill("reference", "room 12")
	b.script(`document.querySelector('dialog [name=expires_at]').value = '2001-01-01T00:00'`)
	b.submit()
	b.beside("expires_at")
	b.script(`document.querySelector('dialog [name=expires_at]').value = '2100-01-01T00:00'`)
	b.button("Dry run")
	b.tried("Nothing has been recorded.", "HoldPlaced", "60.00 EUR until 2100-01-01", "40.00 EUR is available")
	b.submitted()
	b.figure("held", "60.00")
	b.figure("available", "40.00")
	b.figure("balance", "100.00")
	b.rows(1)
	b.sees("1 hold", "room 12", "2100-01-01 00:00:00")

	b.button("Hold")
	b.fill("amount", "10")
	b.fill("metadata", "guest: Grace")
	b.submitted()
	b.rows(2)
	b.sees("guest: Grace")
	b.button("Release") // the newest
	b.fill("reason", "left early")
	b.submitted()
	b.figure("held", "60.00")
	b.rows(1)
	b.button("Capture")
	b.fill("amount", "60.01")
	b.submit()
	b.beside("amount")
	b.fill("amount", "45")
	b.submitted()
	b.figure("balance", "55.00")
	b.figure("held", "0.00")
	b.figure("available", "55.00")
	b.sees("No holds match.")
	b.choose(`.filters [name="status"]`, "captured")
	b.rows(1)
	b.sees("45.00 captured")
	b.choose(`.filters [name="status"]`, "any")
	b.rows(2)
	b.sees("released")
	b.link("Events")
	b.sees("HoldPlaced", "HoldReleased", "left early", "HoldCaptured", "15.00 EUR released")
	b.visit("/accounts")
	b.size(360)
	b.visit("/accounts/" + ada + "/events")
	b.until(`document.querySelector('.tabs [aria-current]').getBoundingClientRect().right < innerWidth && document.querySelector('td[data-label=What] time')`)
}

// TestEditing changes an account while others change it too.
func TestEditing(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","metadata":{"branch":"Paris","tier":"gold"}}`)["account_id"].(string)
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 422", "status of 412")
	b.figure("balance", "0.00")
	b.button("Edit")
	b.fill("owner", "")
	b.submit()
	b.beside("owner")
	b.fill("owner", "Ada King")
	b.fill("overdraft_limit", "50")
	b.fill("metadata", "branch: London\nsince: 1843")
	b.button("Dry run")
	b.tried("OwnerChanged", "Ada King", "OverdraftLimitChanged", "50.00 EUR", "MetadataChanged", "branch: London, since: 1843")
	b.submitted()
	b.until(`document.querySelector('h1').innerText === 'Ada King'`)
	b.figure("available", "50.00")
	b.sees("London", "1843")
	b.until(`!document.querySelector('.account-head').innerText.includes('gold')`)
	sent := s.gate.requests("PATCH", "/accounts/"+ada)
	if last := sent[len(sent)-1]; last.header.Get("If-Match") != `"1"` || last.header.Get("Idempotency-Key") == "" {
		t.Errorf("the change was sent with %v", last.header)
	}

	// That money has moved meanwhile does not matter.
	b.button("Edit")
	b.fill("overdraft_limit", "60")
	s.balance(ada, s.deposit(ada, "1"))
	b.submitted()
	b.figure("available", "61.00")

	// Another change does, and is told of. What was not touched here is left as the other has made it.
	b.button("Edit")
	b.fill("overdraft_limit", "70")
	other := s.call("PATCH", "/accounts/"+ada, `{"owner":"Lady Lovelace","metadata":{"since":null}}`)
	s.balance(ada, int64(other["position"].(float64)))
	b.submit()
	b.atTop("The account has changed since you opened this form.")
	b.atTop("The owner is now Lady Lovelace. The metadata is now branch: London. Nothing was saved.")
	b.submitted()
	b.until(`document.querySelector('h1').innerText === 'Lady Lovelace'`)
	b.figure("available", "71.00")
	b.until(`!document.querySelector('.account-head').innerText.includes('1843')`)
}

// TestFindingMovements searches across accounts, and reverses what it finds.
func TestFindingMovements(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada, grace := s.open("Ada Lovelace", "EUR"), s.open("Grace Hopper", "EUR")
	first := s.call("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"100","reference":"invoice 17","metadata":{"order":"A-1"}}`, ada))["position"]
	s.deposit(ada, "7")
	moved := s.call("POST", "/transfers", fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"30","reference":"rent"}`, ada, grace))
	s.balance(ada, int64(s.call("POST", "/withdrawals", fmt.Sprintf(`{"account_id":%q,"amount":"25"}`, grace))["position"].(float64)))
	b := browse(t, s.gate.URL, "/movements", "status of 400", "status of 422")
	b.rows(5)
	b.sees("5 movements")

	b.fillIn("", "reference", "invoice 17\r")
	b.rows(1)
	b.sees("1 movement", "order: A-1")
	b.fillIn("", "reference", "\r")
	b.rows(5)
	b.fillIn("", "metadata_key", "order\r")
	b.until(`document.querySelector('.filters [name=metadata]').getAttribute('aria-invalid') === 'true' && document.querySelector('.filters .field-error:not([hidden])').innerText`)
	b.fillIn("", "metadata", "A-1\r")
	b.rows(1)
	b.fillIn("", "metadata_key", "\r")
	b.fillIn("", "metadata", "\r")
	b.rows(5)
	b.fillIn("", "min_amount", "lots\r")
	b.until(`document.querySelector('.filters [name=min_amount]').getAttribute('aria-invalid') === 'true'`)
	b.fillIn("", "min_amount", "26\r")
	b.rows(3)
	b.fillIn("", "max_amount", "30\r")
	b.rows(2)
	b.fillIn("", "min_amount", "\r")
	b.fillIn("", "max_amount", "\r")
	b.visit("/movements?currency=USD")
	b.sees("No movements match.")
	b.choose(`.filters [name="currency"]`, "")
	b.rows(5)
	b.script(`const e = document.querySelector('[name=to]'); e.value = '2001-01-01T00:00:00'; e.dispatchEvent(new Event('change', { bubbles: true }))`)
	b.sees("No movements match.")
	b.script(`const e = document.querySelector('[name=to]'); e.value = ''; e.dispatchEvent(new Event('change', { bubbles: true }))`)
	b.fillIn("", "transfer_id", moved["transfer_id"].(string)+"\r")
	b.rows(2)
	b.until(fmt.Sprintf(`document.querySelector('td a[href="#/accounts/%s"]') && document.querySelector('td a[href="#/accounts/%s"]')`, ada, grace))

	// The recipient has spent it: refused, and said so before anything is confirmed.
	b.button("Reverse")
	b.fill("amount", "31")
	b.submit()
	b.beside("amount")
	b.fill("amount", "20")
	b.fill("reason", "paid twice")
	b.submit()
	b.until(`document.querySelector('dialog[open]').innerText.includes('nsufficient funds')`)
	b.sees("Warning: takes the money even if it has been spent.")
	b.click("dialog [name=force]", "")
	b.submit()
	b.tried("Nothing has been recorded.", "CreditReversed", "DebitReversed", "forced", "paid twice")
	b.until(`document.querySelector('dialog[open] button[type=submit]').innerText === 'Reverse it'`)
	b.fill("reason", "paid two times") // what is confirmed is what was tried
	b.until(`document.querySelector('dialog[open] button[type=submit]').innerText !== 'Reverse it' && document.querySelector('.dry-run').hidden`)
	b.submit()
	b.tried("paid two times")
	if got := len(s.gate.requests("POST", "/reversals")); got != 4 {
		t.Errorf("%d requests", got)
	}
	for _, r := range s.gate.requests("POST", "/reversals") {
		if r.query != "dry_run=true" {
			t.Errorf("it was reversed before it was confirmed: %v", r)
		}
	}
	b.submitted()
	b.rows(4) // the reversals are of the transfer too
	b.sees("reversed by", ": 20.00 EUR", "reverses the movement at")

	b.visit("/accounts/" + grace)
	b.figure("balance", "−15.00")
	b.rows(3)
	b.sees("Reversal out", "reverses the movement at")
	b.visit("/accounts/" + ada)
	b.figure("balance", "97.00")
	b.click(fmt.Sprintf(`button[aria-label="Reverse the movement at position %v"]`, first), "Reverse")
	b.fill("amount", "97")
	b.submit()
	b.tried("CreditReversed", "0.00 EUR")
	b.submitted()
	b.figure("balance", "0.00")
	b.sees(": 97.00 EUR")
	b.visit("/log/" + fmt.Sprint(first))
	b.sees("MoneyDeposited")
}

// TestAStatement reads the statement of a month, on a desk, on a phone and on paper, and takes it away as CSV.
func TestAStatement(t *testing.T) {
	t.Parallel()
	source := axe(t)
	s := serve(t, past(t))
	ada := pastAccount(0)
	now := time.Now().UTC()
	from, to := now.AddDate(0, 0, -40), now.AddDate(0, 0, -10)
	period := func(t time.Time) string { return t.Format("2006-01-02") }
	b := browse(t, s.gate.URL, "/accounts/"+ada+"/statement?from="+period(from)+"&to="+period(to), "status of 400")
	exact := s.call("GET", fmt.Sprintf("/accounts/%s/statement?from=%sT00:00:00Z&to=%sT00:00:00Z", ada, period(from), period(to.AddDate(0, 0, 1))), "")
	movements := len(exact["transactions"].([]any))
	if movements < 10 || exact["opening_balance"] == exact["closing_balance"] {
		t.Fatalf("a dull statement: %v", exact)
	}
	b.rows(movements)
	for id, name := range map[string]string{"opening": "opening_balance", "closing": "closing_balance"} {
		b.until(fmt.Sprintf(`document.querySelector('#%s').innerText.replaceAll(',', '') === %q`, id, exact[name]))
	}
	b.sees("Opening balance", "Closing balance", "Ada Lovelace")

	name, saved := b.saved(s, "Download as CSV")
	if strings.Count(saved, "\r\n") != movements+3 || !strings.Contains(saved, exact["closing_balance"].(string)) {
		t.Errorf("%s:\n%s", name, saved)
	}
	if got := name; got != fmt.Sprintf("statement-%s-%s-%s.csv", ada[len(ada)-8:], period(from), period(to.AddDate(0, 0, 1))) {
		t.Errorf("it is saved as %s", got)
	}

	for _, width := range []int64{360, 1440} {
		b.size(width)
		b.until(`document.querySelector('#closing')`)
		b.fits(fmt.Sprintf("statement-%d", width), width)
		b.accessible(source, fmt.Sprintf("statement-%d", width))
		b.shoot(fmt.Sprintf("statement-%d", width))
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	b.until(`document.querySelector('#closing').checkVisibility() && document.querySelector('.sheet table').checkVisibility() && document.querySelector('h1').checkVisibility()
		&& ['nav', '.filters', '.account-head', '.chart', '.sheet button'].every((selector) => !document.querySelector(selector)?.checkVisibility())`)
	b.shoot("statement-print")
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	b.script(`const e = document.querySelector('[name=from]'); e.value = %q; e.dispatchEvent(new Event('change', { bubbles: true }))`, period(now.AddDate(1, 0, 0)))
	b.until(`document.querySelector('[name=to]').getAttribute('aria-invalid') === 'true'`) // it is before the first day
}
