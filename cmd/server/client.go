package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"passbook/internal/httpapi"
)

// client speaks to a running server.
type client struct {
	base string // without a slash at the end
	key  string // empty for none
	http *http.Client
}

// serverFlag lets a command name the server it speaks to.
func serverFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("server", "", "URL of the running server (default: the one at PASSBOOK_ADDR)")
}

// newClient speaks to the server at a URL, or else to the one that the settings make.
func newClient(server string, cfg *config) (*client, error) {
	c := &client{key: cfg.key, http: &http.Client{Timeout: 30 * time.Second}}
	if server == "" {
		reachable, err := reachableAddr(cfg.addr)
		if err != nil {
			return nil, err
		}
		server = "http://" + reachable
		if cfg.tlsCert != "" {
			server = "https://" + reachable
			c.http.Transport = &http.Transport{TLSClientConfig: trustOwn(cfg.tlsCert), ForceAttemptHTTP2: true}
		}
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, usageError{fmt.Errorf("--server: %q is not a URL such as http://127.0.0.1:8080", server)}
	}
	c.base = strings.TrimRight(server, "/")
	return c, nil
}

// reachableAddr is where to connect to for a server that listens on addr, which may stand for every interface.
func reachableAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// refusal is an answer that is not a success.
type refusal struct {
	status   int
	problem  httpapi.Problem
	location string
}

func (r *refusal) Error() string {
	if r.status == http.StatusUnauthorized {
		return r.problem.Detail + " Name it with PASSBOOK_KEY, PASSBOOK_KEY_FILE or --key."
	}
	if r.problem.Detail != "" {
		return r.problem.Detail
	}
	return fmt.Sprintf("the server answered %d %s", r.status, http.StatusText(r.status))
}

// call sends a request without a body and decodes the answer. What it answers is the body as it came; an answer that is
// not a success is a *refusal.
func (c *client) call(ctx context.Context, method, path string, into any) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no answer from a server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		refused := &refusal{status: response.StatusCode, location: response.Header.Get("Location")}
		_ = json.Unmarshal(body, &refused.problem) // what is no problem document has only a status
		return nil, refused
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, fmt.Errorf("%s %s is no Passbook: %w", method, c.base+path, err)
	}
	return body, nil
}
