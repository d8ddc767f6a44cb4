package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// commandLine runs commands against one server.
type commandLine struct {
	t    *testing.T
	base string
}

func (l commandLine) run(want int, args ...string) (stdout, stderr string) {
	l.t.Helper()
	code, stdout, stderr := invoke(l.t.Context(), append(args, "--server", l.base), "HOME=/")
	if code != want {
		l.t.Fatalf("%v: %d %s%s", args, code, stdout, stderr)
	}
	return stdout, stderr
}

// find runs a command that succeeds and returns the first group of a pattern in what it prints.
func (l commandLine) find(pattern string, args ...string) string {
	l.t.Helper()
	stdout, _ := l.run(exitOK, args...)
	found := regexp.MustCompile(pattern).FindStringSubmatch(stdout)
	if found == nil {
		l.t.Fatalf("%v printed\n%s\nand nothing like %s", args, stdout, pattern)
	}
	return found[len(found)-1]
}

func (l commandLine) refused(want string, args ...string) {
	l.t.Helper()
	stdout, stderr := l.run(exitFailed, args...)
	if stdout != "" || !strings.Contains(stderr, want) {
		l.t.Errorf("%v: %q is not in %s, or stdout is not empty: %s", args, want, stderr, stdout)
	}
}

// TestMoneyOnTheCommandLine opens accounts and moves money with the commands of the binary, as a person and as a program would.
func TestMoneyOnTheCommandLine(t *testing.T) {
	t.Parallel()
	h := host(t, "DATABASE_URL="+pgtest.URL(t))
	h.awaitReady(t)
	l := commandLine{t, h.base}
	ada := l.find(`opened account ([0-9a-f-]{36}), position 2`, "accounts", "open", "Ada Lovelace", "EUR", "--deposit", "100", "--metadata", "branch=Bonn")
	grace := l.find(`"account_id":"([0-9a-f-]{36})"`, "accounts", "open", "グレース", "EUR", "--json")
	deposit := []string{"deposit", ada, "12.34", "--reference", "invoice 17", "--idempotency-key", "17"}
	if first, second := l.find(`deposited 12\.34 EUR to Ada Lovelace, position (\d+), balance 112\.34 EUR\n`, deposit...), l.find(`position (\d+)`, deposit...); first != second {
		t.Errorf("a deposit with one key is at %s and at %s", first, second)
	}
	l.find(`would have a balance of 107\.34 EUR`, "withdraw", ada, "5", "--dry-run")
	l.find(`withdrew 5\.00 EUR from Ada Lovelace, position \d+, balance 107\.34 EUR`, "withdraw", ada, "5")
	position := l.find(`transferred 7\.34 EUR from Ada Lovelace to グレース, transfer [0-9a-f-]{36}, position (\d+), balance 100\.00 EUR`, "transfer", ada, grace, "7.34")
	l.find(`(?s)Owner +Ada Lovelace.*Balance +100\.00 EUR.*Metadata branch +Bonn`, "accounts", "show", ada, "--min-position", position)
	if list, _ := l.run(exitOK, "accounts"); !strings.Contains(list, "グレース         7.34  0.00       7.34") || !strings.Contains(list, "Ada Lovelace   100.00") {
		t.Errorf("the columns are not aligned:\n%s", list)
	}
	l.find(`(Ada Lovelace)`, "accounts", "ada", "love")
	l.find(`suspended, position`, "accounts", "suspend", grace, "--reason", "lost card")
	l.refused("suspended", "deposit", grace, "1")
	l.find(`reactivated`, "accounts", "reactivate", grace)
	l.refused("zero", "accounts", "close", grace)

	l.refused("Amount has 3 decimals; EUR has 2", "deposit", ada, "0.001")
	l.refused("1.000,00", "deposit", ada, "1.000,00")
	l.refused("insufficient-funds", "withdraw", ada, "1000")
	l.refused("server accounts finds", "deposit", "0198c1f0-0000-7000-8000-000000000001", "1")
	l.refused("USD", "deposit", ada, "1", "--currency", "USD")
	l.refused("currency", "accounts", "open", "Ada", "EURO")

	// Each line that a program reads is one JSON value.
	for _, line := range [][]string{{"accounts"}, {"accounts", "show", ada}, {"deposit", ada, "1"}, {"deposit", ada, "1", "--dry-run"}, {"transactions"}, {"statement", ada}} {
		stdout, _ := l.run(exitOK, append(line, "--json")...)
		for one := range strings.Lines(stdout) {
			if !json.Valid([]byte(one)) || !strings.HasPrefix(one, "{") {
				t.Errorf("%v: %s", line, one)
			}
		}
	}
}

func TestCommandsWithoutServerOrKey(t *testing.T) {
	t.Parallel()
	began := time.Now()
	code, stdout, stderr := invoke(t.Context(), []string{"accounts"}, "HOME=/", "PASSBOOK_ADDR=127.0.0.1:1")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, `Run "server" to start one`) || time.Since(began) > 8*time.Second {
		t.Errorf("%d %s%s after %s", code, stdout, stderr, time.Since(began))
	}
	h := host(t, "DATABASE_URL="+pgtest.URL(t), "PASSBOOK_AUTH=keys")
	h.awaitReady(t)
	for _, args := range [][]string{{"accounts"}, {"deposit", "0198c1f0-0000-7000-8000-000000000001", "1"}, {"tail"}} {
		code, stdout, stderr = invoke(t.Context(), append(args, "--server", h.base), "HOME=/")
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, "PASSBOOK_KEY_FILE or --key") || !strings.Contains(stderr, "server keys create") {
			t.Errorf("%v: %d %s%s", args, code, stdout, stderr)
		}
	}
}

// TestTail follows the log through a proxy that breaks the connection, from now and from a position, with and without filters.
func TestTail(t *testing.T) {
	t.Parallel()
	h := host(t, "DATABASE_URL="+pgtest.URL(t))
	h.awaitReady(t)
	target, err := url.Parse(h.base)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.FlushInterval = -1
	forward.Transport = &http.Transport{DialContext: new(net.Dialer).DialContext, DisableKeepAlives: true}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy := httptest.NewServer(forward)
	defer proxy.Close()
	l := commandLine{t, h.base}
	ada := l.find(`opened account ([0-9a-f-]{36})`, "accounts", "open", "Ada", "EUR", "--deposit", "100")
	grace := l.find(`opened account ([0-9a-f-]{36})`, "accounts", "open", "Grace", "EUR")

	follow := func(args ...string) (out *lockedBuffer, interrupt func() (code int, stderr string)) {
		ctx, cancel := context.WithCancel(t.Context())
		out, errs, done := new(lockedBuffer), new(lockedBuffer), make(chan int, 1)
		go func() {
			done <- run(ctx, append([]string{"tail", "--server", proxy.URL}, args...), []string{"HOME=/"}, out, errs)
		}()
		return out, func() (int, string) {
			cancel()
			return <-done, errs.String()
		}
	}
	shows := func(out *lockedBuffer, what string) {
		t.Helper()
		eventually(t, "tail shows "+what, func() bool { return strings.Contains(out.String(), what) })
	}
	all, endAll := follow("--after", "1")
	deposits, endDeposits := follow("--type", "MoneyDeposited", "--account", ada, "--after", "0", "--json")
	shows(all, "AccountCreated")
	shows(deposits, `"position":"2"`)
	proxy.CloseClientConnections()
	l.run(exitOK, "transfer", ada, grace, "1")
	l.run(exitOK, "deposit", grace, "2")
	l.run(exitOK, "deposit", ada, "3")
	shows(all, "7  ")
	shows(deposits, `"position":"7"`)
	code, stderr := endAll()
	if code != exitOK || !strings.Contains(stderr, "server tail --after 7 continues from here") {
		t.Errorf("after Ctrl-C: %d %s", code, stderr)
	}
	if code, _ = endDeposits(); code != exitOK {
		t.Errorf("after Ctrl-C: %d", code)
	}
	var positions []string
	for line := range strings.Lines(all.String()) {
		positions = append(positions, strings.Fields(line)[0])
	}
	if got := strings.Join(positions, " "); got != "2 3 4 5 6 7" {
		t.Errorf("tail showed %s:\n%s", got, all.String())
	}
	if !strings.Contains(all.String(), ada+"  MoneyDeposited    amount=\"3.00\" currency=\"EUR\"") {
		t.Errorf("tail says not what the events are:\n%s", all.String())
	}
	if n := strings.Count(deposits.String(), "\n"); n != 2 {
		t.Errorf("the filtered tail has %d events:\n%s", n, deposits.String())
	}
	if code, _, stderr := invoke(t.Context(), []string{"tail", "--type", "None", "--server", h.base}, "HOME=/"); code != exitFailed || !strings.Contains(stderr, "type") {
		t.Errorf("a type that is none: %d %s", code, stderr)
	}
}
