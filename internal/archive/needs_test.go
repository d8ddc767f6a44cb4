package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passbook/internal/archive"
)

// TestDetachRefusesWhatIsNeeded has one thing after the other need the events of a partition: it stays in the log as it is, and the error
// says what needs it. What needs only later events does not hinder.
func TestDetachRefusesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	b.live(t, 260)
	exec(t, b.pool, `insert into projections (id, version, generation, position, previous_generation, previous_version, previous_position)
select 'totals', 1, 2, position, 1, 1, position from projections`,
		`insert into log_checkpoint (checkpoint) select format(E'log\n%s\nhash\n', max(position)) from events`,
		`insert into webhooks (id, url, position, secret) values ('6f0c8f0e-0000-4000-8000-000000000001', 'https://example.com', 100, '')`)
	refuses := func(what, want string) {
		t.Helper()
		o := options
		o.To = 100
		done, err := archive.Detach(t.Context(), b.pool, dir, o)
		needed, ok := errors.AsType[*archive.NeededError](err)
		if !ok || len(done) > 0 || needed.Partition.Name != "events_1" || len(needed.Reasons) != 1 || !strings.Contains(needed.Reasons[0], want) {
			t.Errorf("%s: %v, %v", what, done, err)
		}
	}
	refuses("no file", "does not have it: run server archive export")
	b.export(t, dir)
	const failure = `insert into projection_failures (projection, generation, stream_id, position, event_id, type, error, attempts, parked)
select 'totals', %, stream_id, position, event_id, type, '', 1, true from events where position = `
	const key = `insert into idempotency_keys select gen_random_uuid(), gen_random_uuid(), 100, recorded_at, 1, null from events where position = `
	for _, test := range []struct{ hinder, want, undo string }{
		{
			"update projections set position = 100 where id = 'totals'", "the projection totals has applied the log up to position 100",
			"update projections set position = 101 where id = 'totals'",
		},
		{
			"update projections set previous_position = 100 where id = 'totals'", "the previous generation of the projection totals is at position 100",
			"update projections set previous_position = 101 where id = 'totals'",
		},
		{
			`insert into projection_replays (id, projection, version, generation, total) values (gen_random_uuid(), 'totals', 1, 3, 9)`,
			"a replay of the projection totals is running", "update projection_replays set state = 'failed'",
		},
		{strings.Replace(failure, "%", "2", 1) + "77", "could not apply the event at position 77", "delete from projection_failures"},
		{strings.Replace(failure, "%", "1", 1) + "77", "could not apply the event at position 77", "delete from projection_failures"},
		{"update webhooks set position = 99", "the webhook 6f0c8f0e-0000-4000-8000-000000000001 has delivered the log up to position 99", "update webhooks set position = 100"},
		{key + "100", "idempotency keys stored up to ", "delete from idempotency_keys"},
		{`update log_checkpoint set checkpoint = E'log\n100\nhash\n'`, "the log is signed up to position 100", `update log_checkpoint set checkpoint = E'log\n101\nhash\n'`},
		{"update projections set position = 20, previous_position = null, previous_generation = null where id = 'totals'", "up to position 20", "update projections set position = 200"},
	} {
		exec(t, b.pool, test.hinder)
		refuses(test.hinder, test.want)
		exec(t, b.pool, test.undo)
	}
	exec(t, b.pool, strings.Replace(failure, "%", "2", 1)+"101",
		`insert into idempotency_keys select gen_random_uuid(), gen_random_uuid(), 101, recorded_at, 1, null from events where position = 101`,
		`insert into idempotency_keys select gen_random_uuid(), gen_random_uuid(), 50, recorded_at, 0, '' from events where position = 50`)
	b.begins(t, 1)
	if done := b.detach(t, dir, archive.Options{To: 100, Progress: quiet}); len(done) != 1 {
		t.Errorf("detached: %+v", done)
	}
	b.begins(t, 101)
}

// TestDetachForgetsPreviousGenerations gives up a rollback that would need a partition.
func TestDetachForgetsPreviousGenerations(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	b.live(t, 260)
	b.export(t, dir)
	exec(t, b.pool, "update projections set previous_generation = 1, previous_version = 1, previous_position = 50, generation = 2")
	o := archive.Options{To: 100, Progress: quiet, ForgetPrevious: true}
	forgotten := func(want bool) {
		t.Helper()
		var got bool
		if err := b.pool.QueryRow(t.Context(), "select bool_and(previous_generation is null) from projections").Scan(&got); err != nil || got != want {
			t.Errorf("forgotten: %v, %v", got, err)
		}
	}
	exec(t, b.pool, `insert into webhooks (id, url, position, secret) values (gen_random_uuid(), 'https://example.com', 99, '')`)
	if _, err := archive.Detach(t.Context(), b.pool, dir, o); err == nil || strings.Contains(err.Error(), "generation") {
		t.Errorf("detached although a webhook is behind: %v", err)
	}
	forgotten(false)
	exec(t, b.pool, "delete from webhooks")
	b.detach(t, dir, o)
	forgotten(true)
	b.begins(t, 101)
}

// TestDetachChecksAgainUnderTheLock starts a replay while the stub is made: the partition stays.
func TestDetachChecksAgainUnderTheLock(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	b.live(t, 260)
	b.export(t, dir)
	started := false
	o := archive.Options{To: 100, Progress: func(step string, _ archive.Partition, _ int64) {
		if step == "stub of" && !started {
			started = true
			exec(t, b.pool, `insert into projection_replays (id, projection, version, generation, total) values (gen_random_uuid(), 'balances', 1, 3, 9)`)
		}
	}}
	before := rows(t, b.pool)
	if _, err := archive.Detach(t.Context(), b.pool, dir, o); err == nil || !strings.Contains(err.Error(), "a replay of the projection balances is running") {
		t.Errorf("detached: %v", err)
	}
	if after := rows(t, b.pool); len(after) != len(before) {
		t.Errorf("%d rows, before %d", len(after), len(before))
	}
	b.begins(t, 1)
	exec(t, b.pool, "delete from projection_replays")
	b.detach(t, dir, archive.Options{To: 100, Progress: quiet}) // over what that run has left
	b.begins(t, 101)
}

// TestFilesMustFitTheTable damages the file, the manifest and the table in turn: nothing is detached or attached.
func TestFilesMustFitTheTable(t *testing.T) {
	t.Parallel()
	b, dir := newBooks(t, 100, nil), t.TempDir()
	b.live(t, 260)
	b.export(t, dir)
	all, err := archive.Manifests(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, all[0].File)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	detach := func(drop bool) error {
		_, err := archive.Detach(t.Context(), b.pool, dir, archive.Options{To: 100, Drop: drop, Progress: quiet})
		return err
	}
	attach := func() error {
		_, err := archive.Attach(t.Context(), b.pool, dir, options)
		return err
	}
	damaged := append([]byte("x"), whole[1:]...)
	write(damaged)
	if err := detach(false); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	write(whole)
	exec(t, b.pool, "update events set payload = payload || '{\"reference\": \"?\"}' where position = 50")
	if err := detach(false); err == nil || !strings.Contains(err.Error(), "the rows of the table events_1 are not those of") {
		t.Errorf("another table: %v", err)
	}
	b.begins(t, 1)
	exec(t, b.pool, "update events set payload = payload - 'reference' where position = 50")
	other := newBooks(t, 100, nil)
	other.live(t, 260)
	if _, err := archive.Detach(t.Context(), other.pool, dir, archive.Options{To: 100, Progress: quiet}); err == nil {
		t.Error("the file of another log")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.export(t, dir)
	if err := detach(false); err != nil {
		t.Fatal(err)
	}
	if whole, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	write(append([]byte("x"), whole[1:]...))
	if err := detach(true); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("the table was dropped though the file is damaged: %v", err)
	}
	if err := attach(); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a damaged file is attached: %v", err)
	}
	write(whole)
	if err := detach(true); err != nil {
		t.Fatal(err)
	}
	write(append([]byte("x"), whole[1:]...))
	if err := attach(); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a damaged file is loaded: %v", err)
	}
	b.begins(t, 101)
	write(whole)
	if err := attach(); err != nil {
		t.Error(err)
	}
	b.begins(t, 1)
}
