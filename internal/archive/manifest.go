package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
)

// Manifest describes an exported partition.
type Manifest struct {
	// LogID is the id of the log's event at position 1: it identifies the log.
	LogID uuid.UUID `json:"log_id"`
	// File is the name of the Parquet file in the manifest's directory.
	File          string    `json:"file"`
	FirstPosition int64     `json:"first_position"`
	LastPosition  int64     `json:"last_position"`
	Count         int64     `json:"count"`
	FirstEventID  uuid.UUID `json:"first_event_id"`
	LastEventID   uuid.UUID `json:"last_event_id"`
	// FileSHA256 is over the bytes of the file, RowsSHA256 over the rows ([Hash]); both are in hexadecimal.
	FileSHA256 string `json:"file_sha256"`
	RowsSHA256 string `json:"rows_sha256"`
}

// ErrDamaged means that a file is not what its manifest says.
var ErrDamaged = errors.New("the file is not what its manifest says")

func baseName(first, last int64) string { return fmt.Sprintf("events-%019d-%019d", first, last) }

func fileName(first, last int64) string { return baseName(first, last) + ".parquet" }

// Manifests returns the manifests of a directory in order of position. The partitions may have gaps between them, but do not
// overlap.
func Manifests(dir string) ([]Manifest, error) {
	names, err := fs.Glob(os.DirFS(dir), "events-*-*.json")
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	slices.Sort(names)
	all := make([]Manifest, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the caller's directory
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		var m Manifest
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("archive: %s: %w", name, err)
		}
		if m.FirstPosition < 1 || m.Count != m.LastPosition-m.FirstPosition+1 || m.Count < 1 ||
			name != baseName(m.FirstPosition, m.LastPosition)+".json" || m.File != fileName(m.FirstPosition, m.LastPosition) {
			return nil, fmt.Errorf("archive: %s: the name, the positions and the count do not fit", name)
		}
		if n := len(all); n > 0 && m.FirstPosition <= all[n-1].LastPosition {
			return nil, fmt.Errorf("archive: %s and %s overlap", all[n-1].File, m.File)
		}
		all = append(all, m)
	}
	return all, nil
}

// write stores the manifest in dir.
func (m Manifest) write(dir string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return replace(dir, baseName(m.FirstPosition, m.LastPosition)+".json", func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// CheckFile fails with ErrDamaged if the bytes of the file in dir are not those that were written.
func (m Manifest) CheckFile(dir string) (err error) {
	file, err := os.Open(filepath.Join(dir, m.File)) //nolint:gosec // the caller's directory
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != m.FileSHA256 {
		return fmt.Errorf("archive: %s: %w", m.File, ErrDamaged)
	}
	return nil
}

// CheckRows reads the file in dir back, and fails with ErrDamaged unless its bytes and its rows are those that were exported. each,
// if not nil, is called with each row; the rows are known to be right only when CheckRows returns nil.
func (m Manifest) CheckRows(dir string, each func(Row) error) error {
	if err := m.CheckFile(dir); err != nil {
		return err
	}
	hash, next := NewHash(), m.FirstPosition
	err := Read(filepath.Join(dir, m.File), func(r Row) error {
		if r.Position != next {
			return fmt.Errorf("archive: %s: position %d follows %d: %w", m.File, r.Position, next-1, ErrDamaged)
		}
		next++
		hash.Add(&r)
		if each == nil {
			return nil
		}
		return each(r)
	})
	if err == nil && (next != m.LastPosition+1 || hash.Sum() != m.RowsSHA256) {
		err = fmt.Errorf("archive: %s: %w", m.File, ErrDamaged)
	}
	return err
}
