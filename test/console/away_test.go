//go:build browser

package console

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
)

// TestBehindAndAway deposits while the projection of balances is paused, and reads pages while the server is unavailable.
func TestBehindAndAway(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.balance(ada, s.deposit(ada, "100"))
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 503", "ERR_", "status of 502")
	b.shows("100.00")
	s.call("POST", "/projections/balances/pause", "")
	b.button("Deposit")
	b.fill("amount", "7")
	b.submitted()
	b.until(`document.querySelector('.late').innerText.startsWith('The account is shown as of position 2. What was recorded last is not in it yet.')`)
	b.shows("100.00")
	b.until(`document.querySelectorAll('tbody tr').length === 2`) // transactions goes on
	s.call("POST", "/projections/balances/resume", "")
	b.shows("107.00")
	b.until(`!document.querySelector('.late').checkVisibility()`)

	// What could not be read is read again by itself.
	s.gate.instead(cut)
	b.visit("/movements")
	b.sees("The server cannot be reached")
	s.gate.instead(nil)
	b.rows(2)
	b.until(`!document.querySelector('main').innerText.includes('cannot be reached')`)

	// A statement is printed without what can be done with the account.
	b.visit("/accounts/" + ada + "/statement")
	b.rows(2)
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	b.until(`document.body.innerText.includes('Closing balance') && document.body.innerText.includes('Ada Lovelace')`)
	b.until(`!/Deposit\n|is closed when|\blive\b|\bactive\b|Print/.test(document.body.innerText)`)
}
