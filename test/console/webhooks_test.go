//go:build browser

package console

import (
	"fmt"
	"testing"
	"time"
)

// TestWebhooksAreOperated creates a webhook whose receiver does not exist, sees it fail, pauses it, and resumes it once it is parked.
func TestWebhooksAreOperated(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	b := browse(t, s.gate.URL, "/projections", "status of 422")
	b.link("Webhooks")
	b.sees("There are no webhooks.")
	b.button("Create a webhook")
	b.fill("url", "https://127.0.0.1/hook")
	b.submit()
	b.beside("url")
	b.fill("url", "https://hooks.invalid/passbook")
	b.submit()
	b.until(`/^whsec_.{44}$/.test(document.querySelector('dialog .secret').innerText)`)
	b.button("I have kept it")
	b.until(`document.querySelector('dialog') === null`)
	b.sees("https://hooks.invalid/passbook", "of all types")
	s.open("Ada Lovelace", "EUR")
	b.sees("Last error", "Failing since", "1 behind")
	b.until(`document.querySelector('.webhook .badge').innerText === 'failing'`)
	b.click("details summary", "Last deliveries")
	b.until(`document.querySelector('tbody tr').innerText.includes('AccountCreated')`)
	b.until(`document.querySelector('tbody .badge').innerText === 'failed'`)
	// The overview says so, and what is about to expire.
	ada := s.open("Ada Byron", "EUR")
	s.deposit(ada, "500.00")
	placeHold := func(amount, reference string, days int) (position int64) {
		return int64(s.call("POST", "/accounts/"+ada+"/holds", fmt.Sprintf(`{"amount":%q,"reference":%q,"expires_at":%q}`, amount, reference,
			time.Now().UTC().AddDate(0, 0, days).Format(time.RFC3339)))["position"].(float64))
	}
	placeHold("60.00", "room 12", 3)
	placeHold("10.00", "room 13", 30)
	s.balance(ada, placeHold("40.50", "room 11", 1))
	b.visit("/")
	b.until(`[...document.querySelectorAll('[aria-label="Holds about to expire"] tbody tr')].map((e) => e.innerText.replaceAll(/\s+/g, ' ').replace(/^\S+ \S+ UTC /, '')).join() === 'Ada Byron room 11 40.50 EUR,Ada Byron room 12 60.00 EUR'`)
	b.until(`document.querySelector('.sums').innerText.replaceAll(/\s+/g, ' ') === '2 in EUR 100.50 EUR'`)
	b.until(`document.querySelector('[aria-label="Webhooks that fail"] tbody tr').innerText.match(/hooks.invalid[^]*failing/)`)
	b.until(`document.querySelectorAll('[aria-label="Largest movements"] tbody tr').length === 1 && document.querySelectorAll('.chart .line').length === 6`) // nothing moves now
	b.click(`[aria-label="Holds about to expire"] a`, "Ada Byron")
	b.until(fmt.Sprintf(`location.hash === '#/accounts/%s/holds'`, ada))
	b.visit("/webhooks")
	b.button("Pause")
	b.until(`document.querySelector('.webhook .badge').innerText === 'paused'`)
	s.exec("update webhooks set state = 'parked', last_error = 'out of order', epoch = epoch + 1")
	b.until(`document.querySelector('.webhook .badge').innerText === 'parked'`)
	b.sees("out of order")
	b.button("Resume")
	b.until(`/active|failing/.test(document.querySelector('.webhook .badge').innerText)`)
}
