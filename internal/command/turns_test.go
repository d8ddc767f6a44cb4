package command_test

import (
	"testing"

	"golang.org/x/sync/errgroup"

	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestNobodyLosesForEver has two instances deposit into one account as fast as they can. One that is busy with it decides on
// what it has in memory, and the other, which reads before each try, comes too late time after time.
func TestNobodyLosesForEver(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 150
	url := pgtest.URL(t)
	pool := newPool(t, url)
	first, other := start(t, pool), second(t, url)
	id := open(t, first, "0")
	var group errgroup.Group
	for range callers {
		for _, s := range []*command.Service{first, other} {
			group.Go(func() error {
				for range each {
					if _, err := s.Do(t.Context(), keyed(deposit(id, "1"))); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if log := checkLog(t, pool); log.accounts[id].Balance != 2*callers*each*100 {
		t.Errorf("the balance is %d", log.accounts[id].Balance)
	}
}
