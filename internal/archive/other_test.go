package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"passbook/internal/archive"
)

// TestArchiveOfAnotherLog offers a log the archive of another, and one whose manifests claim to be of this log, as after it has gone back
// and its events were replaced. Nothing changes.
func TestArchiveOfAnotherLog(t *testing.T) {
	t.Parallel()
	mine, other := newBooks(t, 100, nil), newBooks(t, 100, nil)
	dirs := make(map[*books]string)
	for _, b := range []*books{mine, other} {
		dirs[b] = t.TempDir()
		b.live(t, 260)
		b.export(t, dirs[b])
	}
	before := rows(t, mine.pool)
	mine.detach(t, dirs[mine], archive.Options{To: 100, Drop: true, Progress: quiet})
	refused := func() {
		t.Helper()
		_, exported := archive.Export(t.Context(), mine.pool, dirs[other], quiet)
		_, detached := archive.Detach(t.Context(), mine.pool, dirs[other], archive.Options{To: 200, Progress: quiet})
		_, attached := archive.Attach(t.Context(), mine.pool, dirs[other], archive.Options{Progress: quiet})
		for _, err := range []error{exported, detached, attached} {
			if err == nil {
				t.Error("the archive of another log was used")
			}
		}
		if !errors.Is(exported, archive.ErrOtherLog) || !errors.Is(attached, archive.ErrOtherLog) {
			t.Errorf("%v; %v", exported, attached)
		}
		mine.begins(t, 101)
	}
	refused()
	names, err := filepath.Glob(filepath.Join(dirs[other], "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(text, []byte(id(t, other)), []byte(id(t, mine))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused()
	mine.attach(t, dirs[mine], archive.Options{Progress: quiet})
	if after := rows(t, mine.pool); len(after) != len(before) {
		t.Errorf("%d rows, before %d", len(after), len(before))
	}
}

func id(t *testing.T, b *books) (id string) {
	t.Helper()
	if err := b.pool.QueryRow(t.Context(), "select event_id::text from events where position = 1").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}
