package subject_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/postgres"
	"passbook/internal/subject"
)

// opens reports whether an instance opens an event; an erased one is a marker.
func opens(t *testing.T, keys *subject.Keys, e eventstore.Event) bool {
	t.Helper()
	one := []eventstore.Event{e}
	if err := subject.NewCodec(keys).Open(t.Context(), one, true); err != nil {
		t.Fatal(err)
	}
	return !strings.Contains(string(one[0].Payload), `"erased": true`)
}

// TestErasureElsewhere expects an erasure to take hold in an instance that has the key in memory, once Erase has returned.
func TestErasureElsewhere(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	one, pool := b.instance(t)
	two, _ := b.instance(t)
	person := uuid.New()
	e := sealed(t, subject.NewCodec(one), pool, uuid.New(), person, account.OwnerChanged{Owner: "Zoë"})
	if !opens(t, one, e) || !opens(t, two, e) {
		t.Fatal("the event does not open")
	}
	eraser := subject.NewEraser(one, b.log, nil, postgres.IsUnavailable, slog.New(slog.DiscardHandler))
	erased, err := eraser.Erase(t.Context(), person, command.Metadata{})
	if err != nil || len(erased.Accounts) > 0 {
		t.Fatalf("%+v, %v", erased, err)
	}
	if opens(t, two, e) {
		t.Error("the other instance still opens it")
	}
	if _, err := eraser.Erase(t.Context(), person, command.Metadata{}); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := eraser.Erase(t.Context(), uuid.New(), command.Metadata{}); !errors.Is(err, subject.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestReconcile expects a restored key to be destroyed again, because the log says that its subject is erased.
func TestReconcile(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	one, pool := b.instance(t)
	person := uuid.New()
	e := sealed(t, subject.NewCodec(one), pool, uuid.New(), person, account.OwnerChanged{Owner: "Zoë"})
	if _, err := b.log.Exec(t.Context(), `insert into events select 1, gen_random_uuid(), 1, gen_random_uuid(), 'SubjectErased', 1,
		jsonb_build_object('subject_id', $1::uuid), '{}', now()`, person); err != nil {
		t.Fatal(err)
	}
	two, _ := b.instance(t)
	if !opens(t, two, e) {
		t.Fatal("the event does not open")
	}
	if err := subject.NewEraser(two, b.log, nil, postgres.IsUnavailable, slog.New(slog.DiscardHandler)).Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	three, _ := b.instance(t)
	if opens(t, two, e) || opens(t, three, e) {
		t.Error("the event opens")
	}
}

func TestMissingKey(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	one, pool := b.instance(t)
	person := uuid.New()
	e := []eventstore.Event{sealed(t, subject.NewCodec(one), pool, uuid.New(), person, account.OwnerChanged{Owner: "Zoë"})}
	if _, err := pool.Exec(t.Context(), "delete from subject_keys"); err != nil {
		t.Fatal(err)
	}
	two, _ := b.instance(t)
	err := subject.NewCodec(two).Open(t.Context(), e, true)
	if missing, ok := errors.AsType[*subject.MissingKeyError](err); !ok || missing.SubjectID != person {
		t.Errorf("got %v", err)
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	if err := subject.NewKeys(b.log, master(t, 1), false).Prepare(t.Context()); !errors.Is(err, subject.ErrLogDatabase) {
		t.Errorf("the log's database: %v", err)
	}
	one, pool := b.instance(t)
	_ = sealed(t, subject.NewCodec(one), pool, uuid.New(), uuid.Nil, account.OwnerChanged{Owner: "Zoë"})
	if err := subject.NewKeys(pool, master(t, 2), false).Prepare(t.Context()); !errors.Is(err, subject.ErrMasterKey) {
		t.Errorf("another master key: %v", err)
	}
}

// failing is Commands that fail for one account.
type failing struct {
	account uuid.UUID
	erased  []uuid.UUID
}

func (f *failing) DoEach(_ context.Context, requests []command.Request) []command.Outcome {
	outcomes := make([]command.Outcome, len(requests))
	for i, r := range requests {
		if r.AccountID == f.account {
			outcomes[i].Err = errors.New("the account is damaged")
		} else {
			f.erased = append(f.erased, r.AccountID)
		}
	}
	return outcomes
}

// TestRunOncePastFailures expects a subject that cannot be finished not to hold up those that were erased after it.
func TestRunOncePastFailures(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	keys, pool := b.instance(t)
	damaged, intact := uuid.New(), uuid.New()
	for i, id := range []uuid.UUID{damaged, intact} {
		if _, err := b.log.Exec(t.Context(), `insert into events select $1, $2::uuid, 1, gen_random_uuid(), 'AccountCreated', 1, '{}', '{}', now()`,
			i+1, id); err != nil {
			t.Fatal(err)
		}
		if err := keys.Destroy(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(t.Context(), "update subject_keys set erased_at = erased_at - interval '2 minutes'"); err != nil {
		t.Fatal(err)
	}
	commands := &failing{account: damaged}
	eraser := subject.NewEraser(keys, b.log, commands, postgres.IsUnavailable, slog.New(slog.DiscardHandler))
	err := eraser.RunOnce(t.Context())
	if oldest := eraser.OldestUnfinished(); oldest < 2*time.Minute {
		t.Errorf("the oldest began %v ago, want 2 minutes", oldest)
	}
	if err == nil || !strings.Contains(err.Error(), damaged.String()) {
		t.Errorf("got error %v, want one that names %s", err, damaged)
	}
	if !slices.Equal(commands.erased, []uuid.UUID{intact}) {
		t.Errorf("finished %v, want %s", commands.erased, intact)
	}
}

// TestErasureAfterSlowCommit expects a repeated erasure to take hold everywhere although the commit of the first one took so long, as
// it may with a synchronous standby, that others never saw it among the recent ones.
func TestErasureAfterSlowCommit(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	one, pool := b.instance(t)
	two, _ := b.instance(t)
	person := uuid.New()
	e := sealed(t, subject.NewCodec(one), pool, uuid.New(), person, account.OwnerChanged{Owner: "Zoë"})
	if !opens(t, two, e) {
		t.Fatal("the event does not open")
	}
	if _, err := pool.Exec(t.Context(), "update subject_keys set wrapped = null, erased_at = clock_timestamp() - interval '2 minutes'"); err != nil {
		t.Fatal(err)
	}
	eraser := subject.NewEraser(one, b.log, nil, postgres.IsUnavailable, slog.New(slog.DiscardHandler))
	if _, err := eraser.Erase(t.Context(), person, command.Metadata{}); err != nil {
		t.Fatal(err)
	}
	if opens(t, two, e) {
		t.Error("the other instance still opens it")
	}
}

// TestErasuresThatTheLogHasLost expects only erasures that the log has lost to be finished again, also when it has grown since.
func TestErasuresThatTheLogHasLost(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	keys, pool := b.instance(t)
	kept, lost, overtaken := uuid.New(), uuid.New(), uuid.New()
	if err := keys.Destroy(t.Context(), kept, lost, overtaken); err != nil {
		t.Fatal(err)
	}
	if _, err := b.log.Exec(t.Context(), `insert into events select g, $1::uuid, g, case g when 1 then $1::uuid else gen_random_uuid() end, 'SubjectErased', 1,
		jsonb_build_object('subject_id', $1::uuid), '{}', now() from generate_series(1, 2) g`, kept); err != nil {
		t.Fatal(err)
	}
	for id, at := range map[uuid.UUID]struct {
		position int64
		event    uuid.UUID
	}{kept: {1, kept}, overtaken: {2, uuid.New()}, lost: {3, uuid.New()}} {
		if _, err := pool.Exec(t.Context(), `update subject_keys set finished_position = $2, finished_event = $3 where subject_id = $1`, id, at.position, at.event); err != nil {
			t.Fatal(err)
		}
	}
	if err := subject.NewEraser(keys, b.log, nil, postgres.IsUnavailable, slog.New(slog.DiscardHandler)).RunOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left []uuid.UUID
	if err := pool.QueryRow(t.Context(), "select array_agg(subject_id) from subject_keys where finished_position is not null").Scan(&left); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(left, []uuid.UUID{kept}) {
		t.Errorf("%v stay finished, want %s", left, kept)
	}
}
