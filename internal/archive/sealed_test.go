package archive_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/archive"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/subject"
)

// newKeys returns the keys of subjects, in a database of their own.
func newKeys(t *testing.T) *subject.Keys {
	t.Helper()
	u, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	beside, name := u.String(), strings.TrimPrefix(u.Path, "/")+"_keys"
	u.Path = "/" + name
	run := func(sql string) {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, beside)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	run("create database " + name)
	t.Cleanup(func() { run("drop database " + name + " with (force)") })
	master, err := subject.NewMasterKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	keys := subject.NewKeys(newPool(t, u.String()), master, false)
	if err := keys.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestStubsAreSealed detaches a log with sealed text: it is sealed in the snapshots too, so that an erasure reaches it, and without the
// keys nothing is detached.
func TestStubsAreSealed(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	codec := subject.NewCodec(keys)
	b, dir := newBooks(t, 100, codec), t.TempDir()
	// A person with two accounts.
	person := uuid.New()
	eur, _ := money.LookupCurrency("EUR")
	first, stop := serve(t, b.log)
	for range 2 {
		id := uuid.New()
		b.accounts = append(b.accounts, id)
		if _, err := first.Do(t.Context(), command.Request{AccountID: id, Command: account.Open{Owner: "Åsa Quillfeather", Currency: eur, SubjectID: person}}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	b.live(t, 260)
	b.export(t, dir)
	before, answered := rows(t, b.pool), b.answers(t)
	o := archive.Options{To: 200, Drop: true, Progress: quiet}
	if _, err := archive.Detach(t.Context(), b.pool, dir, o); err == nil || !strings.Contains(err.Error(), "PASSBOOK_SUBJECT_MASTER_KEY_FILE is not set") {
		t.Errorf("without keys: %v", err)
	}
	b.begins(t, 1)
	o.Codec = codec
	b.detach(t, dir, o)
	b.begins(t, 201)
	if diff := cmp.Diff(answered, b.answers(t)); diff != "" {
		t.Error(diff)
	}
	s, _ := serve(t, b.log)
	erasure, err := subject.NewEraser(keys, b.pool, s, postgres.IsUnavailable, slog.New(slog.DiscardHandler)).Erase(t.Context(), person, command.Metadata{})
	if err != nil || len(erasure.Accounts) != 2 || erasure.PlainText {
		t.Errorf("erased: %+v, %v", erasure, err)
	}
	erased := b.accounts[0]
	if _, err := s.Do(t.Context(), command.Request{AccountID: erased, Command: account.Deposit{Amount: amount(1)}}); err != nil {
		t.Error(err)
	}
	for _, row := range rows(t, b.pool) {
		if strings.Contains(row, "Quillfeather") || strings.Contains(row, "Lind") {
			t.Fatalf("the name is in %s", row)
		}
	}
	opened := 0
	err = b.log.ReadStreams(t.Context(), [][16]byte{erased}, 200, `{"state": {}}`, func(e *eventstore.Event) error {
		opened++
		if text := string(e.Payload) + string(e.Metadata); strings.Contains(text, "Quillfeather") || strings.Contains(text, "sealed") {
			t.Errorf("an erased text is opened: %s", text)
		}
		return nil
	})
	if err != nil || opened == 0 {
		t.Errorf("%d events, %v", opened, err)
	}
	b.attach(t, dir, options)
	if diff := cmp.Diff(before, rows(t, b.pool)[:len(before)]); diff != "" {
		t.Error(diff)
	}
}
