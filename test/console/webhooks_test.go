//go:build browser

package console

import "testing"

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
	b.click("details summary", "Last deliveries")
	b.until(`document.querySelector('tbody tr').innerText.includes('AccountCreated')`)
	b.until(`document.querySelector('tbody .badge').innerText === 'failed'`)
	b.button("Pause")
	b.until(`document.querySelector('.webhook .badge').innerText === 'paused'`)
	s.exec("update webhooks set state = 'parked', last_error = 'out of order', epoch = epoch + 1")
	b.until(`document.querySelector('.webhook .badge').innerText === 'parked'`)
	b.sees("out of order")
	b.button("Resume")
	b.until(`document.querySelector('.webhook .badge').innerText === 'active'`)
}
