package load

import (
	"math/bits"
	"time"
)

// subBuckets is how many buckets there are between a power of two and the next: each is less than 0.8 % wide.
const subBuckets = 128

// histogram counts durations in buckets whose width grows with the value. The zero value is empty.
type histogram struct {
	count   int64
	buckets [(64 - 6) * subBuckets]uint32
}

func (h *histogram) add(d time.Duration) {
	h.count++
	h.buckets[bucketOf(uint64(max(d, 0)))]++
}

func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(ns) - 8 // ns>>shift is in [subBuckets, 2*subBuckets)
	return shift*subBuckets + int(ns>>shift)
}

// bucketTop is the highest value in nanoseconds that falls into bucket i.
func bucketTop(i int) float64 {
	if i < 2*subBuckets {
		return float64(i)
	}
	shift := i/subBuckets - 1
	return float64(uint64(i-shift*subBuckets+1)<<shift - 1)
}

func (h *histogram) merge(other *histogram) {
	h.count += other.count
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
}

// quantile returns the smallest bucket's top that at least the share q of all values does not pass, in microseconds.
func (h *histogram) quantile(q float64) float64 {
	rank := int64(q * float64(h.count))
	var seen int64
	for i, n := range h.buckets {
		if seen += int64(n); n > 0 && seen > min(rank, h.count-1) {
			return bucketTop(i) / 1e3
		}
	}
	return 0
}

func (h *histogram) quantiles() Quantiles {
	return Quantiles{Count: h.count, P50: h.quantile(0.5), P99: h.quantile(0.99), P999: h.quantile(0.999)}
}

// Latencies collects durations for a caller that makes its own requests.
type Latencies struct{ h histogram }

// Add counts one duration.
func (l *Latencies) Add(d time.Duration) { l.h.add(d) }

// Quantiles are those of the durations so far.
func (l *Latencies) Quantiles() Quantiles { return l.h.quantiles() }
