package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Error returns the problem in one line. Programs should check Code.
func (p *Problem) Error() string {
	said := p.Detail
	if said == "" {
		said = p.Title
	}
	if p.Code == "" {
		return fmt.Sprintf("passbook: %d: %s", p.Status, said)
	}
	return fmt.Sprintf("passbook: %d %s: %s", p.Status, p.Code, said)
}

// problemOf returns the problem in a response that is not a success. If the response is not a problem document, for example
// from a proxy, it has only a status and a title.
func problemOf(status int, body []byte) *Problem {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		p = Problem{Title: http.StatusText(status)}
	}
	p.Status = status
	return &p
}

// Number is an integer that is sent as a string, like positions and versions in events.
type Number int64

// MarshalText implements encoding.TextMarshaler.
func (n Number) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Number) UnmarshalText(text []byte) error {
	parsed, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	*n = Number(parsed)
	return nil
}
