package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// highest is the longest latency that is recorded exactly.
	highest = 10 * time.Minute
	// digits of a latency are kept: it is at most 1 % off.
	digits = 2
)

// Latencies collects durations.
type Latencies struct{ h *hdrhistogram.Histogram }

// NewLatencies returns an empty collection.
func NewLatencies() *Latencies {
	return &Latencies{h: hdrhistogram.New(1, highest.Nanoseconds(), digits)}
}

// Add counts one duration.
func (l *Latencies) Add(d time.Duration) {
	_ = l.h.RecordValue(min(max(d, 0), highest).Nanoseconds()) // fails out of range only
}

func (l *Latencies) merge(other *Latencies) { l.h.Merge(other.h) }

// Quantiles returns the quantiles of the durations so far, 0 if there are none.
func (l *Latencies) Quantiles() Quantiles {
	us := func(percent float64) float64 {
		if l.h.TotalCount() == 0 {
			return 0
		}
		return float64(l.h.ValueAtPercentile(percent)) / 1e3
	}
	return Quantiles{Count: l.h.TotalCount(), P50: us(50), P99: us(99), P999: us(99.9)}
}
