//go:build browser

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab is a tab of the browser, on one page of the console. An error that the page reports fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context
	// allowed are parts of errors that the browser may report: requests that a test makes fail.
	allowed []string
}

// watch reports violations of the Content-Security-Policy to the console, where they count as errors.
const watch = `addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI));`

// browse opens a page, such as /accounts, in a new tab. The browser may report errors that contain one of the allowed parts, such
// as "status of 422".
func browse(t *testing.T, base, where string, allowed ...string) *tab {
	t.Helper()
	b := newTab(t, allowed...)
	call(b, log.Enable, cdp.Empty{})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	b.size(1440)
	b.run(chromedp.Navigate(base + "/console#" + where))
	b.until(`document.querySelector('main h1') !== null`)
	return b
}

// newTab opens an empty tab in a browser context of its own: it shares no storage, cookies or cache with another test's.
func newTab(t *testing.T, allowed ...string) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(chromium(t), chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the tab is closed
		closeTab()
	})
	b := &tab{t: t, ctx: ctx, allowed: allowed}
	// The first use opens the tab, which must not end with a derived context.
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	// Several tabs are open at once, and each is to have the keyboard.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return b
}

func (b *tab) heard(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			for _, argument := range e.Args {
				text += string(argument.Value) + argument.Description
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			text = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	}
	for _, piece := range b.allowed {
		if strings.Contains(text, piece) {
			return
		}
	}
	if text != "" {
		b.t.Errorf("the browser reports: %s", text)
	}
}

// run runs actions, which must succeed within the time limit.
func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.fail("%v", err)
	}
}

// call sends a command of the protocol, which must succeed.
func call[P, R any](b *tab, command cdp.Command[P, R], parameters P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waitLimit)
	defer cancel()
	result, err := chromedp.Call(ctx, command, parameters)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// eval returns the value of an expression, or of the promise that it is.
func eval[T any](b *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, waitLimit)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// script runs a statement in the page.
func (b *tab) script(format string, arguments ...any) {
	b.t.Helper()
	if _, err := eval[bool](b, "(() => { "+fmt.Sprintf(format, arguments...)+"; return true })()"); err != nil {
		b.fail("%v", err)
	}
}

// fail ends the test, and says what is on the page.
func (b *tab) fail(format string, arguments ...any) {
	b.t.Helper()
	text, _ := eval[string](b, `document.body.innerText`)
	b.shoot("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
	b.t.Fatalf("%s; the page says:\n%s", fmt.Sprintf(format, arguments...), text)
}

// until waits until an expression is true. An expression that throws counts as false.
func (b *tab) until(expression string) {
	b.t.Helper()
	deadline := time.NewTimer(waitLimit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := eval[bool](b, `(() => { try { return Boolean(`+expression+`) } catch { return false } })()`)
		if err == nil && holds {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			b.fail("timed out waiting for %s (%v)", expression, err)
		}
	}
}

// sees waits until the page shows a text.
func (b *tab) sees(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		quoted, err := json.Marshal(text)
		if err != nil {
			b.t.Fatal(err)
		}
		b.until(`document.body.innerText.includes(` + string(quoted) + `)`)
	}
}

// text returns the text of the selector's first element.
func (b *tab) text(selector string) string {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)`, selector))
	text, err := eval[string](b, fmt.Sprintf(`document.querySelector(%q).innerText`, selector))
	if err != nil {
		b.fail("%v", err)
	}
	return text
}

// click clicks with the mouse on the first visible element of a selector that has the text, or any if that is "". It waits
// until there is one that does not move and is not covered.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf(`(async () => {
		const e = [...document.querySelectorAll(%q)].find((e) => e.checkVisibility() && (%[2]q === '' || e.innerText.trim() === %[2]q));
		e?.scrollIntoView({ block: 'center' });
		const middle = () => { const r = e?.getBoundingClientRect(); return r ? [r.x + r.width / 2, r.y + r.height / 2] : []; };
		const at = middle();
		await new Promise((resolve) => setTimeout(resolve, 60));
		return e?.contains(document.elementFromPoint(...at)) && middle().join() === at.join() ? at : [];
	})()`, selector, text)
	deadline := time.Now().Add(waitLimit)
	for {
		at, err := eval[[]float64](b, find)
		if err == nil && len(at) == 2 {
			b.run(chromedp.MouseClickXY(at[0], at[1]))
			return
		}
		if time.Now().After(deadline) {
			b.fail("there is no %s %q to click on (%v)", selector, text, err)
		}
	}
}

// button clicks on a button by its text, and link on a link.
func (b *tab) button(text string) {
	b.t.Helper()
	b.click("button", text)
}

func (b *tab) link(text string) {
	b.t.Helper()
	b.click("a", text)
}

// submit clicks on the submit button of the open dialog, and waits for the response: then the focus moves.
func (b *tab) submit() {
	b.t.Helper()
	b.click("dialog[open] button[type=submit]", "")
	b.until(`!document.querySelector('dialog button[aria-disabled="true"]')`)
}

// fill replaces the text of an input of the open dialog, by the field's name.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	b.fillIn("dialog ", name, text)
}

func (b *tab) fillIn(within, name, text string) {
	b.t.Helper()
	selector := fmt.Sprintf(`%s[name="%s"]`, within, name)
	b.until(fmt.Sprintf(`document.querySelector(%q)`, selector))
	b.script(`const e = document.querySelector(%q); e.focus(); e.select()`, selector)
	// Keys go to the focused element. chromedp's SendKeys uses its copy of the page, which may be out of date.
	b.run(chromedp.KeyEvent(kb.Delete))
	if text != "" {
		b.run(chromedp.KeyEvent(text))
	}
}

// choose selects an option of a select element.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)`, selector))
	b.script(`const e = document.querySelector(%q); e.value = %q; e.dispatchEvent(new Event('change', { bubbles: true }))`, selector, value)
}

// visit goes to another page of the console.
func (b *tab) visit(where string) {
	b.t.Helper()
	b.script(`location.hash = %q`, where)
}

// size sets the window's width in pixels.
func (b *tab) size(width int64) {
	b.t.Helper()
	height := int64(1000)
	if width < 600 {
		height = 740
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600,
	})
}

// theme sets the system's preferred colour scheme: light or dark.
func (b *tab) theme(name string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
}

// shoot writes a screenshot of the page, if a directory for screenshots is set.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("CONSOLE_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{}).Data
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Errorf("screenshot %s: %v", name, err)
	}
}

// press sends a key.
func (b *tab) press(key string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(key))
}

// saved clicks on a button and returns the name and the text of the CSV file that is downloaded.
func (b *tab) saved(s *fixture, button string) (name, text string) {
	b.t.Helper()
	dir := b.t.TempDir()
	call(b, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
	})
	b.button(button)
	s.eventually("the file is saved", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "*.csv"))
		if len(found) != 1 {
			return false
		}
		content, err := os.ReadFile(found[0])
		name, text = filepath.Base(found[0]), string(content)
		return err == nil && text != ""
	})
	return name, text
}
