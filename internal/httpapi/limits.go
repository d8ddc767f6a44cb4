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

// maxBuckets is how many callers are remembered. A caller that is evicted begins with a full bucket.
const maxBuckets = 50_000

// limitKey is a caller, or an address if there is no caller.
type limitKey struct {
	caller  string
	address netip.Addr
}

// limits has a token bucket for each caller, which holds the requests of one second, and at least one. Every response reports the
// state of its bucket in the headers of draft-ietf-httpapi-ratelimit-headers-10.
type limits struct {
	rate    rate.Limit
	burst   int
	buckets *lru.Cache[limitKey, *rate.Limiter]
	// policy is a header that is the same in all responses.
	policy []string
}

// newLimits allows perSecond requests a second, which must be positive.
func newLimits(perSecond float64) *limits {
	burst := max(1, int(math.Ceil(min(perSecond, math.MaxInt32))))
	buckets, _ := lru.New[limitKey, *rate.Limiter](maxBuckets) // fails only for a size that is not positive
	window := int(math.Ceil(float64(burst) / perSecond))
	return &limits{
		rate: rate.Limit(perSecond), burst: burst, buckets: buckets,
		policy: []string{fmt.Sprintf(`"caller";q=%d;w=%d`, burst, window)},
	}
}

// take counts a request, and returns a problem if it exceeds the limit.
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
	p := newProblem(kindRateLimited, "The limit is "+strconv.FormatFloat(float64(l.rate), 'f', -1, 64)+
		" requests a second for each caller; one POST /commands can carry many commands.")
	p.retryAfter = max(1, l.seconds(1-tokens))
	return p
}

// giveBack returns the token of a request that was counted a moment ago.
func (l *limits) giveBack(key limitKey) {
	if bucket, ok := l.buckets.Peek(key); ok {
		bucket.AllowN(time.Now(), -1)
	}
}

// seconds returns how long the bucket takes to gain so many tokens, rounded up.
func (l *limits) seconds(tokens float64) int {
	return int(math.Ceil(max(0, tokens) / float64(l.rate)))
}

// addressOf returns where a request comes from: an IPv4 address, or the /64 network of an IPv6 address, all of which may belong
// to one host.
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
