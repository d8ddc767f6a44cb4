package httpapi

import (
	"net/http"
	"sync"
)

// shares limits how many long requests of one kind are open: in all, and per caller, so that no caller can shut out the others.
type shares struct {
	all, each int
	// kind names the requests: "streams of events".
	kind string
	// retryAfter is in seconds.
	retryAfter int

	mu   sync.Mutex
	open int
	of   map[limitKey]int
}

// shareOf returns the default limit per caller.
func shareOf(all int) int { return max(1, all/4) }

func newShares(kind string, all, each, retryAfter int) *shares {
	return &shares{kind: kind, all: all, each: each, retryAfter: retryAfter, of: make(map[limitKey]int)}
}

// take counts a request until release is called, or returns a problem if there are too many.
func (s *shares) take(r *http.Request) (release func(), refused error) {
	key := callerOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *problem
	switch {
	case s.open >= s.all:
		p = newProblem(kindTooManyStreams, "The service has as many "+s.kind+" open as it may; retry shortly.")
	case s.of[key] >= s.each:
		p = newProblem(kindShareUsed, "The caller has as many "+s.kind+" open as one caller may; retry when one of them has ended.")
	default:
		s.open++
		s.of[key]++
		return func() { s.release(key) }, nil
	}
	p.retryAfter = s.retryAfter
	return nil, p
}

func (s *shares) release(key limitKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.of[key]--; s.of[key] == 0 {
		delete(s.of, key)
	}
}

// callerOf returns the caller of a request, or its address without authentication.
func callerOf(r *http.Request) limitKey {
	if caller := exchangeOf(r.Context()).caller; caller != nil {
		return limitKey{caller: caller.ID}
	}
	return limitKey{address: addressOf(r)}
}
