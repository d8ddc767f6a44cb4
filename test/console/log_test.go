//go:build browser

package console

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLiveLog follows the log, pauses it, loses the connection, and opens one event.
func TestLiveLog(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada, rich := s.open("Ada Lovelace", "EUR"), s.open("Croesus", "EUR")
	b := browse(t, s.gate.URL, "/log", "ERR_", "409 (Conflict)")
	b.until(`document.querySelectorAll('tbody tr').length === 2 && document.querySelector('[role=status]').innerText === 'live'`)

	// Amounts are exact where a JavaScript number is not.
	s.deposit(rich, "92233720368547758.07")
	b.sees("+92,233,720,368,547,758.07 EUR")
	b.button("Pause")
	b.until(`document.querySelector('[role=status]').innerText === 'paused'`)
	last := s.deposit(ada, "1.01")
	s.deposit(ada, "1.02")
	before := len(s.gate.requests("GET", "/events"))
	b.button("Continue")
	b.sees("+1.01 EUR", "+1.02 EUR")
	requests := s.gate.requests("GET", "/events")
	if got := requests[before].header.Get("Last-Event-Id"); got != strconv.FormatInt(last-1, 10) {
		t.Errorf("continues after %q, want %d", got, last-1)
	}
	s.gate.CloseClientConnections()
	s.deposit(ada, "1.03")
	b.sees("+1.03 EUR")
	b.until(`document.querySelector('[role=status]').innerText === 'live'`)
	b.until(`new Set([...document.querySelectorAll('tbody tr')].map((r) => r.dataset.key)).size === document.querySelectorAll('tbody tr').length`)

	b.fillIn("", "subject", rich+"\r")
	b.until(`document.querySelectorAll('tbody tr').length === 2`)
	b.fillIn("", "subject", "\r")
	b.until(`document.querySelectorAll('tbody tr').length >= 6`)
	b.fillIn("", "subject", "nobody\r")
	b.until(`document.querySelector('[name=subject]').getAttribute('aria-invalid') === 'true' && document.querySelector('.field-error:not([hidden])').innerText.includes('choose one')`)
	b.fillIn("", "subject", "crOE")
	b.click("[role=option]", "")
	b.until(fmt.Sprintf(`document.querySelectorAll('tbody tr').length === 2 && location.hash === '#/log?subject=%s' && document.querySelector('[name=subject]').value === 'Croesus'`, rich))
	b.run(chromedp.Reload()) // a link to the page shows the owner too
	b.until(`document.querySelectorAll('tbody tr').length === 2 && document.querySelector('[name=subject]').value === 'Croesus'`)
	b.choose(`[name="type"]`, "AccountCreated")
	b.until(`document.querySelectorAll('tbody tr').length === 1`)
	s.deposit(ada, "1.04")
	b.fillIn("", "subject", "\r")
	b.until(`document.querySelectorAll('tbody tr').length === 2 && document.querySelector('tbody').innerText.includes('Croesus')`)
	b.choose(`[name="type"]`, "")
	b.until(`document.querySelectorAll('tbody tr').length >= 6`)

	// The page keeps only as many rows as it can show.
	var many strings.Builder
	for n := range 700 {
		fmt.Fprintf(&many, `,{"command":"deposit","account_id":%q,"amount":"%d"}`, ada, 1000+n)
	}
	if status, raw, err := s.send("POST", "/commands", "["+many.String()[1:]+"]"); err != nil || status != 200 {
		t.Fatalf("%d %.200s %v", status, raw, err)
	}
	b.sees("+1,699.00 EUR")
	b.until(`document.querySelectorAll('tbody tr').length === 300`)

	newest := b.text("tbody a")
	b.click("tbody a", newest)
	b.until(`document.querySelector('h1').innerText.startsWith('Event ')`)
	b.visit("/log/3")
	b.until(`document.querySelector('pre').innerText.includes('"amount": "92233720368547758.07"')`)
	b.link("Previous")
	b.until(`document.querySelector('h1').innerText === 'Event 2' && document.querySelector('pre').innerText.includes('Croesus')`)
	b.visit("/log/99999")
	b.sees("The log has not reached this position yet.")
}
