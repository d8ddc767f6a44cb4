//go:build browser

package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// firefoxPrefs are those of a Firefox that says nothing to anybody. The port is chosen by the system.
const firefoxPrefs = `user_pref("marionette.port", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.page", 0);
user_pref("intl.accept_languages", "en-US");
`

// firefox is a Firefox with an empty profile, driven by its Marionette protocol: [type, id, name, parameters] as JSON, after
// its length and a colon (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html).
type firefox struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	last int
}

func startFirefox(t *testing.T) *firefox {
	t.Helper()
	path := os.Getenv("FIREFOX")
	if path == "" {
		t.Skip("FIREFOX is not set: there is no Firefox to test with (make test-console looks for one)")
	}
	home := t.TempDir()
	profile := filepath.Join(home, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPrefs), 0o600); err != nil {
		t.Fatal(err)
	}
	out, ended := new(output), make(chan struct{})
	cmd := exec.Command(path, "--headless", "--no-remote", "--marionette", "--profile", profile)
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=UTC", "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_DISABLE_AUTO_SAFE_MODE=1")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the test knows what it ended by
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the processes of its pages
		<-ended
		if t.Failed() {
			t.Logf("Firefox said:\n%s", out.b.String())
		}
	})
	f := &firefox{t: t}
	s := &fixture{t: t}
	s.eventually("Firefox listens", func() bool {
		port, err := os.ReadFile(filepath.Join(profile, "MarionetteActivePort"))
		if err != nil {
			return false
		}
		f.conn, err = new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+strings.TrimSpace(string(port)))
		return err == nil
	})
	t.Cleanup(func() { _ = f.conn.Close() })
	f.in = bufio.NewReader(f.conn)
	if _, err := f.read(); err != nil { // it greets
		t.Fatal(err)
	}
	f.do("WebDriver:NewSession", map[string]any{})
	return f
}

func (f *firefox) read() (json.RawMessage, error) {
	if err := f.conn.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		return nil, err
	}
	length, err := f.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return nil, err
	}
	message := make(json.RawMessage, n)
	_, err = io.ReadFull(f.in, message)
	return message, err
}

// try sends a command and returns the value of its result, or the error that Firefox returns.
func (f *firefox) try(name string, parameters map[string]any) (json.RawMessage, error) {
	f.last++
	command, err := json.Marshal([]any{0, f.last, name, parameters})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(command), command); err != nil {
		return nil, err
	}
	message, err := f.read()
	if err != nil {
		return nil, err
	}
	var reply [4]json.RawMessage
	if err := json.Unmarshal(message, &reply); err != nil {
		return nil, err
	}
	if string(reply[2]) != "null" {
		return nil, errors.New(string(reply[2]))
	}
	var result struct{ Value json.RawMessage }
	if err := json.Unmarshal(reply[3], &result); err != nil || result.Value == nil {
		return reply[3], nil //nolint:nilerr // some results have no value, as that of FindElements
	}
	return result.Value, nil
}

func (f *firefox) do(name string, parameters map[string]any) json.RawMessage {
	f.t.Helper()
	value, err := f.try(name, parameters)
	if err != nil {
		f.t.Fatalf("%s: %v; the page says:\n%s", name, err, f.text())
	}
	return value
}

// text is what the page says.
func (f *firefox) text() string {
	value, err := f.try("WebDriver:ExecuteScript", map[string]any{"script": `return document.body.innerText`, "args": []any{}})
	var text string
	if err == nil {
		err = json.Unmarshal(value, &text)
	}
	if err != nil {
		return err.Error()
	}
	return text
}

// element is a reference to an element, by the name that the WebDriver standard gives it.
type element map[string]string

func (e element) id() string { return e["element-6066-11e4-a52e-4f735466cecf"] }

// find returns the elements of a selector, within the open dialog if there is one, whose name for screen readers is one of these.
func (f *firefox) find(selector string, names ...string) []element {
	f.t.Helper()
	value, err := f.try("WebDriver:ExecuteScript", map[string]any{
		// Asking for the name of each element takes long; that of most is elsewhere.
		"script": `const names = arguments[1].map((name) => name.replace('…', '').replace(/ optional$/, ''));
			return [...(document.querySelector('dialog[open]') ?? document).querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()
				&& names.some((name) => [e.innerText, e.ariaLabel, ...[...e.labels ?? []].map((l) => l.innerText)].some((text) => text?.includes(name))))`,
		"args": []any{selector, names},
	})
	var all []element
	if err != nil || json.Unmarshal(value, &all) != nil {
		return nil
	}
	var found []element
	for _, e := range all {
		label, err := f.try("WebDriver:GetComputedLabel", map[string]any{"id": e.id()})
		var name string
		if err != nil || json.Unmarshal(label, &name) != nil {
			continue // it has just gone
		}
		for _, want := range names {
			if name == want || strings.HasSuffix(want, "…") && strings.HasPrefix(name, strings.TrimSuffix(want, "…")) {
				found = append(found, e)
			}
		}
	}
	return found
}

// until waits until something holds.
func (f *firefox) until(what string, holds func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), waitLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("timed out waiting until %s; the page says:\n%s", what, f.text())
		}
	}
}

func (f *firefox) sees(text string) {
	f.t.Helper()
	f.until("the page says "+text, func() bool { return strings.Contains(f.text(), text) })
}

// click clicks with the mouse on what has a name.
func (f *firefox) click(selector, name string) {
	f.t.Helper()
	f.until("there is "+name, func() bool {
		found := f.find(selector, name)
		if len(found) == 0 {
			return false
		}
		_, err := f.try("WebDriver:ElementClick", map[string]any{"id": found[0].id()})
		return err == nil // else it moves, or is covered still
	})
}

// field waits for a field of the open form.
func (f *firefox) field(label string) (e element) {
	f.t.Helper()
	f.until("there is the field "+label, func() bool {
		found := f.find("input, select, textarea", label, label+" optional")
		if len(found) > 0 {
			e = found[0]
		}
		return e != nil
	})
	return e
}

// fill types into a field, or chooses from its list.
func (f *firefox) fill(label, text string) {
	f.t.Helper()
	e := f.field(label)
	option, err := f.try("WebDriver:FindElementFromElement", map[string]any{"element": e.id(), "using": "css selector", "value": fmt.Sprintf("option[value=%q]", text)})
	if err == nil {
		var chosen element
		if err := json.Unmarshal(option, &chosen); err != nil {
			f.t.Fatal(err)
		}
		f.do("WebDriver:ElementClick", map[string]any{"id": chosen.id()})
		return
	}
	f.do("WebDriver:ElementSendKeys", map[string]any{"id": e.id(), "text": text})
}

// pick fills in a field of an account: by the owner's name where it is searched for, else by its id.
func (f *firefox) pick(label, owner, id string) {
	f.t.Helper()
	var role string
	if err := json.Unmarshal(f.do("WebDriver:GetComputedRole", map[string]any{"id": f.field(label).id()}), &role); err != nil {
		f.t.Fatal(err)
	}
	if role != "combobox" {
		f.fill(label, id)
		return
	}
	f.fill(label, owner[:4])
	f.click("[role=option]", owner+"…")
}

// submit presses the button of the open form, which must be accepted.
func (f *firefox) submit(button string) {
	f.t.Helper()
	f.click("button", button)
	f.until("the form is gone", func() bool { return len(f.find("button", "Cancel")) == 0 })
}

// TestFirefox opens an account, deposits, transfers, and reads the statement, in Firefox. It knows only what screen readers
// are told: the names of buttons, links and fields.
func TestFirefox(t *testing.T) {
	t.Parallel()
	f := startFirefox(t)
	s := serve(t, nil)
	grace := s.open("Grace Hopper", "EUR")

	f.do("WebDriver:Navigate", map[string]any{"url": s.base + "/"}) // which leads to the console
	f.click("a", "Accounts")
	f.click("button", "Open an account")
	f.fill("Owner", "Ada Lovelace")
	f.fill("Currency", "EUR")
	f.submit("Open it")
	f.sees("Ada Lovelace")
	f.click("button", "Deposit")
	f.fill("Amount in EUR", "100.00")
	f.fill("Reference", "first salary")
	f.submit("Deposit")
	f.sees("100.00")
	f.click("button", "Transfer")
	f.pick("To account", "Grace Hopper", grace)
	f.fill("Amount in EUR", "12.34")
	f.fill("Reference", "half of dinner")
	f.submit("Transfer")
	f.sees("87.66")
	if balance := s.balance(grace, 5); balance != "12.34" {
		t.Errorf("Grace has %s", balance)
	}
	f.click("a", "Statement")
	f.sees("half of dinner")
	f.sees("first salary")
	f.sees("87.66")
}
