package httpapi

import (
	"net/http"
	"sync"
)

// shares bounds the long requests of a kind: all of them together, and those of each caller, so that no caller can shut the others
// out.
type shares struct {
	all, each int
	// kind names them: "streams of events".
	kind string
	// retryAfter is in seconds.
	retryAfter int

	mu   sync.Mutex
	open int
	of   map[limitKey]int
}

// shareOf is how many of all one caller may have, unless set.
func shareOf(all int) int { return max(1, all/4) }

func newShares(kind string, all, each, retryAfter int) *shares {
	return &shares{kind: kind, all: all, each: each, retryAfter: retryAfter, of: make(map[limitKey]int)}
}

// take counts a request until release is called, or returns a problem.
func (s *shares) take(r *http.Request) (release func(), refused error) {
	key := callerOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *problem
	switch {
	case s.open >= s.all:
		p = newProblem(kindTooManyStreams, "The limit of "+s.kind+" that are open at once is reached; retry shortly.")
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

// callerOf returns who sent a request: the caller, or the address without authentication.
func callerOf(r *http.Request) limitKey {
	if caller := exchangeOf(r.Context()).caller; caller != nil {
		return limitKey{caller: caller.ID}
	}
	return limitKey{address: addressOf(r)}
}
