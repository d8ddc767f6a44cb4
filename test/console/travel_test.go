//go:build browser

package console

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// TestTimeTravel views an account in the past, by moment, by position and by the slider.
func TestTimeTravel(t *testing.T) {
	t.Parallel()
	s := serve(t, past(t))
	ada := pastAccount(0)
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 400", "status of 404")
	b.click("main a", "Time travel")
	b.sees("As of now")
	b.until(`document.querySelector('#then').innerText === document.querySelectorAll('.moment .value')[1].innerText`)

	then := func(query string) string {
		return s.call("GET", "/accounts/"+ada+"/balance?"+query, "")["balance"].(string)
	}
	at := time.Now().UTC().Add(-20 * 24 * time.Hour).Truncate(time.Second)
	want := then("at=" + at.Format(time.RFC3339))
	b.script(`const e = document.querySelector('[name=at]'); e.value = %q`, at.Format("2006-01-02T15:04:05"))
	b.button("Show")
	b.until(fmt.Sprintf(`document.querySelector('#then').innerText.replaceAll(',', '') === %q`, want))
	b.until(`document.querySelector('.chart .mark')`)

	b.fillIn("", "position", "300")
	b.button("Show")
	b.until(fmt.Sprintf(`document.querySelector('#then').innerText.replaceAll(',', '') === %q`, then("at_position=300")))
	b.sees("As of position 300")

	b.script(`document.querySelector('.slider').focus()`)
	b.press(kb.Home)
	b.until(`location.hash.includes('&at=')`)
	b.until(`document.querySelector('#then').innerText === '0.00'`)

	b.fillIn("", "position", "0")
	b.button("Show")
	b.until(`document.querySelector('[name=position]').getAttribute('aria-invalid') === 'true' && document.activeElement.name === 'position'`)
	b.fillIn("", "position", "")
	b.fillIn("", "account", "0190a0d2-0000-7000-8000-00000000ffff")
	b.button("Show")
	b.sees("No such account")
	b.fillIn("", "at", "2020-01-01")
	b.fillIn("", "account", "hopper")
	b.until(`document.querySelector('[role=option]').innerText.startsWith('Grace Hopper')`)
	b.button("Show")
	b.sees("The account of Grace Hopper was not open yet.")
	b.fillIn("", "at", "")
	b.button("Show")
	b.until(fmt.Sprintf(`location.hash === '#/time-travel?account=%s' && document.querySelector('#then')`, pastAccount(1)))
	b.until(`document.querySelector('[name=account]').value === 'Grace Hopper'`)
}
