package merkle_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"testing"

	"passbook/internal/merkle"
)

func (l *testLog) database() merkle.Source { return merkle.Database{Pool: l.pool} }

// dump returns the database as pg_dump writes it, without what save has saved.
func (l *testLog) dump() merkle.Source {
	l.Helper()
	path, err := exec.LookPath("pg_dump")
	if err != nil {
		l.Skip("there is no pg_dump")
	}
	text, err := exec.CommandContext(l.Context(), path, "--schema=public", "--dbname="+l.pool.Config().ConnString()).Output()
	if err != nil {
		l.Fatal(err)
	}
	return merkle.Dump{Open: func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}
}

// audit audits a source with the public key, its own checkpoint and those of the file.
func (l *testLog) audit(s merkle.Source) merkle.Report {
	l.Helper()
	keys := parseKeys(l, l.public)
	var checkpoints []merkle.Named
	add := func(from string, signed []byte) {
		c, err := keys.Open(signed)
		if err != nil {
			l.Fatal(err)
		}
		checkpoints = append(checkpoints, merkle.Named{From: from, Checkpoint: c})
	}
	if file, err := os.ReadFile(l.file); err == nil {
		all, _ := merkle.SplitCheckpoints(file)
		for _, signed := range all {
			add("the file", signed)
		}
	}
	signed, leaves, err := s.Stored(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	if signed != "" {
		add("the copy", []byte(signed))
	}
	report, err := merkle.Audit(s.Rows(l.Context(), 0), leaves, checkpoints)
	if err != nil {
		l.Fatal(err)
	}
	return report
}

// tampering is what the owner of the tables may do to a log of 600 events, signed at 300 and at 600.
var tampering = map[string]struct {
	change        string
	position      int64
	problem       string
	withoutLeaves int64 // the position without stored hashes: the first after the last checkpoint that is right
}{
	"position":       {`update events set position = 1005 where position = 5`, 5, "missing", 5},
	"stream id":      {`update events set stream_id = overlay(stream_id::text placing 'f' from 1)::uuid where position = 450`, 450, "changed", 301},
	"version":        {`update events set version = version # 4096 where position = 450`, 450, "changed", 301},
	"event id":       {`update events set event_id = '00000000-0000-4000-8000-000000000001' where position = 450`, 450, "changed", 301},
	"type":           {`update events set type = 'MoneyDeposittd' where position = 450`, 450, "changed", 301},
	"schema version": {`update events set schema_version = 3 where position = 450`, 450, "changed", 301},
	"payload":        {`update events set payload = jsonb_set(payload, '{amount}', '"448"') where position = 450`, 450, "changed", 301},
	"metadata":       {`update events set metadata = '{"actor": "key:adb"}' where position = 450`, 450, "changed", 301},
	"recorded at":    {`update events set recorded_at = recorded_at + interval '1 microsecond' where position = 450`, 450, "changed", 301},
	"infinite time":  {`update events set recorded_at = 'infinity' where position = 450`, 450, "changed", 301},
	"first event":    {`update events set schema_version = 0 where position = 1`, 1, "changed", 1},
	"last event":     {`update events set schema_version = 0 where position = 600`, 600, "changed", 301},
	"removed":        {`delete from events where position = 257`, 257, "missing", 257},
	"removed first":  {`delete from events where position = 1`, 1, "missing", 1},
	"removed, and the rest moved up": {
		`delete from events where position = 257; update events set position = position + 9000 where position > 257;
		update events set position = position - 9001 where position > 9000`, 257, "moved", 1,
	},
	"swapped": {`update events set position = 9001 where position = 256; update events set position = 256 where position = 257;
		update events set position = 257 where position = 9001`, 256, "moved", 1},
	"swapped far apart": {`update events set position = 9001 where position = 10; update events set position = 10 where position = 590;
		update events set position = 590 where position = 9001`, 10, "moved", 1},
	"cut tail":                     {`delete from events where position > 595`, 596, "cut off", 596},
	"cut tail with its signatures": {`delete from events where position > 300; delete from log_checkpoint; delete from log_tiles`, 301, "cut off", 301},
	"there twice":                  {`insert into events select * from events where position = 300`, 300, "twice", 300},
	"stored hash":                  {`update log_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where level = 0 and tile = 1`, 0, "hashes", -1},
	"event and its stored hash": {`update events set schema_version = 3 where position = 450;
		update log_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where level = 0 and tile = 1`, 0, "hashes", 301},
}

// TestTamperingIsFound changes a log as the owner of its tables can, and audits the database, its events without the stored hashes,
// and dumps.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	l := newLog(t, 300)
	l.sign()
	l.append(300)
	l.sign()
	l.save()
	if report := l.audit(l.database()); !report.OK || report.Signed != 600 || report.Checkpoints != 3 {
		t.Fatalf("the audit of the untouched log found %+v", report)
	}
	dumps := map[string]bool{"payload": true, "removed": true, "swapped": true, "cut tail": true, "stored hash": true}
	for name, test := range tampering {
		l.exec(test.change)
		first := func(s merkle.Source, kind string, position int64, problem string) {
			report := l.audit(s)
			if report.OK || report.Findings[0].Position != position || problem != "" && report.Findings[0].Problem != problem {
				t.Errorf("%s, %s: found %+v, want first %s at position %d", name, kind, report, problem, position)
			}
		}
		first(l.database(), "database", test.position, test.problem)
		if test.withoutLeaves >= 0 {
			first(bare{l.database()}, "without stored hashes", test.withoutLeaves, "")
		}
		if dumps[name] {
			first(l.dump(), "dump", test.position, test.problem)
		}
		l.restore()
	}
}

// bare is a source without stored hashes.
type bare struct{ merkle.Source }

func (bare) Stored(context.Context) (string, merkle.Leaves, error) {
	return "", nil, nil
}

// TestDumpsAreAudited reads a dump whose rows are out of order, as after an update that changed nothing.
func TestDumpsAreAudited(t *testing.T) {
	t.Parallel()
	l := newLog(t, 700)
	l.sign()
	l.exec(`update events set type = type where position in (1, 17, 300, 699)`)
	if report := l.audit(l.dump()); !report.OK || report.Signed != 700 || report.Events != 700 {
		t.Errorf("the audit found %+v", report)
	}
	// The order of the names is not that of the positions.
	l.exec(`create table events_101 as select * from events where position > 300 and position <= 600;
		create table events_1001 as select * from events where position > 600; delete from events where position > 300`)
	if report := l.audit(l.dump()); !report.OK || report.Signed != 700 || report.Events != 700 {
		t.Errorf("the audit of partitions found %+v", report)
	}
}
