package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// probe measures, again and again, how long it takes until a follower shows what the primary has just acknowledged.
type probe struct {
	load     *load
	follower *process

	mu      sync.Mutex
	samples []sample
}

type sample struct {
	at  time.Time // of the acknowledgement
	lag time.Duration
}

// run samples until ctx ends.
func (p *probe) run(ctx context.Context) {
	for ctx.Err() == nil {
		position := p.load.highest()
		at := time.Now()
		if p.visible(ctx, position) {
			p.mu.Lock()
			p.samples = append(p.samples, sample{at, time.Since(at)})
			p.mu.Unlock()
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// visible waits until the follower's totals include a position.
func (p *probe) visible(ctx context.Context, position int64) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.follower.url+"/totals?min_position="+strconv.FormatInt(position, 10), nil)
	if err != nil {
		return false
	}
	req.Header.Set("Prefer", "wait=30")
	client := http.Client{Transport: p.follower.client.Transport, Timeout: 31 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// since returns the quantiles of the samples since a time.
func (p *probe) since(from time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []time.Duration
	for _, s := range p.samples {
		if s.at.After(from) {
			all = append(all, s.lag)
		}
	}
	return quantiles(all)
}

// quantiles returns the median, the 99th percentile and the maximum as text.
func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return "–"
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, most %.1f ms", ms(all[len(all)/2]), ms(all[len(all)*99/100]), ms(all[len(all)-1]))
}
