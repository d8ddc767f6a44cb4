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
	// firstPause and longestPause bound the growing pauses between tries.
	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
	// tryLimit bounds one try of a request that is not a stream. The longest wait a query can ask for is 30 s.
	tryLimit = time.Minute
	// maxBody bounds a response, in bytes.
	maxBody = 256 << 20
)

// repeatable says whether a request may be sent again when it is not known what became of it.
type repeatable bool

const (
	once  repeatable = false
	again repeatable = true
)

// reply is a success: a whole body, or a stream that the caller closes.
type reply struct {
	header http.Header
	body   []byte
	stream io.ReadCloser
}

// send sends a request and reads its response, retrying while that may help and time is left. What is not
// a success is a *Problem.
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

// open is send for a response that is read as it comes.
func (c *Client) open(req *http.Request) (*reply, error) {
	return c.persist(req, again, func() (*reply, time.Duration, error) {
		response, err := c.try(req)
		if err != nil {
			return nil, 0, err
		}
		if response.StatusCode >= http.StatusMultipleChoices {
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20)) // what there is of it
			return nil, retryAfter(response), problemOf(response.StatusCode, body)
		}
		return &reply{header: response.Header, stream: response.Body}, 0, nil
	})
}

// try sends a request once, with a body of its own.
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

// persist tries until it succeeds, or a retry cannot help, or the time is up: then it returns the last
// error. A try returns how long the server has asked to wait, 0 when it has not.
func (c *Client) persist(req *http.Request, safe repeatable, try func() (*reply, time.Duration, error)) (*reply, error) {
	deadline := time.Now().Add(c.retryFor)
	for grown := firstPause; ; grown = min(2*grown, longestPause) {
		got, wait, err := try()
		if err == nil {
			return got, nil
		}
		if !worthAgain(err, safe) || req.Context().Err() != nil {
			return nil, err
		}
		// A share of chance keeps clients that failed together from coming back together.
		if wait > 0 {
			wait += rand.N(wait/4 + 1)
		} else {
			wait = somewhatLess(grown)
		}
		if time.Now().Add(wait).After(deadline) {
			return nil, err
		}
		if pause(req.Context(), wait) != nil {
			return nil, err // it says more than that time is up
		}
	}
}

// somewhatLess is a pause of between half of d and all of it.
func somewhatLess(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

// worthAgain tells whether a request that failed may succeed when it is sent again.
func worthAgain(err error, safe repeatable) bool {
	var p *Problem
	if !errors.As(err, &p) {
		return bool(safe) // no response, or half of one
	}
	switch p.Status {
	case http.StatusTooManyRequests:
		return true // nothing was done
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return bool(safe)
	case http.StatusConflict:
		return bool(safe) && p.Code == "idempotency-key-in-flight" // an earlier try of this one
	}
	return false
}

// retryAfter is the time in Retry-After when it is in seconds, which is how a Passbook says it.
func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// ask sends a request that was made, and decodes the response.
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
		return nil, nil, fmt.Errorf("client: %s %s is no Passbook: %w", req.Method, req.URL.Redacted(), err)
	}
	return into, got.header, nil
}
