package merkle_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
	"passbook/internal/merkle"
	"passbook/internal/postgres"
)

// TestTheTreeIsThatOfTheEvents compares the signed hash with one computed from all leaves at once, by the library alone.
func TestTheTreeIsThatOfTheEvents(t *testing.T) {
	t.Parallel()
	l := newLog(t, 0)
	l.sign()
	if _, _, err := merkle.NewProver(l.pool).Signed(t.Context()); !errors.Is(err, merkle.ErrNoCheckpoint) {
		t.Errorf("of an empty log: %v, want ErrNoCheckpoint", err)
	}
	var stored []tlog.Hash
	hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			found[i] = stored[index]
		}
		return found, nil
	})
	var previous tlog.Hash
	size := int64(0)
	for _, n := range []int{1, 1, 253, 1, 1, 255, 300, 4100} { // around the width of a tile and the size of a batch
		l.append(n)
		l.sign()
		events := merkle.Database{Pool: l.pool}.Rows(t.Context(), size)
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			record := merkle.AppendRecord(nil, e, previous)
			previous = tlog.RecordHash(record)
			added, err := tlog.StoredHashes(e.Position-1, record, hashes)
			if err != nil {
				t.Fatal(err)
			}
			stored, size = append(stored, added...), e.Position
		}
		want, err := tlog.TreeHash(size, hashes)
		if err != nil {
			t.Fatal(err)
		}
		if _, c := l.signed(); c.Size != size || c.Root != want || c.Origin != origin {
			t.Errorf("signed %v, want size %d and hash %s", c, size, want)
		}
	}
}

// TestKeysRotate changes the key: while both are in the file both sign, and then the old one may go.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	l := newLog(t, 3)
	l.sign()
	oldPrivate, oldPublic := l.private, l.public
	newPrivate, newPublic := newKey(t)

	l.private, l.public = newPrivate, newPublic
	err := merkle.NewSigner(l.config()).RunOnce(t.Context())
	if _, halted := errors.AsType[*merkle.HaltedError](err); !halted {
		t.Fatalf("with only the new key: %v, want a HaltedError", err)
	}
	l.private = oldPrivate + "\n" + newPrivate
	l.sign() // no new event, and yet the new key has to sign
	text, _ := l.signed()
	l.public = oldPublic
	if again, _ := l.signed(); again != text || strings.Count(text, "\n— ") != 2 {
		t.Errorf("the checkpoint is not signed with both keys:\n%s", text)
	}
	l.private = newPrivate + "\n" + oldPublic // the old one is still known, and signs no more
	l.append(2)
	l.sign()
	l.public = newPublic
	if text, c := l.signed(); c.Size != 5 || strings.Count(text, "\n— ") != 1 {
		t.Errorf("the checkpoint is\n%s, want 5 events and one signature", text)
	}
	if _, err := note.Open([]byte(text), note.VerifierList()); err == nil {
		t.Error("a note without a known signature was opened")
	}
}

// TestTwoSignersMakeOneTree runs two signers on a log that grows, ends one of them, and cuts connections of both.
func TestTwoSignersMakeOneTree(t *testing.T) {
	t.Parallel()
	l := newLog(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	first, endFirst := context.WithCancel(ctx)
	var both sync.WaitGroup
	c := l.config()
	c.File = ""
	var err error
	if c.Pool, err = postgres.NewPool(ctx, l.pool.Config().ConnString(), postgres.WithApplicationName("signers")); err != nil {
		t.Fatal(err)
	}
	defer c.Pool.Close()
	c.Log = eventstore.New(c.Pool)
	for _, ctx := range []context.Context{first, ctx} {
		both.Go(func() { _ = merkle.NewSigner(c).Run(ctx) })
	}
	defer both.Wait()
	defer endFirst()
	defer cancel()
	for i := range 30 {
		l.append(20)
		if i%10 == 5 {
			l.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'signers'`)
		}
		if i == 15 {
			endFirst()
		}
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-poll.C {
		if _, size, err := merkle.NewProver(l.pool).Signed(t.Context()); err == nil && size == 610 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the signers do not catch up")
		}
	}
	if report := l.audit(l.database()); !report.OK || report.Signed != 610 {
		t.Errorf("the audit found %+v", report)
	}
}

// TestASignerHalts changes the log behind the back of a signer.
func TestASignerHalts(t *testing.T) {
	t.Parallel()
	l := newLog(t, 300)
	l.sign()
	l.append(5)
	l.save()
	for name, test := range map[string]struct{ change, want string }{
		"the last signed event is changed": {`update events set recorded_at = recorded_at + interval '1 microsecond' where position = 300`, "position 300"},
		"the last signed event is missing": {`delete from events where position = 300`, "position 300"},
		"the log is shorter":               {`delete from events where position > 290`, "positions 291 to 300 are missing"},
		"a new event is missing":           {`delete from events where position = 302`, "position 302 is missing"},
		"a hash is changed":                {`update log_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where level = 0 and tile = 1`, "damaged"},
		"hashes are missing":               {`delete from log_tiles where level = 0 and tile = 1`, "damaged"},
		"the checkpoint is changed":        {`update log_checkpoint set checkpoint = replace(checkpoint, E'\n300\n', E'\n299\n')`, "not of the keys"},
		"everything has gone back":         {`delete from events where position > 0; delete from log_tiles; delete from log_checkpoint`, "gone back"},
	} {
		l.exec(test.change)
		err := merkle.NewSigner(l.config()).RunOnce(t.Context())
		_, halted := errors.AsType[*merkle.HaltedError](err)
		_, damaged := errors.AsType[*merkle.DamagedError](err)
		if !halted && !damaged || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the signer returned %v, want that it halts because of %q", name, err, test.want)
		}
		l.restore()
	}
}

// TestTheFileSurvivesACrash leaves a part of a checkpoint at the end of the file.
func TestTheFileSurvivesACrash(t *testing.T) {
	t.Parallel()
	l := newLog(t, 3)
	l.sign()
	l.append(1)
	l.sign()
	before, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	second := strings.LastIndex(string(before), origin+"\n4\n")
	for cut := second; cut < len(before)-1; cut++ {
		if err := os.WriteFile(l.file, before[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l.sign()
		if after, err := os.ReadFile(l.file); err != nil || string(after) != string(before) {
			t.Fatalf("after a crash at byte %d the file is\n%s, want\n%s", cut, after, before)
		}
	}
	signed, end := merkle.SplitCheckpoints(before)
	if len(signed) != 2 || end != len(before) {
		t.Errorf("the file has %d checkpoints, want 2", len(signed))
	}
}

// TestOtherFilesAreLeftAlone names files that are not of checkpoints of the log as the file to write them to.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	l.sign()
	own, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	foreign := strings.ReplaceAll(string(own), origin, "shop.example/passbook")
	for name, content := range map[string]string{
		"the signing key":              l.private + "\n",
		"text":                         "PASSBOOK_LOG_LEVEL=debug\n",
		"much text":                    strings.Repeat("a line of a log\n", 8192),
		"another log":                  foreign,
		"another log, cut off":         foreign + "shop.example/pass",
		"another log that only begins": "shop.example/passbook\n1\n",
		"a checkpoint's three lines":   "a\nb\nc\n\n— d\nthe rest\n",
	} {
		if err := os.WriteFile(l.file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := merkle.NewSigner(l.config()).RunOnce(t.Context())
		if _, halted := errors.AsType[*merkle.HaltedError](err); !halted {
			t.Errorf("%s: the signer returned %v, want that it halts", name, err)
		}
		if after, err := os.ReadFile(l.file); err != nil || string(after) != content {
			t.Errorf("%s: the file has %d bytes, %v, want the %d from before", name, len(after), err, len(content))
		}
	}
}

// TestTheFileIsOfOneInstance locks the file as another instance does while it writes.
func TestTheFileIsOfOneInstance(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	l.sign()
	file, err := os.OpenFile(l.file, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(origin + "\n2"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := merkle.NewSigner(l.config()).RunOnce(t.Context()); err == nil {
		t.Error("the signer used a file that another instance writes to")
	}
	if after, err := os.ReadFile(l.file); err != nil || string(after) != string(before) {
		t.Errorf("the file is\n%s, %v, want\n%s", after, err, before)
	}
}
