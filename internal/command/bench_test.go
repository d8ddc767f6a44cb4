package command_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/pgtest"
)

// BenchmarkDo measures deposits with keys over 1,000 accounts. The private test server does not fsync; set
// TEST_DATABASE_URL to one that does for figures that include the commit.
func BenchmarkDo(b *testing.B) {
	for _, clients := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := start(b, pgtest.New(b))
			ids := make([]uuid.UUID, 1000)
			var opening errgroup.Group
			opening.SetLimit(256)
			for i := range ids {
				ids[i] = uuid.New()
				opening.Go(func() error {
					_, err := s.Do(b.Context(), request(ids[i], account.Open{Owner: "Ada", Currency: eur}))
					return err
				})
			}
			if err := opening.Wait(); err != nil {
				b.Fatal(err)
			}
			var next atomic.Int64
			var group errgroup.Group
			amount := dec("1.00")
			b.ReportAllocs()
			b.ResetTimer()
			for range clients {
				group.Go(func() error {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						r := request(ids[n*7919%int64(len(ids))], account.Deposit{Amount: amount, Reference: "benchmark"})
						if _, err := s.Do(b.Context(), keyed(r)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}
