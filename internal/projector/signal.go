package projector

import (
	"context"
	"sync"
	"time"
)

// signal wakes one goroutine. Setting it twice before that wakes it once.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wait returns when the signal is set, which clears it, when d is over, or when ctx ends.
func (s signal) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// sleep waits, or returns when ctx ends.
func sleep(ctx context.Context, d time.Duration) { signal(nil).wait(ctx, d) }

// meterWindow is how many seconds a meter looks back.
const meterWindow = 10

// meter counts events by the second.
type meter struct {
	mu    sync.Mutex
	slots [meterWindow]struct{ second, events int64 }
}

func (m *meter) add(events int64) {
	second := time.Now().Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := &m.slots[second%meterWindow]
	if slot.second != second {
		slot.second, slot.events = second, 0
	}
	slot.events += events
}

// perSecond returns the mean of the last ten seconds, including the current one.
func (m *meter) perSecond() float64 {
	oldest := time.Now().Unix() - meterWindow
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum int64
	for _, slot := range m.slots {
		if slot.second > oldest {
			sum += slot.events
		}
	}
	return float64(sum) / meterWindow
}
