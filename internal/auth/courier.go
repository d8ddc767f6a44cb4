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

// The library asks the issuer for its keys whenever a signature does not verify, so that a flood of bad tokens would be a
// flood at the issuer. It may ask often at first, which lets a new key work at once, and then every few seconds.
const (
	fetchesAtOnce = 20
	fetchEvery    = 2 * time.Second
)

// errEnoughAsked says that the issuer was asked a moment ago; what is known of its keys then counts.
var errEnoughAsked = errors.New("the issuer was asked a moment ago")

// fetchError says that the issuer could not be asked, or did not answer 200.
type fetchError struct{ err error }

func (e *fetchError) Error() string { return e.err.Error() }

func (e *fetchError) Unwrap() error { return e.err }

// courier carries requests to the issuer: not too many, and with errors that can be told from those of a token.
type courier struct {
	base    http.RoundTripper
	fetches *rate.Limiter
}

func newCourier(base http.RoundTripper) *courier {
	if base == nil {
		base = http.DefaultTransport
		if usual, ok := base.(*http.Transport); ok {
			base = usual.Clone() // so that its connections can be closed
		}
	}
	return &courier{base: base, fetches: rate.NewLimiter(rate.Every(fetchEvery), fetchesAtOnce)}
}

// RoundTrip implements http.RoundTripper.
func (c *courier) RoundTrip(r *http.Request) (*http.Response, error) {
	if !c.fetches.Allow() {
		return nil, errEnoughAsked
	}
	response, err := c.base.RoundTrip(r)
	if err != nil {
		return nil, &fetchError{err}
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, &fetchError{fmt.Errorf("%s answered %s", r.URL.Redacted(), response.Status)}
	}
	return response, nil
}

// CloseIdleConnections is what http.Client calls.
func (c *courier) CloseIdleConnections() {
	if closer, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// awayKey is of a *error in the context of a verification: the library does not wrap the errors of fetching keys.
type awayKey struct{}

// keySet is the library's, but tells when the keys could not be fetched.
type keySet struct{ remote *oidc.RemoteKeySet }

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, token)
	var fetch *fetchError
	if errors.As(err, &fetch) || errors.Is(err, context.DeadlineExceeded) {
		if away, ok := ctx.Value(awayKey{}).(*error); ok {
			*away = err
		}
	}
	return payload, err
}

// words reads a claim that is a string of words or a list of them.
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
