package main

import (
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// TestAppendsWaitForAPartition keeps the service from making partitions until the last one is full: commands get 503 and the
// service is not ready, and says why; both end when it can make one.
func TestAppendsWaitForAPartition(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	pool := connect(t, owners)
	if _, err := pool.Exec(t.Context(), "drop table events_1; select extend_log(2)"); err != nil {
		t.Fatal(err)
	}
	lock, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "lock table events in share update exclusive mode"); err != nil {
		t.Fatal(err)
	}
	p := launch(t, build(t), "DATABASE_URL="+pgtest.ServiceURL(t, owners), "PASSBOOK_PARTITION_SIZE=1000")
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	deposit := `{"account_id":"` + id + `","amount":1}`
	a.call("POST", "/deposits", deposit, 201)
	a.call("POST", "/deposits", deposit, 503)
	a.call("GET", "/accounts/"+id+"/balance?min_position=2", "", 200)
	answer, err := exchange(t.Context(), "GET", p.base+"/readyz", "", 503)
	if err != nil || !strings.Contains(detailOf(answer, "log"), "has no partition for the next position") {
		t.Errorf("%v, %v", err, answer)
	}
	eventuallyTrue(t, time.Minute, "the metric is 0", func() bool {
		return strings.Contains(scrape(t, p.base), "\npassbook_log_positions_left 0\n")
	})
	eventuallyTrue(t, time.Minute, "it is logged", func() bool {
		return strings.Contains(p.out.String(), "the log cannot be extended by a partition")
	})
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(t, time.Minute)
	a.call("POST", "/deposits", deposit, 201)
}
