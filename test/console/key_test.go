//go:build browser

package console

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestConsoleAsksForAKey simulates authentication: the gate responds as a server would by RFC 6750.
func TestConsoleAsksForAKey(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.gate.instead(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/console"), r.URL.Path == "/livez", r.URL.Path == "/readyz":
			return false
		case r.Header.Get("Authorization") != "Bearer the-key":
			w.Header().Set("WWW-Authenticate", `Bearer realm="passbook"`)
			problem(w, http.StatusUnauthorized, `{"title":"No credential","status":401,"code":"unauthorized","detail":"Send a key."}`)
		case r.Method == http.MethodPost, r.URL.Path == "/projections":
			scope := map[string]string{"/projections": "projections:read"}[r.URL.Path]
			if scope == "" {
				scope = "accounts:write"
			}
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
			problem(w, http.StatusForbidden, `{"title":"Not allowed","status":403,"code":"forbidden","detail":"The key may not do this."}`)
		default:
			return false
		}
		return true
	})
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 401", "status of 403")
	b.sees("A key is needed")
	b.until(`document.querySelectorAll('dialog').length === 1`)
	b.fill("key", "a wrong one")
	b.submit()
	b.sees("The server did not accept the key.")
	b.fill("key", "the-key")
	b.submit()
	b.shows("0.00")
	b.until(`sessionStorage.getItem('passbook-key') === 'the-key' && !JSON.stringify(localStorage).includes('the-key')`)

	b.ruledOut("The key lacks the scope accounts:write.", "Deposit", "Withdraw", "Transfer", "Hold", "Edit", "Suspend", "Close")
	b.visit("/projections")
	b.sees("The key lacks the scope projections:read.")
	b.visit("/log")
	b.until(`document.querySelector('[role=status]').innerText === 'live' && document.querySelectorAll('tbody tr').length === 1`)

	b.button("Forget it")
	b.sees("A key is needed")
	b.until(`sessionStorage.getItem('passbook-key') === null`)
	b.button("Not now")
	b.until(`document.querySelector('main').innerText.includes('requires an API key')`)
}

// TestKeyboardOnly reaches the content, opens a form and closes it with keys only, and keeps the chosen theme.
func TestKeyboardOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	b := browse(t, s.gate.URL, "/accounts")
	b.sees("No accounts match.")
	b.press(kb.Tab)
	b.until(`document.activeElement.innerText === 'Skip to the content'`)
	b.press(kb.Enter)
	b.until(`document.activeElement.id === 'main' && location.hash === '#/accounts'`)
	b.press(kb.Tab)
	b.until(`document.activeElement.innerText === 'Open an account'`)
	b.press(kb.Enter)
	b.until(`document.activeElement.name === 'owner' && document.querySelector('dialog').open`)
	b.press(kb.Escape)
	b.until(`!document.querySelector('dialog') && document.activeElement.innerText === 'Open an account'`)
	b.visit("/projections")
	b.until(`document.activeElement.tagName === 'H1' && document.title === 'Projections · Passbook'`)

	b.choose("#theme", "dark")
	b.run(chromedp.Reload())
	b.until(`document.documentElement.dataset.theme === 'dark' && getComputedStyle(document.body).colorScheme === 'dark' && document.querySelector('#theme').value === 'dark'`)
}
