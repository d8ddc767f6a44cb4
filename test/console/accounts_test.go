//go:build browser

package console

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// beside waits until the open form shows an error next to a field, linked to it for screen readers.
func (b *tab) beside(name string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`(() => {
		const e = document.querySelector('dialog[open] [name=%q]');
		const said = e.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id)).filter((d) => d.matches('.field-error') && d.checkVisibility() && d.innerText);
		return e.getAttribute('aria-invalid') === 'true' && said.length === 1;
	})()`, name))
}

// atTop waits until the open form shows a problem that does not concern a field.
func (b *tab) atTop(piece string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('dialog[open] .problem[role=alert]:not([hidden])').innerText.includes(%q)`, piece))
}

// submitted sends the form, which must be accepted.
func (b *tab) submitted() {
	b.t.Helper()
	b.submit()
	b.until(`!document.querySelector('dialog')`)
}

// picked waits until the open form shows whose account is picked.
func (b *tab) picked(owner string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('dialog .chosen').innerText.startsWith(%q)`, owner))
}

func (b *tab) shows(balance string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('#balance').innerText === %q`, balance))
}

// kindCounts is the text of the choices of a kind, each with its count.
const kindCounts = `[...document.querySelectorAll('[name=kind] option')].map((e) => e.innerText).join()`

// TestAccountLifecycle opens an account and performs every operation on it, each with invalid input first.
func TestAccountLifecycle(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	other := s.open("Grace Hopper", "EUR")
	b := browse(t, s.gate.URL, "/accounts", "status of 422", "status of 404", "status of 503")

	b.button("Open an account")
	b.submit()
	b.beside("owner")
	b.beside("currency")
	b.until(`document.activeElement.name === 'owner'`)
	b.fill("owner", "Ada Lovelace")
	b.choose("dialog [name=currency]", "EUR")
	b.fill("overdraft_limit", "lots")
	b.submit()
	b.beside("overdraft_limit")
	b.until(`!document.querySelector('dialog [name=owner]').hasAttribute('aria-invalid')`)
	b.fill("overdraft_limit", "")
	b.submitted()
	b.sees("Ada Lovelace")
	b.shows("0.00")
	ada := b.text("#account-id")

	b.button("Deposit")
	b.fill("amount", "12.345")
	b.submit()
	b.beside("amount")
	b.fill("amount", "100.00")
	b.fill("reference", "first")
	b.submitted()
	b.shows("100.00")
	b.sees("first", "+100.00")
	b.losesAResponse(s)
	b.shows("101.00")

	b.button("Withdraw")
	b.fill("amount", "1000")
	b.submit()
	b.beside("amount")
	b.fill("amount", "31")
	b.submitted()
	b.shows("70.00")

	b.button("Transfer")
	b.fill("to_account_id", "nobody")
	b.fill("amount", "20")
	b.submit()
	b.beside("to_account_id")
	b.fill("to_account_id", "0190a0d2-0000-7000-8000-00000000ffff")
	b.submit()
	b.until(`document.querySelector('dialog').innerText.includes('not found')`)
	b.fill("to_account_id", other)
	b.picked("Grace Hopper")
	b.submitted()
	b.shows("50.00")
	b.until(fmt.Sprintf(`document.querySelector('td a[href="#/accounts/%s"]')`, other))

	b.button("Suspend")
	b.fill("reason", "under review")
	b.submitted()
	b.until(`document.querySelector('.title .badge').innerText === 'suspended'`)
	b.button("Reactivate")
	b.submitted()
	b.until(`document.querySelector('.title .badge').innerText === 'active'`)
	b.button("Withdraw")
	b.fill("amount", "50")
	b.submitted()
	b.shows("0.00")
	b.button("Close")
	b.submitted()
	b.sees("A closed account accepts no commands.")

	b.until(kindCounts + ` === 'Any,Deposit (2),Withdrawal (2),Transfer in (0),Transfer out (1),Reversal in (0),Reversal out (0)'`)
	b.choose(`.filters [name="kind"]`, "transfer_out")
	b.until(`document.querySelectorAll('tbody tr').length === 1`)
	b.visit("/accounts/" + ada + "/events")
	b.sees("AccountCreated", "MoneyDeposited", "MoneyWithdrawn", "TransferSent", "AccountSuspended", "AccountReactivated", "AccountClosed", "under review")
	readsOwnWrites(t, s, ada)
}

// losesAResponse deposits 1.00 while the network loses the server's first response: the form is sent again with the same key.
func (b *tab) losesAResponse(s *fixture) {
	b.t.Helper()
	s.gate.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/deposits" {
			return false
		}
		s.gate.instead(nil)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			b.t.Error(err)
		}
		again, err := http.NewRequestWithContext(r.Context(), r.Method, s.base+r.URL.Path, strings.NewReader(string(body)))
		if err != nil {
			b.t.Error(err)
			return false
		}
		again.Header, again.Close = r.Header.Clone(), true
		if response, err := http.DefaultClient.Do(again); err != nil || response.StatusCode != http.StatusCreated || response.Body.Close() != nil {
			b.t.Errorf("%v %v", response, err)
		}
		problem(w, http.StatusServiceUnavailable, `{"title":"The answer is lost","status":503,"code":"unavailable","detail":"Try again."}`)
		return true
	})
	before := len(s.gate.requests("POST", "/deposits"))
	b.button("Deposit")
	b.fill("amount", "1")
	b.submit()
	b.atTop("The answer is lost")
	b.submitted()
	tries := s.gate.requests("POST", "/deposits")
	if len(tries) != before+2 || tries[before].header.Get("Idempotency-Key") != tries[before+1].header.Get("Idempotency-Key") {
		b.t.Errorf("a form sent again has a different key: %v", tries[before:])
	}
	if tries[0].header.Get("Idempotency-Key") == tries[before].header.Get("Idempotency-Key") || tries[0].header.Get("Idempotency-Key") == "" {
		b.t.Error("two forms have the same key, or none")
	}
}

func readsOwnWrites(t *testing.T, s *fixture, account string) {
	t.Helper()
	waits := 0
	for _, r := range s.gate.requests("GET", "/accounts/"+account) {
		if strings.Contains(r.query, "min_position=") && r.header.Get("Prefer") != "" {
			waits++
		}
	}
	if waits < 8 {
		t.Errorf("the account was read at the position of a write %d times", waits)
	}
}

// TestWhatIsMissing sends forms in which something is missing, or is not what the field asks for.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "JPY")
	s.balance(ada, s.deposit(ada, "100"))
	b := browse(t, s.gate.URL, "/accounts/"+ada)
	says := func(field, text string) {
		t.Helper()
		b.until(fmt.Sprintf(`document.querySelector('dialog [name=%s]').closest('.field').querySelector('.field-error').innerText === %q`, field, text))
	}
	b.button("Transfer")
	b.submit()
	says("to_account_id", "Is needed.")
	says("amount", "Is needed.")
	b.fill("to_account_id", "nobody")
	b.fill("amount", "5")
	b.submit()
	says("to_account_id", "Is not an account; choose one of those found.")
	b.button("Cancel")
	b.visit("/accounts")
	b.button("Open an account")
	b.submit()
	says("owner", "Is needed.")
	says("currency", "Is needed.")
	b.choose("dialog [name=currency]", "EUR")
	for text, said := range map[string]string{"1.000": "write 1000 or 1.00.", "1.234": "write 1234, or at most 2 decimals."} {
		b.fill("initial_deposit", text)
		b.submit()
		says("initial_deposit", "“"+text+"” can be read as a thousand or as a fraction: "+said)
	}
	for _, path := range []string{"/transfers", "/accounts"} {
		if sent := s.gate.requests("POST", path); len(sent) > 0 {
			t.Errorf("what is missing was sent to %s", path)
		}
	}
}

// TestFindAccounts filters the list and walks its pages.
func TestFindAccounts(t *testing.T) {
	t.Parallel()
	s := serve(t, past(t))
	for n := range 20 {
		s.open(fmt.Sprintf("Owner %02d", n), "SEK")
	}
	b := browse(t, s.gate.URL, "/accounts", "status of 400")
	b.until(`document.querySelectorAll('tbody tr').length === 25`)
	b.link("Next page")
	b.until(`document.querySelectorAll('tbody tr').length === 7`)
	b.link("First page")
	b.until(`document.querySelectorAll('tbody tr').length === 25`)
	b.choose(`[name="sort"]`, "-owner")
	b.until(`document.querySelector('tbody a').innerText === 'Sophie Germain'`)
	b.choose(`.filters [name="currency"]`, "CHF")
	b.until(`document.querySelectorAll('tbody tr').length === 2`)
	b.visit("/accounts?currency=nothing")
	b.until(`document.querySelector('main .state.bad') && document.querySelector('[name=currency]').getAttribute('aria-invalid') === 'true'`)
	b.choose(`.filters [name="currency"]`, "")
	b.choose(`[name="status"]`, "closed")
	b.sees("No accounts match.")
	b.choose(`[name="status"]`, "")
	b.sees("32 accounts")
	b.fillIn("", "owner_contains", "hypÁ\r") // a part of the name, whatever its case and accents
	b.until(`document.querySelectorAll('tbody tr').length === 1`)
	b.sees("1 account")
	b.link("Hypatia")
	b.until(`document.querySelector('h1').innerText === 'Hypatia'`)
	b.visit("/accounts")
	b.until(`document.querySelectorAll('tbody tr').length === 25`)
	b.fillIn("", "owner_contains", pastAccount(3)+"\r")
	b.until(`document.querySelector('h1').innerText === 'Emmy Noether'`)
	b.until(`document.querySelector('.chart .line')`)
	b.link("Next page")
	b.link("First page")
}
