package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// firstPause and longestPause bound the growing pauses between attempts.
	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
	// tryLimit bounds one attempt of a request that is not a stream. A query can wait for 30 s at most.
	tryLimit = time.Minute
	// maxBody bounds a response, in bytes.
	maxBody = 256 << 20
)

// repeatable says whether a request may be sent again when its outcome is unknown.
type repeatable bool

const (
	once  repeatable = false
	again repeatable = true
)

// reply is a successful response: a whole body, or a stream that the caller closes.
type reply struct {
	header http.Header
	body   []byte
	stream io.ReadCloser
}

// send sends a request and reads its response, retrying while that may help and time is left. It fails with a *Problem if
// the response is not a success.
func (c *Client) send(req *http.Request, safe repeatable) (*reply, error) {
	return c.persist(req, safe, func() (*reply, time.Duration, error) {
		ctx, cancel := context.WithTimeout(req.Context(), tryLimit)
		defer cancel()
		response, err := c.try(req.WithContext(ctx))
		if err != nil {
			return nil, 0, err
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("client: %s %s: %w", req.Method, req.URL.Path, err)
		case len(body) > maxBody:
			return nil, 0, &Problem{Status: response.StatusCode, Title: "The response is too long"}
		case response.StatusCode >= http.StatusMultipleChoices:
			return nil, retryAfter(response), problemOf(response.StatusCode, body)
		}
		return &reply{header: response.Header, body: body}, 0, nil
	})
}

// open is send for a streamed response.
func (c *Client) open(req *http.Request) (*reply, error) {
	return c.persist(req, again, func() (*reply, time.Duration, error) {
		response, err := c.try(req)
		if err != nil {
			return nil, 0, err
		}
		if response.StatusCode >= http.StatusMultipleChoices {
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20)) // as far as it arrived
			return nil, retryAfter(response), problemOf(response.StatusCode, body)
		}
		return &reply{header: response.Header, stream: response.Body}, 0, nil
	})
}

// try sends a request once, with a new reader of its body.
func (c *Client) try(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		req.Body = body
	}
	if c.apiKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.apiKey)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return response, nil
}

// persist calls try until it succeeds, or a retry cannot help, or the time is up; then it returns the last error. try
// returns how long the server asked to wait, 0 if it did not.
func (c *Client) persist(req *http.Request, safe repeatable, try func() (*reply, time.Duration, error)) (*reply, error) {
	deadline := time.Now().Add(c.retryFor)
	for grown := firstPause; ; grown = min(2*grown, longestPause) {
		got, wait, err := try()
		if err == nil {
			return got, nil
		}
		if !retryable(err, safe) || req.Context().Err() != nil {
			return nil, err
		}
		// Jitter keeps clients that failed together from retrying together.
		if wait > 0 {
			wait += rand.N(wait/4 + 1)
		} else {
			wait = jittered(grown)
		}
		if time.Now().Add(wait).After(deadline) {
			return nil, err
		}
		if pause(req.Context(), wait) != nil {
			return nil, err // more useful than the end of the context
		}
	}
}

// jittered returns a random pause between half of d and d.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

// retryable reports whether a failed request may succeed if it is sent again.
func retryable(err error, safe repeatable) bool {
	var p *Problem
	if !errors.As(err, &p) {
		return bool(safe) // no response, or part of one
	}
	switch p.Status {
	case http.StatusTooManyRequests:
		return true // nothing was done
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return bool(safe)
	case http.StatusConflict:
		return bool(safe) && p.Code == "idempotency-key-in-flight" // an earlier attempt of this request
	}
	return false
}

// retryAfter returns the time in Retry-After if it is in seconds, as Passbook sends it.
func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// ask sends a request and decodes the response.
func ask[T any](c *Client, safe repeatable, req *http.Request, err error) (*T, http.Header, error) {
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	got, err := c.send(req, safe)
	if err != nil {
		return nil, nil, err
	}
	into := new(T)
	if err := json.NewDecoder(bytes.NewReader(got.body)).Decode(into); err != nil {
		return nil, nil, fmt.Errorf("client: %s %s is not a Passbook server: %w", req.Method, req.URL.Redacted(), err)
	}
	return into, got.header, nil
}
