//go:build browser

package console

import (
	"fmt"
	"testing"
)

// TestAccountsHaveNames sees accounts by the names of their owners wherever money has moved between two of them.
func TestAccountsHaveNames(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada, grace := s.open("Ada Lovelace", "EUR"), s.open("Grace Hopper", "EUR")
	s.deposit(ada, "100")
	sent := int64(s.call("POST", "/transfers", fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"30"}`, ada, grace))["position"].(float64))
	s.balance(ada, sent)
	b := browse(t, s.gate.URL, "/movements")
	cells := func(label string, names ...string) {
		t.Helper()
		for i, name := range names {
			b.until(fmt.Sprintf(`[...document.querySelectorAll('td[data-label="%s"]')][%d].innerText.endsWith(%q)`, label, i, name))
		}
	}
	b.rows(3)
	cells("Account", "Grace Hopper", "Ada Lovelace", "Ada Lovelace")
	cells("Other account", "Ada Lovelace", "Grace Hopper")
	for _, path := range []string{"", "/statement"} {
		b.visit("/accounts/" + grace + path)
		b.rows(1)
		cells("Other account", "Ada Lovelace")
	}
	b.visit("/log")
	b.rows(5)
	cells("Account", "Grace Hopper", "Ada Lovelace", "Ada Lovelace", "Grace Hopper", "Ada Lovelace")
	b.sees("+30.00 EUR from Ada Lovelace", "−30.00 EUR to Grace Hopper")
	b.visit(fmt.Sprintf("/log/%d", sent))
	b.sees("+30.00 EUR from Ada Lovelace", grace)

	b.visit("/accounts/" + grace)
	b.rows(1)
	b.button("Reverse")
	b.until(`document.querySelector('dialog h2').innerText === 'Reverse the transfer of 30.00 EUR from Ada Lovelace to Grace Hopper'`)
	b.submit()
	b.tried("−30.00 EUR to Ada Lovelace for the movement at", "+30.00 EUR from Grace Hopper", "Then the balance is 0.00 EUR, and 0.00 EUR is available.")
	b.submitted()
	b.said(fmt.Sprintf("Reversed 30.00 EUR of the transfer from Ada Lovelace to Grace Hopper, at position %d.", sent+2), "/accounts/"+ada, "/accounts/"+grace)

	// A name that changes is read again.
	b.button("Edit")
	b.fill("owner", "Rear Admiral Hopper")
	b.submitted()
	b.visit("/movements")
	cells("Account", "Ada Lovelace", "Rear Admiral Hopper")

	for _, read := range []string{ada, grace} {
		if got := len(s.gate.requests("GET", "/accounts/"+read)); got > 12 {
			t.Errorf("the account %s was read %d times", read, got)
		}
	}
}
