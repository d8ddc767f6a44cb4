//go:build browser

package console

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passbook/internal/pgtest"
)

// TestProofsAndErasure shows the proof of an event in two steps from its account, and erases a person from the account's page, on a
// server that signs its log and seals personal text.
func TestProofsAndErasure(t *testing.T) {
	t.Parallel()
	signing, master := filepath.Join(t.TempDir(), "signing.key"), filepath.Join(t.TempDir(), "master.key")
	if out, err := exec.Command(os.Getenv("CONSOLE_SERVER"), "audit", "keygen", "bank.example/log", signing).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(master, []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := pgtest.New(t) // of a database without tables
	if _, err := keys.Exec(t.Context(), "drop schema public cascade; create schema public"); err != nil {
		t.Fatal(err)
	}
	s := serve(t, nil, "PASSBOOK_SIGNING_KEY_FILE="+signing, "PASSBOOK_SUBJECT_MASTER_KEY_FILE="+master, "PASSBOOK_SUBJECT_KEYS_DATABASE_URL="+keys.Config().ConnString())
	ada := s.open("Ada Lovelace", "EUR")
	position := s.deposit(ada, "12.34")
	s.eventually("the events are signed", func() bool {
		_, text, err := s.send("GET", "/log/checkpoint", "")
		return err == nil && strings.Contains(string(text), fmt.Sprintf("\n%d\n", position))
	})

	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 422", "status of 409")
	b.link(fmt.Sprint(position))
	b.button("Show the proof")
	b.sees("Events in the tree", "bank.example/log")
	b.accessible(axe(t), "an event with its proof")

	b.visit("/accounts/" + ada)
	b.button("Erase the person")
	b.fill("name", "Ada")
	b.submit()
	b.beside("name")
	b.fill("name", "Ada Lovelace")
	b.submit()
	b.sees("Erased the person of this account")
	b.until(`document.querySelector('h1').innerText === 'Erased person' && !document.body.innerText.includes('Lovelace')`)
	b.until(`[...document.querySelectorAll('button')].some((e) => e.innerText === 'Erase the person' && e.getAttribute('aria-disabled') === 'true')`)
	b.link("Events")
	b.sees("SubjectErased", "Erased person, in EUR")
	b.visit("/accounts")
	b.sees("Erased person")
	b.link("Erased person")
	b.button("Edit")
	b.fill("overdraft_limit", "5.00")
	b.submit()
	b.sees("Changed the account of Erased person")
}

// TestErasureIsOff refuses with what to do when personal text is not sealed.
func TestErasureIsOff(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	b := browse(t, s.gate.URL, "/accounts/"+ada, "status of 409", "status of 404")
	b.button("Erase the person")
	b.fill("name", "Ada Lovelace")
	b.submit()
	b.sees("PASSBOOK_SUBJECT_MASTER_KEY_FILE")
	b.button("Cancel")
	b.visit("/log/1")
	b.button("Show the proof")
	b.sees("PASSBOOK_SIGNING_KEY_FILE")
}
