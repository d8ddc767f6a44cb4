package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// compareFile checks that the stored tree contains the last checkpoint of the file, and removes what a crash left after it. The file is
// the signer's memory outside the database, and so the only way for it to see that the whole database has gone back.
func (s *Signer) compareFile(ctx context.Context, at position) error {
	if s.File == "" {
		return nil
	}
	last, err := lastOf(s.File)
	if errors.Is(err, os.ErrNotExist) || (err == nil && last == nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("merkle: %w", err)
	}
	c, err := ParseCheckpoint(string(last))
	if err != nil || c.Origin != s.Keys.Name {
		return &HaltedError{fmt.Sprintf("%s has checkpoints of something else than the log %q; name another file with PASSBOOK_CHECKPOINT_FILE",
			s.File, s.Keys.Name)}
	}
	const advice = "the log has gone back, as after a restore of a backup, or was changed. Run server audit with --checkpoint; docs/audit.md " +
		"says how to begin again"
	if c.Size > at.Size {
		return &HaltedError{fmt.Sprintf("the last checkpoint in %s has %d events, and the database has signed %d: %s", s.File, c.Size, at.Size, advice)}
	}
	root, err := tlog.TreeHash(c.Size, s.store.reader(ctx, at.tree()))
	if err != nil {
		return err
	}
	if root != c.Root {
		return &HaltedError{fmt.Sprintf("the last checkpoint in %s, of %d events, is not of this log: %s", s.File, c.Size, advice)}
	}
	return nil
}

// fileTail is how much of the end of a file is read: far more than a checkpoint.
const fileTail = 64 << 10

// lastOf returns the last checkpoint of a file, or nil, and removes what a crash left after it.
func lastOf(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // named by the operator
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-fileTail)
	tail := make([]byte, info.Size()-from)
	if _, err := file.ReadAt(tail, from); err != nil && len(tail) > 0 {
		return nil, err
	}
	if from > 0 { // begin with a whole checkpoint
		_, after, _ := bytes.Cut(tail, []byte("\n— "))
		_, after, _ = bytes.Cut(after, []byte("\n\n"))
		from, tail = info.Size()-int64(len(after)), after
	}
	signed, end := SplitCheckpoints(tail)
	if end < len(tail) {
		if err := file.Truncate(from + int64(end)); err != nil {
			return nil, err
		}
	}
	if len(signed) == 0 {
		return nil, nil
	}
	return signed[len(signed)-1], nil
}

// write appends a checkpoint to the file, durably, unless it is the last one there.
func (s *Signer) write(at position) (err error) {
	if s.File == "" || at.signed == "" {
		return nil
	}
	_, statErr := os.Stat(s.File)
	file, err := os.OpenFile(s.File, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644) //nolint:gosec // named by the operator; others may read it
	if err != nil {
		return fmt.Errorf("merkle: %w", err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = fmt.Errorf("merkle: write a checkpoint: %w", err)
		}
	}()
	text := []byte(at.signed + "\n")
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() >= int64(len(text)) {
		last := make([]byte, len(text))
		if _, err := file.ReadAt(last, info.Size()-int64(len(text))); err != nil || string(last) == string(text) {
			return err
		}
	}
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Sync(); err != nil || statErr == nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.File)) // the name of a new file is in its directory
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
