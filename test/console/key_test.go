//go:build browser

package console

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// createKey makes a key of the server's, as an operator does.
func (s *fixture) createKey(scopes ...string) string {
	s.t.Helper()
	arguments := []string{"keys", "create", "--name", strings.Join(scopes, " ")}
	for _, scope := range scopes {
		arguments = append(arguments, "--scope", scope)
	}
	cmd := exec.Command(os.Getenv("CONSOLE_SERVER"), arguments...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+s.database)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("server keys create: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// TestConsoleAsksForAKey uses a server with authentication, with a key that may read accounts and events only.
func TestConsoleAsksForAKey(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, "PASSBOOK_AUTH=keys")
	s.key = s.createKey("accounts:write", "projections:admin")
	ada := s.open("Ada Lovelace", "EUR")
	narrow := s.createKey("accounts:read", "events:read")
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 401", "status of 403", "status of 409")
	b.sees("A key is needed")
	b.until(`document.querySelectorAll('dialog').length === 1`)
	b.fill("key", "a wrong one")
	b.submit()
	b.sees("The server did not accept the key.")
	b.fill("key", narrow)
	b.submit()
	b.shows("0.00")
	b.until(fmt.Sprintf(`sessionStorage.getItem('passbook-key') === %[1]q && !JSON.stringify(localStorage).includes(%[1]q)`, narrow))

	b.ruledOut("The key lacks the scope accounts:write.", "Deposit", "Withdraw", "Transfer", "Hold", "Edit", "Suspend", "Close")
	b.visit("/projections")
	b.sees("The key lacks the scope projections:read.")
	b.visit("/log")
	b.until(`document.querySelector('[role=status]').innerText === 'live' && document.querySelectorAll('tbody tr').length === 1`)

	if sent, asked := s.gate.requests("POST", "/commands"), s.gate.requests("GET", "/me"); len(sent) != 0 || len(asked) == 0 || len(asked) > 3 {
		t.Errorf("the console found out about the key with %d commands and %d reads of /me", len(sent), len(asked))
	}

	b.visit("/webhooks")
	b.until(`document.querySelector('main').innerText.endsWith('at least once.\n\nThe key lacks the scope projections:read.')`) // says so once

	// The search finds what the key may read, also where the log does not reach the position that the text could be.
	s.deposit(ada, "900")
	b.visit("/search?q=900")
	b.sees("Movements of this amount", "+900.00 EUR")
	b.button("Forget the key")
	b.fill("key", s.createKey("accounts:read"))
	b.submit()
	b.sees("Movements of this amount", "+900.00 EUR", "Events are not searched: the key lacks the scope events:read.")
	b.visit("/log")
	b.until(`document.querySelector('.title [role=status]').innerText === 'failed' && !document.querySelector('.title button').checkVisibility()`)
	b.button("Forget the key")
	b.sees("A key is needed")
	b.until(`sessionStorage.getItem('passbook-key') === null`)
	b.button("Not now")
	b.until(`document.querySelector('main').innerText.includes('requires an API key')`)
}

// TestRuledOutByScopes views projections and webhooks with a key that may not change them, and a server that takes no commands.
func TestRuledOutByScopes(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	caller := func(me string) {
		s.gate.instead(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/me" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, me)
			return true
		})
	}
	caller(`{"authentication":"keys","actor":"key:1 test","scopes":["accounts:write","accounts:read","events:read","projections:read"],"follower":false,"primary_url":null}`)
	b := browse(t, s.gate.URL, "/accounts/"+ada)
	b.until(`!document.querySelector('.commands button').hasAttribute('aria-disabled')`)
	disabled := func(selector, why string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(%q)].filter((e) => e.checkVisibility()).every((e) => e.getAttribute('aria-disabled') === 'true'
			&& document.getElementById(e.getAttribute('aria-describedby')).textContent === %[2]q && e.title === %[2]q)
			&& [...document.querySelectorAll('.why')].some((e) => e.checkVisibility() && e.innerText === %[2]q)`, selector, why)
	}
	b.visit("/projections/balances")
	b.until(disabled(".panel-head .actions button", "The key lacks the scope projections:admin."))
	b.click("button", "Pause")
	b.visit("/webhooks")
	b.until(disabled(".commands button", "The key lacks the scope projections:admin."))
	if sent := s.gate.requests("POST", "/projections/balances/pause"); len(sent) > 0 {
		t.Error("the console sent what the key may not do")
	}

	caller(`{"authentication":"none","actor":null,"scopes":["accounts:write","accounts:read","events:read","projections:read","projections:admin","metrics:read"],"follower":true,"primary_url":"https://bank.example"}`)
	b.run(chromedp.Reload())
	b.visit("/accounts/" + ada)
	b.ruledOut("This server follows another and takes no commands. Send them to https://bank.example.", "Deposit", "Edit", "Close")
	b.visit("/projections/balances")
	b.until(`document.querySelector('.panel-head .actions button') && !document.querySelector('.panel-head .actions button').hasAttribute('aria-disabled')`)
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
