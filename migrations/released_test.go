package migrations_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"passbook/migrations"
)

// changed tells what has become of migrations that released, in the format of sha256sum, lists.
func changed(files fs.FS, released string) (problems []string, err error) {
	for line := range strings.Lines(released) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return nil, fmt.Errorf("released.sum: %q is not a line of sha256sum", line)
		}
		text, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, name+" is gone")
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("released.sum: %w", err)
		}
		if got := sha256.Sum256(text); hex.EncodeToString(got[:]) != sum {
			problems = append(problems, name+" was changed")
		}
	}
	return problems, nil
}

// TestReleasedMigrationsStay keeps what databases have run already as it was: they remember its number only.
func TestReleasedMigrationsStay(t *testing.T) {
	t.Parallel()
	released, err := os.ReadFile("released.sum")
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := changed(migrations.FS, string(released)); err != nil || len(problems) > 0 {
		t.Errorf("migrations of a release: %v %v; add a migration instead", problems, err)
	}
}

// TestAChangedMigrationIsFound shows that the test above goes red, for as long as nothing is released.
func TestAChangedMigrationIsFound(t *testing.T) {
	t.Parallel()
	const released = `e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  00001_same.sql
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  00002_edited.sql
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  00003_gone.sql
`
	files := fstest.MapFS{"00001_same.sql": {}, "00002_edited.sql": {Data: []byte("-- better\n")}, "00004_new.sql": {}}
	problems, err := changed(files, released)
	if want := []string{"00002_edited.sql was changed", "00003_gone.sql is gone"}; err != nil || !slices.Equal(problems, want) {
		t.Errorf("found %q, %v; want %q", problems, err, want)
	}
	if _, err := changed(files, "nonsense\n"); err == nil {
		t.Error("a line that cannot be read was passed over")
	}
}
