package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"
)

// compareFile checks that the stored tree contains the last checkpoint of the file, and removes what a crash left after it. The file is
// the signer's memory outside the database, and so the only way for it to see that the whole database has gone back.
func (s *Signer) compareFile(ctx context.Context, at position) error {
	if s.File == "" {
		return nil
	}
	c, found, err := s.last()
	if err != nil || !found {
		return err
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

// last returns the last checkpoint of the file, if it has one, and removes what a crash left after it. It changes only a file of
// checkpoints of this log: the setting may name any other by mistake.
func (s *Signer) last() (c Checkpoint, found bool, err error) {
	file, err := os.OpenFile(s.File, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("merkle: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := lock(file); err != nil {
		return c, false, err
	}
	tail, err := tailOf(file)
	if err != nil {
		return c, false, fmt.Errorf("merkle: %w", err)
	}
	signed, end := SplitCheckpoints(tail)
	if found = len(signed) > 0; found {
		c, err = ParseCheckpoint(string(signed[len(signed)-1]))
	}
	if whole := s.Keys.Name + "\n"; err != nil || found && c.Origin != s.Keys.Name ||
		!found && !strings.HasPrefix(whole, string(tail)) && !strings.HasPrefix(string(tail), whole) {
		return c, false, &HaltedError{fmt.Sprintf("%s has something else than checkpoints of the log %q; name another file with "+
			"PASSBOOK_CHECKPOINT_FILE", s.File, s.Keys.Name)}
	}
	if end == len(tail) {
		return c, found, nil
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Truncate(info.Size() - int64(len(tail)-end))
	}
	if err != nil {
		return c, false, fmt.Errorf("merkle: %w", err)
	}
	return c, found, nil
}

// tailOf returns the end of a file, from the beginning of a checkpoint on if it has one there.
func tailOf(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-fileTail)
	tail := make([]byte, info.Size()-from)
	if _, err := file.ReadAt(tail, from); err != nil && len(tail) > 0 {
		return nil, err
	}
	if from == 0 {
		return tail, nil
	}
	_, after, _ := bytes.Cut(tail, []byte("\n— "))
	if _, after, _ = bytes.Cut(after, []byte("\n\n")); len(after) > 0 {
		return after, nil
	}
	return tail, nil
}

// lock takes the file until it is closed, so that instances that share one by mistake do not cut off what the other writes.
func lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("merkle: lock %s, of which each instance needs its own: %w", file.Name(), err)
	}
	return nil
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
	if err := lock(file); err != nil {
		return err
	}
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
