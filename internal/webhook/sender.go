package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Limits of an attempt.
const (
	// readLimit is how much of a response's body is read and discarded, in bytes.
	readLimit = 16 << 10
	// longestRetryAfter limits the wait that a receiver can ask for.
	longestRetryAfter = time.Hour
	// maxError is the length of an error that is stored, in bytes.
	maxError = 300
)

// sender sends messages to receivers.
type sender struct {
	client *http.Client
	agent  string
}

func newSender(allowPrivate bool, timeout time.Duration, version string) *sender {
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	if !allowPrivate {
		dialer.Control = controlPublic
	}
	return &sender{
		agent: "Passbook/" + version,
		client: &http.Client{
			Timeout: timeout,
			// A redirect could lead anywhere, and would turn the POST into a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:                  nil, // a proxy from the environment would resolve names, and could reach addresses that must not be called
				DialContext:            dialer.DialContext,
				ForceAttemptHTTP2:      true,
				TLSHandshakeTimeout:    timeout,
				DisableCompression:     true,
				MaxIdleConns:           MaxWebhooks,
				MaxIdleConnsPerHost:    2,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
			},
		},
	}
}

// message is an event as it is sent.
type message struct {
	id      uuid.UUID
	body    []byte
	secrets [][]byte
}

// result is the outcome of an attempt.
type result struct {
	// status is the status of the response, 0 if there was none.
	status  int
	latency time.Duration
	// retryAfter is how long the receiver asked to wait; 0 if it did not.
	retryAfter time.Duration
	err        error
}

func (r *result) delivered() bool { return r.err == nil }

// send makes one attempt. It signs with every secret, so that a receiver that knows any of them can verify it.
func (s *sender) send(ctx context.Context, target string, m message, now time.Time) result {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(m.body))
	if err != nil {
		return result{err: errors.New("the URL is not valid")}
	}
	signatures := make([]string, len(m.secrets))
	for i, secret := range m.secrets {
		hook, err := standardwebhooks.NewWebhookRaw(secret)
		if err == nil {
			signatures[i], err = hook.Sign(m.id.String(), now, m.body)
		}
		if err != nil {
			return result{err: fmt.Errorf("sign: %w", err)}
		}
	}
	request.Header = http.Header{
		"Content-Type": {"application/cloudevents+json; charset=utf-8"},
		"User-Agent":   {s.agent},
	}
	request.Header.Set(standardwebhooks.HeaderWebhookID, m.id.String())
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	began := time.Now()
	response, err := s.client.Do(request)
	if err != nil {
		return result{latency: time.Since(began), err: withoutURL(err)}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, readLimit)) // so that the connection can be used again
	_ = response.Body.Close()
	r := result{status: response.StatusCode, latency: time.Since(began)}
	if r.status < 200 || r.status > 299 {
		r.err = fmt.Errorf("the receiver returned %d %s", r.status, http.StatusText(r.status))
		r.retryAfter = retryAfter(response.Header.Get("Retry-After"), now)
	}
	return r
}

// withoutURL removes the URL from an error of http.Client, because it may contain a secret of the receiver's.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, errAddress) {
		return errAddress // without the address, which would tell what a name resolves to
	}
	text := strings.ToValidUTF8(err.Error(), "")
	return errors.New(text[:min(len(text), maxError)])
}

// retryAfter parses a Retry-After header, which is a number of seconds or a time.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), longestRetryAfter)
}
