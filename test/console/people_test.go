//go:build browser

package console

import (
	"fmt"
	"strings"
	"testing"
)

// broken lists the amounts on the page that are not shown as money is: each on one line, to the right and in view.
const broken = `[...document.querySelectorAll('td:is([data-label=Amount], [data-label=Balance], [data-label=Held], [data-label=Available]), .value, .figure')].filter((e) => e.checkVisibility()).flatMap((e) => {
	const range = document.createRange();
	range.selectNodeContents(e.matches('td') ? e.firstElementChild : e);
	const boxes = [...range.getClientRects()].filter((r) => r.width > 0);
	const lines = new Set(boxes.map((r) => Math.round((r.top + r.bottom) / 20)));
	const right = Math.max(...boxes.map((r) => r.right));
	const scroll = e.closest('.scroll')?.getBoundingClientRect().right ?? innerWidth;
	const edge = e.getBoundingClientRect().right - parseFloat(getComputedStyle(e).paddingRight);
	const wrong = [];
	if (lines.size > 1 && !e.querySelector('.under')) wrong.push('is broken');
	if (right > Math.min(innerWidth, scroll)) wrong.push('is cut off');
	if (e.matches('td') && Math.abs(right - edge) > 1.5) wrong.push('is not to the right');
	if (getComputedStyle(e).fontVariantNumeric !== 'tabular-nums') wrong.push('has digits of different widths');
	return wrong.map((one) => e.innerText + ' ' + one);
})`

// TestMoneyIsReadable shows amounts of 16 digits beside a reference of 120 characters, on a desk and on a phone.
func TestMoneyIsReadable(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada, grace := s.open("Ada Lovelace", "KWD"), s.open("Grace Hopper", "KWD")
	s.call("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"1234568045451.543","reference":%q}`, ada, strings.Repeat("0123456789", 12)))
	s.call("POST", "/accounts/"+ada+"/holds", fmt.Sprintf(`{"amount":"234568045451.543","reference":%q}`, strings.Repeat("0123456789", 12)))
	s.balance(ada, int64(s.call("POST", "/transfers", fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"234568045451.543","reference":"the rent of the whole of last year"}`, ada, grace))["position"].(float64)))
	b := browse(t, s.gate.URL, "/accounts/"+ada)
	for _, page := range []struct{ path, shown string }{
		{"/accounts/" + ada, `document.querySelectorAll('tbody tr').length === 2 && document.querySelector('#balance')`},
		{"/accounts/" + ada + "/statement", `document.querySelectorAll('tbody tr').length === 2 && document.querySelector('#closing')`},
		{"/accounts/" + ada + "/holds", `document.querySelectorAll('tbody tr').length === 1`},
		{"/movements", `document.querySelectorAll('tbody tr').length === 3`},
		{"/accounts", `document.querySelectorAll('tbody tr').length === 2`},
		{"/time-travel?account=" + ada, `document.querySelector('#then')`},
	} {
		b.visit(page.path)
		for _, width := range []int64{360, 1440} {
			b.size(width)
			b.until(page.shown)
			what := fmt.Sprintf("money%s-%d", strings.ReplaceAll(strings.ReplaceAll(page.path, "/", "-"), ada, "ada"), width)
			b.fits(what, width)
			b.script(`document.querySelector('main tbody, main .moments').scrollIntoView({ block: 'center' })`)
			b.shoot(what)
			found, err := eval[[]string](b, broken)
			if err != nil || len(found) > 0 {
				t.Errorf("%s: %v\n%s", what, err, strings.Join(found, "\n"))
			}
			if there, _ := eval[bool](b, `document.querySelector('td[data-label=Amount], td[data-label=Balance], .value') !== null`); !there {
				t.Errorf("%s shows no money", what)
			}
		}
	}
}
