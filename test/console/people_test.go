//go:build browser

package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"passbook/internal/money"
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

// ruledOut waits until buttons are disabled and say why, to the eye and to screen readers.
func (b *tab) ruledOut(why string, texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.until(fmt.Sprintf(`(() => {
			const e = [...document.querySelectorAll('.commands button')].find((e) => e.innerText === %q);
			return e.getAttribute('aria-disabled') === 'true' && document.getElementById(e.getAttribute('aria-describedby')).textContent === %[2]q
				&& [...document.querySelectorAll('.why')].some((e) => e.checkVisibility() && e.innerText.includes(%[2]q));
		})()`, text, why))
	}
}

// said waits until the page says what happened, with links to these pages.
func (b *tab) said(text string, links ...string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('#toasts .toast p').innerText === %q`, text))
	for _, link := range links {
		b.until(fmt.Sprintf(`document.querySelector('#toasts a[href=%q]')`, "#"+link))
	}
}

// TestDoingThings moves money as people do: by name, with the amounts as they write them.
func TestDoingThings(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	grace, hopeless := s.open("Grace Hopper", "EUR"), s.open("Grace Darling", "USD")
	mary := s.open("Mary Somerville", "EUR")
	s.balance(mary, int64(s.call("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"1","reference":"invoice 17"}`, mary))["position"].(float64)))
	b := browse(t, s.gate.URL, "/accounts", "status of 422")

	// The currency is a list, and amounts have its decimals.
	b.button("Open an account")
	b.fill("owner", "Ada Lovelace")
	b.choose("dialog [name=currency]", "JPY")
	b.until(`document.querySelector('dialog [name=initial_deposit]').placeholder === '0'`)
	b.choose("dialog [name=currency]", "KWD")
	b.until(`document.querySelector('dialog [name=initial_deposit]').placeholder === '0.000'`)
	b.choose("dialog [name=currency]", "EUR")
	b.until(`document.querySelector('dialog [name=initial_deposit]').placeholder === '0.00'`)
	listed, err := eval[[]string](b, `[...document.querySelectorAll('dialog [name=currency] option')].map((e) => e.value).filter(Boolean)`)
	if err != nil || strings.Join(listed, " ") != strings.Join(currenciesInUse(), " ") {
		t.Errorf("the currencies are %v (%v)", listed, err)
	}
	b.fill("initial_deposit", "1.000,00")
	b.sees("Read as 1,000.00 EUR.")
	b.submitted()
	b.shows("1,000.00")
	ada := b.text("#account-id")
	opened := s.call("GET", "/accounts/"+ada, "")["position"]
	b.said(fmt.Sprintf("Opened the account of Ada Lovelace with 1,000.00 EUR, at position %v.", opened), "/accounts/"+ada, fmt.Sprintf("/log/%v", opened))
	b.ruledOut("An account is closed when its balance is zero.", "Close")

	for text, read := range map[string]string{"1,000": "1,000.00", "1 234,5": "1,234.50", "1'234.5": "1,234.50", "12,5": "12.50", "1.000.000": "1,000,000.00"} {
		b.button("Deposit")
		b.fill("amount", text)
		b.sees("Read as " + read + " EUR.")
		b.button("Cancel")
	}
	b.button("Deposit")
	b.fill("amount", "1.000")
	b.submit()
	b.beside("amount")
	b.sees("write 1000 or 1.00")
	b.fill("amount", "1,000")
	b.submitted()
	b.shows("2,000.00")
	b.said(fmt.Sprintf("Deposited 1,000.00 EUR to Ada Lovelace, at position %v.", s.call("GET", "/accounts/"+ada, "")["position"]))

	// The recipient is found by name, of the same currency only.
	b.button("Transfer")
	b.fill("to_account_id", "grac")
	b.until(`document.querySelectorAll('dialog [role=option]').length === 1 && document.querySelector('dialog [role=option]').innerText.includes('Grace Hopper')`)
	b.press(kb.ArrowDown)
	b.press(kb.Enter)
	b.picked("Grace Hopper")
	b.fill("amount", "3000")
	b.submit()
	b.beside("amount")
	b.until(`document.querySelector('dialog').innerText.match(/nsufficient/g).length === 1`) // says so once
	b.fill("amount", "20")
	b.submitted()
	b.shows("1,980.00")
	position := s.call("GET", "/accounts/"+grace, "")["position"]
	b.said(fmt.Sprintf("Transferred 20.00 EUR from Ada Lovelace to Grace Hopper, at position %v.", position), "/accounts/"+grace, fmt.Sprintf("/log/%v", position))

	// By the reference of a movement. What has not been shown yet is shown before it is sent.
	b.button("Transfer")
	b.fill("amount", "5")
	b.fill("to_account_id", "invoice 17")
	b.until(`document.querySelector('dialog [role=option]').innerText.includes('Mary Somerville')`)
	before := len(s.gate.requests("POST", "/transfers"))
	b.fill("to_account_id", mary)
	b.script(`document.querySelector('dialog form').requestSubmit()`)
	b.picked("Mary Somerville")
	if got := len(s.gate.requests("POST", "/transfers")); got != before {
		t.Error("the money moved before the recipient was shown")
	}
	b.submitted()
	b.shows("1,975.00")

	// What cannot be done is not offered. A refusal in spite of it says one thing once.
	b.button("Withdraw")
	b.fill("amount", "1")
	suspended := s.call("POST", "/accounts/"+ada+"/suspend", "")
	s.balance(ada, int64(suspended["position"].(float64)))
	b.submit()
	b.until(`document.querySelector('dialog .problem').innerText.match(/suspended/g).length === 1 && document.querySelector('dialog .problem').innerText.match(/\./g).length === 1`)
	b.button("Cancel")
	b.visit("/accounts/" + hopeless)
	b.ruledOut("No money is available.", "Withdraw", "Transfer", "Hold")
	b.visit("/accounts/" + ada)
	b.ruledOut("No money moves on a suspended account.", "Deposit", "Withdraw", "Transfer", "Hold")
	b.shoot("ruled-out")
}

// currenciesInUse are the codes that an account can be opened in.
func currenciesInUse() []string {
	var codes []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				if found, err := money.ParseCurrency(string([]rune{a, b, c})); err == nil {
					codes = append(codes, found.Code())
				}
			}
		}
	}
	return codes
}

// zone makes the browser one of another time zone, and loads the page again.
func (b *tab) zone(name string) {
	b.t.Helper()
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
	b.run(chromedp.Reload())
	b.until(`document.querySelector('main h1') && !document.querySelector('main [aria-busy]')`)
}

// TestLinksMeanTheSame opens the same addresses in two time zones, and goes back and forward between pages.
func TestLinksMeanTheSame(t *testing.T) {
	t.Parallel()
	s := serve(t, past(t))
	for n := range 20 {
		s.open(fmt.Sprintf("Owner %02d", n), "SEK")
	}
	ada := pastAccount(0)
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 404", "status of 400")
	b.zone("Asia/Tokyo")
	b.sees("+09:00")
	from := time.Now().AddDate(0, 0, -3).In(time.FixedZone("", 9*3600))
	rows := `[...document.querySelectorAll('tbody tr td[data-label=Position]')].map((e) => e.innerText).join()`
	all, _ := eval[string](b, rows)
	b.fillIn("", "from", from.Format("2006-01-02 15:04")+"\r")
	b.until(`location.hash.includes('from=')`)
	b.until(fmt.Sprintf(`!document.querySelector('main [aria-busy]') && %s !== %q`, rows, all))
	tokyo, _ := eval[string](b, rows)
	b.zone("America/New_York")
	b.until(fmt.Sprintf(`%s === %q`, rows, tokyo))
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	b.until(fmt.Sprintf(`document.querySelector('[name=from]').value === %q`, from.In(newYork).Format("2006-01-02 15:04")))
	b.fillIn("", "from", "yesterday\r")
	b.until(`document.querySelector('[name=from]').getAttribute('aria-invalid') === 'true'`)

	day := time.Now().UTC().AddDate(0, 0, -20).Format("2006-01-02")
	b.visit("/accounts/" + ada + "/statement?from=" + day + "&to=" + day)
	sheet := `document.querySelector('.sheet').innerText`
	b.until(sheet + `.includes('UTC')`)
	one, _ := eval[string](b, sheet)
	b.zone("Asia/Tokyo")
	b.until(fmt.Sprintf(`%s === %q`, sheet, one))
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})

	// A page of a list begins at its heading; Back leads to the link that was followed, and to where it was.
	b.visit("/accounts")
	b.until(`document.querySelectorAll('tbody tr').length === 25`)
	b.link("Next page")
	b.until(`document.querySelectorAll('tbody tr').length === 7 && document.activeElement.innerText === 'All accounts'`)
	b.script(`history.back()`)
	b.until(`document.querySelectorAll('tbody tr').length === 25 && document.activeElement.innerText === 'Next page'`)
	b.script(`history.forward()`)
	b.until(`document.querySelectorAll('tbody tr').length === 7`)
	b.script(`history.back()`)
	b.until(`document.querySelectorAll('tbody tr').length === 25 && document.activeElement.innerText === 'Next page'`)
	// Neither does going back and forth faster than pages are read lead elsewhere.
	b.script(`addEventListener('hashchange', () => { history.back(); setTimeout(() => { globalThis.settled = true }, 300) }, { once: true }); history.forward()`)
	b.until(`globalThis.settled && document.querySelectorAll('tbody tr').length === 25 && document.activeElement.innerText === 'Next page'`)
	b.link("Owner 12")
	b.until(`document.querySelector('h1').innerText === 'Owner 12' && document.activeElement.tagName === 'H1' && scrollY === 0`)
	b.script(`history.back()`)
	b.until(`document.activeElement.innerText === 'Owner 12' && scrollY > 100 && document.activeElement.getBoundingClientRect().bottom < innerHeight`)

	for _, id := range []string{"0190a0d2-0000-7000-8000-00000000ffff", "nobody"} {
		b.visit("/accounts/" + id)
		b.until(`document.querySelector('h1').innerText === 'No such account' && document.title.startsWith('No such account')`)
		b.until(`!document.querySelector('main [aria-busy], main .panel, main .account-head')`)
	}
}

// TestPagesAreLive watches an account and the overview while others move money, and while the server cannot be reached.
func TestPagesAreLive(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada, grace, other := s.open("Ada Lovelace", "EUR"), s.open("Grace Hopper", "EUR"), s.open("Mary Somerville", "USD")
	s.deposit(ada, "100.00")
	b := browse(t, s.gate.URL, "/accounts/"+ada, "ERR_", "status of 502")
	b.shows("100.00")
	b.until(`document.querySelector('.title [role=status]').innerText === 'live'`)
	b.click("tbody button", "Reverse")
	b.button("Cancel")
	b.until(`document.activeElement.innerText === 'Reverse'`)
	s.deposit(ada, "11.00")
	b.shows("111.00")
	b.rows(2)
	b.until(`document.activeElement.innerText === 'Reverse'`) // the focus has stayed, though its row is another

	// The history is drawn even if the account is read again meanwhile.
	hold := func(r *http.Request, d time.Duration) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		<-ctx.Done()
	}
	s.gate.instead(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/events": // the log goes on before it is followed
			_, _, _ = s.send("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"1"}`, other))
			hold(r, 300*time.Millisecond)
		case strings.Contains(r.URL.RawQuery, "limit=500"):
			hold(r, 2*time.Second) // longer than the account waits before it is read again
		}
		return false
	})
	b.run(chromedp.Reload())
	b.until(`document.querySelector('.chart .line')`)
	s.gate.instead(nil)

	// A form that is open while the page changes leads back to its button.
	b.button("Hold")
	s.call("POST", "/transfers", fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"50"}`, ada, grace))
	b.shows("61.00")
	b.button("Cancel")
	b.until(`document.activeElement.innerText === 'Hold'`)
	b.link("Events")
	b.rows(4)
	s.balance(ada, int64(s.call("POST", "/accounts/"+ada+"/suspend", `{"reason":"under review"}`)["position"].(float64)))
	b.rows(5)
	b.until(`document.querySelector('.title .badge').innerText === 'suspended'`)

	// The overview begins with money, and is not green when nothing responds.
	b.visit("/")
	day := func(what string) string {
		return fmt.Sprintf(`document.querySelector('[aria-label="Money by day"] td[data-label=%s]').innerText`, what)
	}
	b.until(day("Day") + fmt.Sprintf(` === %q`, time.Now().UTC().Format("2006-01-02")))
	b.until(day("In") + ` === '111.00' && ` + day("Out") + ` === '0.00' && ` + day("Balance") + ` === '111.00'`)
	b.until(`document.querySelector('[aria-label="Largest movements"] tbody td[data-label=Amount]').innerText === '+100.00 EUR'`)
	b.until(`document.querySelector('main h2').innerText === 'Money by currency' && document.querySelectorAll('.checks .good').length >= 5`)

	// The days before are exact while money moves.
	ctx, stop := context.WithCancel(t.Context())
	moving := make(chan struct{})
	go func() {
		defer close(moving)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			_, _, _ = s.send("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"1"}`, grace))
		}
	}()
	b.until(day("In") + ` !== '111.00'`)
	if yesterday := b.text(`[aria-label="Money by day"] tr:nth-child(2) td[data-label=Balance]`); yesterday != "0.00" {
		t.Errorf("the balance of yesterday is %s", yesterday)
	}
	stop()
	<-moving
	for _, lost := range []func(http.ResponseWriter, *http.Request) bool{
		func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true },
	} {
		s.gate.instead(lost)
		b.until(`document.querySelectorAll('.checks .good').length === 0 && document.querySelector('.checks .bad')`)
		s.gate.instead(nil)
		b.until(`document.querySelectorAll('.checks .good').length >= 5 && !document.querySelector('.checks .bad')`)
	}
}

// TestSearch finds accounts, movements, transfers and events from one box, and takes away what lists show.
func TestSearch(t *testing.T) {
	t.Parallel()
	s := serve(t, past(t))
	ada, grace := pastAccount(0), pastAccount(1)
	s.deposit(ada, "5000")
	sent := s.call("POST", "/transfers", fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"1234.5","reference":"the rent","metadata":{"order":"A-1"}}`, ada, grace))
	s.balance(grace, int64(sent["position"].(float64)))
	b := browse(t, s.gate.URL, "/", "status of 404")
	search := func(q, heading string, pieces ...string) {
		b.fillIn("#search ", "q", q+"\r")
		b.until(fmt.Sprintf(`[...document.querySelectorAll('main h2')].some((e) => e.innerText === %q)`, heading))
		for _, piece := range pieces {
			b.until(fmt.Sprintf(`document.querySelector('main').innerText.includes(%q)`, piece))
		}
	}
	search("lovelace", "Accounts", "For “lovelace”: 1 account.", "Ada Lovelace")
	search(ada, "Accounts", "Ada Lovelace")
	search("the rent", "Movements with this reference", "2 movements", "1 transfer", "−1,234.50 EUR")
	b.until(`[...document.querySelectorAll('[aria-label="Transfers found"] td')].map((e) => e.innerText).join().startsWith('Ada Lovelace,Grace Hopper')`)
	search(sent["transfer_id"].(string), "Movements of this transfer", "2 movements", "1 transfer")
	search("1234.5", "Movements of this amount", "2 movements")
	search("order: A-1", "Movements with this metadata", "2 movements")
	search("300", "Events", "Position 300")
	search("suspended", "Events", "All events AccountSuspended")
	b.fillIn("#search ", "q", "nothing like it\r")
	b.sees("Nothing is known of “nothing like it”.")

	// Filters say how many, and periods need no typing. A list is taken away as it is filtered.
	b.visit("/accounts")
	b.until(`[...document.querySelectorAll('[name=currency] option')].some((e) => e.innerText === 'EUR (6)') && [...document.querySelectorAll('[name=status] option')].some((e) => e.innerText === 'Active (12)')`)
	b.choose(`.filters [name="currency"]`, "EUR")
	b.rows(6)
	name, text := b.saved(s, "Download as CSV")
	if name != "accounts.csv" || strings.Count(text, "\r\n") != 7 || strings.Contains(text, "USD") || !strings.Contains(text, "Ada Lovelace") {
		t.Errorf("%s:\n%s", name, text)
	}
	b.visit("/movements")
	b.rows(25)
	name, text = b.saved(s, "Download as CSV") // more than a page of the API
	if name != "movements.csv" || strings.Count(text, "\r\n") != 900-12+3+1 || strings.Count(text, "account_id,position") != 1 {
		t.Errorf("%s: %d lines", name, strings.Count(text, "\r\n"))
	}
	b.until(kindCounts + `.includes('Transfer in (1),Transfer out (1),Reversal in (0)')`)
	b.choose(`.filters [name="currency"]`, "CHF")
	b.until(kindCounts + `.includes('Transfer in (0),Transfer out (0)')`)
	b.choose(`.filters [name="currency"]`, "")
	b.choose(`.filters [name="period"]`, "Today")
	b.until(`location.hash.includes('from=') && !location.hash.includes('to=')`)
	b.choose(`.filters [name="period"]`, "Yesterday")
	b.until(`location.hash.includes('from=') && location.hash.includes('to=')`)
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format("2006-01-02")
	b.until(fmt.Sprintf(`document.querySelector('[name=from]').value.startsWith(%q) && [...document.querySelectorAll('td[data-label=Recorded]')].every((e) => e.innerText.startsWith(%[1]q))`, yesterday))
	b.visit("/accounts/" + ada)
	b.choose(`.filters [name="kind"]`, "transfer_out")
	b.rows(1)
	name, text = b.saved(s, "Download as CSV")
	if name != "movements-00000000.csv" || strings.Count(text, "\r\n") != 2 || !strings.Contains(text, "the rent") {
		t.Errorf("%s:\n%s", name, text)
	}
	b.visit("/accounts/" + ada + "/statement")
	b.choose(`.filters [name="period"]`, "Yesterday")
	b.until(fmt.Sprintf(`location.hash.endsWith('?from=%[1]s&to=%[1]s')`, yesterday))
}

// stroke presses a key and holds its character back if the page takes the key, as a keyboard does.
func (b *tab) stroke(key string) {
	b.t.Helper()
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key})
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key})
}

// TestShortcuts reaches the search and a new account by keys, and steps over dates with one key each.
func TestShortcuts(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.balance(ada, s.deposit(ada, "5"))
	b := browse(t, s.gate.URL, "/movements")
	b.rows(1)
	b.stroke("/")
	b.until(`document.activeElement.matches('#search input') && document.activeElement.value === ''`)
	b.stroke("n") // is typed
	b.until(`document.activeElement.value === 'n' && !document.querySelector('dialog')`)
	b.script(`document.querySelector('[name=from]').focus()`)
	b.press(kb.Tab)
	b.until(`document.activeElement.name === 'to'`)
	b.press(kb.Tab)
	b.until(`document.activeElement.name === 'sort'`)
	b.script(`document.querySelector('tbody button').focus()`)
	b.stroke("n")
	b.until(`document.activeElement.name === 'owner' && document.querySelector('dialog').innerText.startsWith('Open an account')`)
	b.stroke("/") // is typed
	b.press(kb.Escape)
	b.until(`!document.querySelector('dialog') && document.activeElement.innerText === 'Reverse'`)
	b.press(kb.Enter)
	b.submit()
	b.tried("CreditReversed")
	b.submitted() // its button is gone: the focus is where the movement is
	b.rows(2)
	b.until(`document.activeElement !== document.body && document.activeElement !== null`)
	b.button("Dismiss")
	b.until(`document.activeElement.id === 'main' || document.activeElement.closest('main')`)
}

// TestTwoSteps reaches holds, reversals, metadata and limits in two steps from an account.
func TestTwoSteps(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.balance(ada, s.deposit(ada, "5"))
	b := browse(t, s.gate.URL, "/accounts/"+ada)
	b.shows("5.00")
	for _, one := range []struct{ button, shown string }{
		{"Hold", `document.querySelector('dialog [name=amount]') && document.querySelector('dialog [name=expires_at]')`},
		{"Reverse", `document.querySelector('dialog [name=amount]') && document.querySelector('dialog [name=force]')`},
		{"Edit", `document.querySelector('dialog [name=metadata]') && document.querySelector('dialog [name=overdraft_limit]')`},
		{"Change limit", `document.activeElement.name === 'overdraft_limit'`},
		{"Edit metadata", `document.activeElement.name === 'metadata'`},
	} {
		b.button(one.button)
		b.until(one.shown)
		b.button("Cancel")
	}
	b.link("Holds")
	b.sees("No holds match.")
	b.link("Movements")
	b.choose(`.filters [name="kind"]`, "reversal_out")
	b.sees("No movements match.")
}
