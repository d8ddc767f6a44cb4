package archive

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func testRows(first, last int64) []Row {
	var rows []Row
	for p := first; p <= last; p++ {
		rows = append(rows, Row{
			Position: p, StreamID: uuid.NewSHA1(uuid.Nil, []byte{byte(p % 7)}), Version: p/7 + 1, EventID: uuid.NewSHA1(uuid.Nil, []byte{byte(p), byte(p >> 8)}),
			Type: []string{"MoneyDeposited", "Überwiesen"}[p%2], SchemaVersion: int32(p % 3), Payload: `{"amount": 1, "reference": "` + strings.Repeat("ö", int(p%5)) + `"}`,
			Metadata: "{}", RecordedAt: 1_700_000_000_000_000 + p,
		})
	}
	return rows
}

func export(t *testing.T, dir string, rows []Row) Manifest {
	t.Helper()
	m, err := writeRows(dir, rows[0].Position, rows[len(rows)-1].Position, func(emit func(*Row) error) error {
		for i := range rows {
			if err := emit(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = m.write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFilesHaveEveryColumn writes rows and reads them back, in more than one page and after other files.
func TestFilesHaveEveryColumn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := testRows(1001, 3000)
	m := export(t, dir, rows)
	next := export(t, dir, testRows(3001, 3001))
	var read []Row
	if err := m.CheckRows(dir, func(r Row) error { read = append(read, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, read); diff != "" {
		t.Error(diff)
	}
	listed, err := Manifests(dir)
	if err != nil || !slices.Equal(listed, []Manifest{m, next}) {
		t.Errorf("%+v, %v", listed, err)
	}
	stop := errors.New("enough")
	if err := Read(filepath.Join(dir, m.File), func(Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the caller's error became %v", err)
	}
}

// TestDamageIsFound changes each byte of a small file in turn.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := export(t, dir, testRows(1, 3))
	path := filepath.Join(dir, m.File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := slices.Clone(whole)
		damaged[i] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.CheckRows(dir, nil); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	other := m
	other.RowsSHA256 = strings.Repeat("0", 64)
	if err := other.CheckRows(dir, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("other rows: %v", err)
	}
}

// TestGapsAreNotExported emits rows that are not those of the partition: nothing is left behind.
func TestGapsAreNotExported(t *testing.T) {
	t.Parallel()
	for name, positions := range map[string][]int64{"a gap": {1, 3}, "too few": {1, 2}, "too many": {1, 2, 3, 4}, "another start": {2, 3}} {
		dir := t.TempDir()
		_, err := writeRows(dir, 1, 3, func(emit func(*Row) error) error {
			for _, p := range positions {
				if err := emit(&Row{Position: p}); err != nil {
					return err
				}
			}
			return nil
		})
		left, globErr := os.ReadDir(dir)
		if err == nil || globErr != nil || len(left) > 0 {
			t.Errorf("%s: %v; %v, %v", name, err, left, globErr)
		}
	}
}
