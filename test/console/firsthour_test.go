//go:build browser

package console

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// consoleLine is the line of the start banner with the console's address.
var consoleLine = regexp.MustCompile(`(?m)^  console  (http://\S+)/console$`)

// TestFirstHour takes the first steps of a new user in less than a minute: runs Passbook with no settings but where its
// data goes and a free port, follows the banner to the console, opens accounts, deposits, transfers, reverses, replays and
// exports a statement.
func TestFirstHour(t *testing.T) { //nolint:paralleltest // it is timed
	began := time.Now()
	path := os.Getenv("CONSOLE_SERVER")
	if path == "" {
		t.Skip("CONSOLE_SERVER does not name the server's binary: run make test-console")
	}
	// Where root runs PostgreSQL as another user, who must be able to enter.
	data, err := os.MkdirTemp("", "passbook-first-") //nolint:usetesting // nobody else can enter the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	out, ended := new(output), make(chan error, 1)
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "PASSBOOK_DATA_DIR="+filepath.Join(data, "data"), "PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_LEVEL=warn")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", out.b.String())
		}
	})
	s := &fixture{t: t}
	s.eventually("the banner names the console", func() bool { return s.listens(out, consoleLine) })

	b := browse(t, s.base, "/accounts")
	open := func(owner string) (id string) {
		b.visit("/accounts")
		b.button("Open an account")
		b.fill("owner", owner)
		if list, _ := eval[bool](b, `document.querySelector('dialog [name=currency]').matches('select')`); list {
			b.choose("dialog [name=currency]", "EUR")
		} else {
			b.fill("currency", "EUR")
		}
		b.submitted()
		b.shows("0.00")
		return b.text("#account-id")
	}
	grace := open("Grace Hopper")
	ada := open("Ada Lovelace")
	b.button("Deposit")
	b.fill("amount", "100.00")
	b.submitted()
	b.shows("100.00")
	b.button("Transfer")
	b.fill("to_account_id", grace)
	// Where the recipient is shown before money moves, it is shown first.
	b.until(`!document.querySelector('dialog [role=combobox]') || document.querySelector('dialog').innerText.includes('Grace Hopper')`)
	b.fill("amount", "30.00")
	b.fill("reference", "half of dinner")
	b.submitted()
	b.shows("70.00")

	b.until(`document.querySelectorAll('tbody tr').length === 2`)
	b.button("Reverse") // the newest
	b.fill("amount", "10.00")
	b.fill("reason", "one dish was cold")
	b.submit()
	b.tried("Nothing has been recorded.")
	b.submitted()
	b.shows("80.00")

	b.visit("/projections/balances")
	b.button("Replay")
	b.submitted()
	b.sees("The last replay was completed")

	b.visit("/accounts/" + ada + "/statement")
	b.sees("half of dinner")
	_, saved := b.saved(s, "Download as CSV")
	for _, want := range []string{"half of dinner", "80.00"} {
		if !strings.Contains(saved, want) {
			t.Errorf("the statement does not have %q:\n%s", want, saved)
		}
	}
	took := time.Since(began)
	t.Logf("the first hour took %.1f s", took.Seconds())
	if took > time.Minute {
		t.Errorf("the first hour took %s", took)
	}
}
