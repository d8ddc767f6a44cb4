package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passbook/internal/archive"
	"passbook/internal/pgtest"
)

// TestArchiveExport exports the partitions of a log that a demo has filled, on the command line.
func TestArchiveExport(t *testing.T) {
	t.Parallel()
	bin, owners, dir := build(t), pgtest.URL(t), t.TempDir()
	_, err := connect(t, owners).Exec(t.Context(), `drop table events_1; select extend_log(1000);
insert into events select g, gen_random_uuid(), 1, gen_random_uuid(), 'AccountCreated', 2,
    '{"owner": "Ada", "currency": "EUR", "overdraft_limit": 0, "decimals": 2}', '{}', now() from generate_series(1, 1000) g;
select extend_log(1000);
insert into events select g, gen_random_uuid(), 1, gen_random_uuid(), 'AccountCreated', 2,
    '{"owner": "Ada", "currency": "EUR", "overdraft_limit": 0, "decimals": 2}', '{}', now() from generate_series(1001, 1200) g;
insert into projections (id, version, generation, position) values ('balances', 1, 1, 1100)`)
	if err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"archive"}, args...)...)
		cmd.Env = append(cmd.Environ(), "DATABASE_URL="+owners)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	run("events-0000000000000000001-0000000000000001000.parquet: events 1 to 1000\n", "export", dir)
	run("every closed partition is exported already\n", "export", dir)
	run("name one directory", "export")
	run("no such file or directory", "export", filepath.Join(dir, "missing"))
	all, err := archive.Manifests(dir)
	if err != nil || len(all) != 1 || all[0].CheckRows(dir, nil) != nil {
		t.Errorf("%+v, %v", all, err)
	}
}
