package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/archive"
	"passbook/internal/httpapi/apitest"
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

// TestPartitionsUnderLoad has two instances append across the ends of partitions, kills one with -9, and meanwhile exports the
// log and replays a read model: nothing is lost or there twice, and the books add up.
func TestPartitionsUnderLoad(t *testing.T) {
	t.Parallel()
	bin, owners, dir := build(t), pgtest.URL(t), t.TempDir()
	pool := connect(t, owners)
	if _, err := pool.Exec(t.Context(), "drop table events_1; select extend_log(1000)"); err != nil {
		t.Fatal(err)
	}
	var instances [2]*process
	for i := range instances {
		instances[i] = launch(t, bin, "DATABASE_URL="+pgtest.ServiceURL(t, owners), "PASSBOOK_PARTITION_SIZE=1000")
		instances[i].awaitReady(t, time.Minute)
	}
	client := apitest.Client(t)
	a := api{t, client, instances[1].base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	const batches, size = 22, 100
	for batch := range batches {
		switch batch {
		case batches / 2:
			if err := instances[0].cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		case batches - 2:
			if written, err := archive.Export(t.Context(), pool, dir, func(string, archive.Partition, int64) {}); err != nil {
				t.Errorf("%v, %v", written, err)
			}
		}
		items := make([]string, size)
		for i := range items {
			items[i] = fmt.Sprintf(`{"command":"deposit","account_id":"%s","amount":"0.01"}`, id)
		}
		body := "[" + strings.Join(items, ",") + "]"
		n := batch // an instance may be gone, and both may wait for a partition
		eventuallyTrue(t, time.Minute, fmt.Sprintf("batch %d is applied", batch), func() bool {
			n++
			got, err := sendOnce(t, client, instances[n%2].base+"/commands?atomic=true", body, fmt.Sprintf("batch-%d", batch))
			return err == nil && got.status == 200
		})
	}
	a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))
	got := a.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%d", id, batches*size+1), "", 200)
	if got["balance"] != "22.00" {
		t.Errorf("the balance is %v", got["balance"])
	}
	checkBooks(t, owners)
	if code, out := runVerify(t, bin, owners); code != 0 {
		t.Errorf("verify: %d\n%s", code, out)
	}
	checkPartitions(t, pool, dir)
}

// checkPartitions waits until a log of some 2,200 events is in partitions of 1,000, and checks what is exported.
func checkPartitions(t *testing.T, pool *pgxpool.Pool, dir string) {
	t.Helper()
	eventuallyTrue(t, time.Minute, "every projection has applied the closed partitions, and the next one is there", func() bool {
		var applied bool
		var bounds []int64
		err := pool.QueryRow(t.Context(), `select (select min(position) >= 2000 from projections), array_agg(first_position order by first_position)
from log_partitions`).Scan(&applied, &bounds)
		return err == nil && applied && slices.Equal(bounds, []int64{1, 1001, 2001, 3001})
	})
	if _, err := archive.Export(t.Context(), pool, dir, func(string, archive.Partition, int64) {}); err != nil {
		t.Error(err)
	}
	all, err := archive.Manifests(dir)
	if err != nil || len(all) != 2 || all[1].LastPosition != 2000 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, m := range all {
		if err := m.CheckRows(dir, nil); err != nil {
			t.Error(err)
		}
	}
}
