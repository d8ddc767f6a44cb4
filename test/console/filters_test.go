//go:build browser

package console

import (
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
)

// TestFiltersAreFolded opens the filters of a page on a phone, where they would hide what they filter.
func TestFiltersAreFolded(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.balance(ada, s.deposit(ada, "1234.56"))
	b := browse(t, s.gate.URL, "/movements?currency=EUR&min_amount=1", "status of 400")
	b.rows(1)
	b.until(`!document.querySelector('.fold').checkVisibility() && document.querySelector('[name=reference]').checkVisibility()`)
	b.size(360)
	b.until(`document.querySelector('.fold').innerText === 'Filters (2)' && !document.querySelector('[name=reference]').checkVisibility()`)
	b.until(`document.querySelector('tbody tr').getBoundingClientRect().top < innerHeight / 2`)
	b.button("Filters (2)")
	b.until(`document.querySelector('.fold').getAttribute('aria-expanded') === 'true' && document.querySelector('[name=reference]').checkVisibility()`)
	// Amounts are read as in forms.
	b.fillIn("", "min_amount", "1.234,56\r")
	b.until(`location.hash.includes('min_amount=1234.56')`)
	b.rows(1)
	b.button("Filters (2)")
	b.until(`!document.querySelector('[name=reference]').checkVisibility()`)
	// What is wrong with a filter is not hidden.
	b.visit("/movements?currency=EUR&metadata_key=order")
	b.until(`document.querySelector('[name=metadata]').getAttribute('aria-invalid') === 'true' && document.querySelector('[name=metadata]').checkVisibility()`)
	b.visit("/search?q=1%2C234.56")
	b.sees("Movements of this amount")

	// A period is called by its name, also in a link.
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kathmandu"})
	b.size(1440)
	b.visit("/accounts/" + ada)
	b.until(`document.querySelector('[name=period]').selectedOptions[0].innerText === 'Any time'`)
	b.choose("[name=period]", "This year")
	b.until(`location.hash.includes('from=') && document.querySelector('[name=period]').value === 'This year'`)
	b.zone("Asia/Kathmandu")
	b.until(`document.querySelector('[name=period]').value === 'This year'`)
	b.fillIn("", "from", "2020-02-03 04:05\r")
	b.until(`document.querySelector('[name=period]').value === 'custom'`)
	b.choose("[name=period]", "")
	b.until(`!location.hash.includes('from=') && document.querySelector('[name=from]').value === ''`)
	first := time.Date(time.Now().UTC().Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	b.visit("/accounts/" + ada + "/statement?from=" + first.Format(time.DateOnly) + "&to=" + first.AddDate(1, 0, -1).Format(time.DateOnly))
	b.until(`document.querySelector('[name=period]').value === 'This year'`)
	b.visit("/accounts/" + ada + "/holds")
	b.until(`[...document.querySelectorAll('[name=status] option')].map((e) => e.innerText).join() === 'Open (0),Captured (0),Released (0),Expired (0),Any'`)
}
