package httpapi

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxBuckets is how many callers are remembered. One that is forgotten, because as many others came since, begins anew.
const maxBuckets = 50_000

// limitKey is a caller, or an address where there is none.
type limitKey struct {
	caller  string
	address netip.Addr
}

// limits is a token bucket for each caller, which holds a second's worth of requests, or one. Every answer says how its
// caller stands, in the headers of draft-ietf-httpapi-ratelimit-headers-10.
type limits struct {
	rate    rate.Limit
	burst   int
	buckets *lru.Cache[limitKey, *rate.Limiter]
	// policy is a header that is the same in all answers.
	policy []string
}

// newLimits allows so many requests a second, which is more than 0.
func newLimits(perSecond float64) *limits {
	burst := max(1, int(math.Ceil(min(perSecond, math.MaxInt32))))
	buckets, _ := lru.New[limitKey, *rate.Limiter](maxBuckets) // its error is that of a size that is not positive
	window := int(math.Ceil(float64(burst) / perSecond))
	return &limits{
		rate: rate.Limit(perSecond), burst: burst, buckets: buckets,
		policy: []string{fmt.Sprintf(`"caller";q=%d;w=%d`, burst, window)},
	}
}

// take counts a request, and returns a problem if it is one too many.
func (l *limits) take(h http.Header, key limitKey, now time.Time) *problem {
	bucket, ok := l.buckets.Get(key)
	if !ok {
		bucket = rate.NewLimiter(l.rate, l.burst)
		if before, had, _ := l.buckets.PeekOrAdd(key, bucket); had {
			bucket = before
		}
	}
	allowed := bucket.AllowN(now, 1)
	tokens := bucket.TokensAt(now)
	h["Ratelimit-Policy"] = l.policy
	h["Ratelimit"] = []string{fmt.Sprintf(`"caller";r=%d;t=%d`, max(0, int(tokens)), l.seconds(float64(l.burst)-tokens))}
	if allowed {
		return nil
	}
	p := newProblem(kindRateLimited, "This is more than "+strconv.FormatFloat(float64(l.rate), 'f', -1, 64)+
		" requests a second, which is what a caller may send; many commands can go in one POST /commands.")
	p.retryAfter = max(1, l.seconds(1-tokens))
	return p
}

// giveBack takes a request back that was counted a moment ago.
func (l *limits) giveBack(key limitKey) {
	if bucket, ok := l.buckets.Peek(key); ok {
		bucket.AllowN(time.Now(), -1)
	}
}

// seconds is how long it takes for so many tokens to come in, rounded up.
func (l *limits) seconds(tokens float64) int {
	return int(math.Ceil(max(0, tokens) / float64(l.rate)))
}

// addressOf is where a request comes from. Of IPv6 it is the network of 64 bits, all of which one host may have.
func addressOf(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return address
}
