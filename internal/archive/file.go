package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

const (
	// rowsInMemory is how many rows a reader decodes at a time.
	rowsInMemory = 512
	// rowsInGroup is how many rows form a row group, which the writer holds in memory, compressed.
	rowsInGroup = 50_000
)

// Read calls each with the rows of a file in order of position, and stops at the first error that it returns. It holds only a few
// rows in memory. It does not compare the file with its manifest: [Manifest.CheckFile] does.
func Read(path string, each func(Row) error) (err error) {
	file, err := os.Open(path) //nolint:gosec // the caller's
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	parsed, err := parquet.OpenFile(file, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("archive: %s: %w", path, err)
	}
	if want := parquet.SchemaOf(Row{}); !parquet.EqualNodes(parsed.Schema(), want) {
		return fmt.Errorf("archive: %s does not have the columns of the log", path)
	}
	reader := parquet.NewGenericReader[Row](parsed)
	defer func() { err = errors.Join(err, reader.Close()) }()
	rows := make([]Row, rowsInMemory)
	for {
		n, err := reader.Read(rows)
		for i := range rows[:n] {
			if err := each(rows[i]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive: %s: %w", path, err)
		}
	}
}

// writeRows writes a Parquet file of the rows that produce emits, and returns their manifest. Rows must be emitted in order of
// position, from first to last. The file appears under its name only when it is whole and on disk.
func writeRows(dir string, first, last int64, produce func(emit func(*Row) error) error) (m Manifest, err error) {
	m = Manifest{FirstPosition: first, LastPosition: last, File: fileName(first, last)}
	err = replace(dir, m.File, func(file io.Writer) error {
		sum, buffer := sha256.New(), bufio.NewWriterSize(file, 1<<20)
		w := parquet.NewGenericWriter[Row](io.MultiWriter(buffer, sum), parquet.Compression(&parquet.Zstd),
			parquet.MaxRowsPerRowGroup(rowsInGroup), parquet.CreatedBy("passbook", "", ""))
		hash := NewHash()
		one := make([]Row, 1)
		err := produce(func(r *Row) error {
			if r.Position != first+m.Count {
				return fmt.Errorf("archive: position %d follows position %d", r.Position, first+m.Count-1)
			}
			if m.Count == 0 {
				m.FirstEventID = r.EventID
			}
			m.Count, m.LastEventID = m.Count+1, r.EventID
			hash.Add(r)
			one[0] = *r
			_, err := w.Write(one)
			return err
		})
		if err == nil && m.Count != last-first+1 {
			err = fmt.Errorf("archive: %d events from position %d to %d", m.Count, first, last)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			return err
		}
		m.RowsSHA256, m.FileSHA256 = hash.Sum(), hex.EncodeToString(sum.Sum(nil))
		return buffer.Flush()
	})
	return m, err
}

// replace writes a file under a temporary name, and renames it when it is on disk.
func replace(dir, name string, write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("archive: write %s: %w", name, err)
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the caller's
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}
