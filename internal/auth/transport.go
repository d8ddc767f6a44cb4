package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

// go-oidc fetches the issuer's keys whenever a signature does not verify, so a flood of bad tokens would flood the issuer.
// The first fetches are not limited, so that a new key works immediately; later ones are limited to one every few seconds.
const (
	fetchesAtOnce = 20
	fetchEvery    = 2 * time.Second
)

// errFetchLimit means that the rate limit prevented a fetch; known keys are still used.
var errFetchLimit = errors.New("too many requests to the issuer")

// fetchError is a request to the issuer that failed or got a status other than 200.
type fetchError struct{ err error }

func (e *fetchError) Error() string { return e.err.Error() }

func (e *fetchError) Unwrap() error { return e.err }

// transport sends requests to the issuer. It limits their rate, and wraps their errors in fetchError to distinguish them
// from a token's errors.
type transport struct {
	base    http.RoundTripper
	fetches *rate.Limiter
}

func newTransport(base http.RoundTripper) *transport {
	if base == nil {
		base = http.DefaultTransport
		if shared, ok := base.(*http.Transport); ok {
			base = shared.Clone() // so that its connections can be closed
		}
	}
	return &transport{base: base, fetches: rate.NewLimiter(rate.Every(fetchEvery), fetchesAtOnce)}
}

// RoundTrip implements http.RoundTripper.
func (c *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !c.fetches.Allow() {
		return nil, errFetchLimit
	}
	response, err := c.base.RoundTrip(r)
	if err != nil {
		return nil, &fetchError{err}
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, &fetchError{fmt.Errorf("%s returned %s", r.URL.Redacted(), response.Status)}
	}
	return response, nil
}

// CloseIdleConnections closes the base's idle connections; http.Client calls it.
func (c *transport) CloseIdleConnections() {
	if closer, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// fetchFailedKey is the context key of a *error in which VerifySignature stores why the keys could not be fetched: go-oidc
// does not wrap that error.
type fetchFailedKey struct{}

// keySet is go-oidc's, which also reports that the keys could not be fetched.
type keySet struct{ remote *oidc.RemoteKeySet }

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, token)
	var fetch *fetchError
	if errors.As(err, &fetch) || errors.Is(err, context.DeadlineExceeded) {
		if failed, ok := ctx.Value(fetchFailedKey{}).(*error); ok {
			*failed = err
		}
	}
	return payload, err
}

// words is a claim that is a list of words, or a string of them separated by spaces.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(text []byte) error {
	var line string
	if json.Unmarshal(text, &line) == nil {
		*w = strings.Fields(line)
		return nil
	}
	return json.Unmarshal(text, (*[]string)(w))
}
