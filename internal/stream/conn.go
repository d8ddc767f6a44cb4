package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// connectTimeout limits an attempt to connect to one server.
	connectTimeout = 2 * time.Second
	// deniedFor is how long a request that gets no answer may be explained by a permission that NATS has refused before.
	deniedFor = 10 * time.Second
)

// Conn is a connection to NATS that knows why it is down.
type Conn struct {
	*nats.Conn
	urls  string // without credentials
	tried chan struct{}

	mu       sync.Mutex
	cause    error // why the last attempt to connect failed, or the connection was lost; nil if NATS has not said
	denied   error // the last permission that NATS refused
	deniedAt time.Time
}

// Connect returns a connection that connects in the background, and reconnects whenever it is lost or refused, until it is closed. While
// it is not connected, nothing is buffered and requests fail. An error means that the options are wrong.
func Connect(o Options) (*Conn, error) {
	c := &Conn{urls: Redact(o.URL), tried: make(chan struct{})}
	tried := sync.OnceFunc(func() { close(c.tried) })
	options := []nats.Option{
		nats.Name(o.Name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(100*time.Millisecond<<min(attempts, 10), 5*time.Second)
		}),
		// The connections of a node that is stopped or cut off stay open: notice within about 4 s.
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(1), nats.Timeout(connectTimeout),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(err); tried() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refused(err) }),
	}
	if o.Credentials != "" {
		options = append(options, nats.UserCredentials(o.Credentials))
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	conn, err := nats.Connect(o.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("stream: connect to NATS at %s: %w", c.urls, err)
	}
	c.Conn = conn
	if !conn.IsConnected() { // the handler that is told why runs in another goroutine
		select {
		case <-c.tried:
		case <-time.After(connectTimeout):
		}
	}
	return c, nil
}

// failed records why the connection is down. nats.go says that it has no servers when none listens.
func (c *Conn) failed(err error) {
	if errors.Is(err, nats.ErrNoServers) {
		err = syscall.ECONNREFUSED
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause = err
}

// refused records a permission that NATS has refused, which requests only notice as a missing answer.
func (c *Conn) refused(err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.denied, c.deniedAt = err, time.Now()
	}
}

// symptoms are the errors of requests that NATS does not answer, or that cannot be sent.
var symptoms = []error{
	nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrTimeout, nats.ErrNoResponders, context.DeadlineExceeded,
}

// Explain returns the reason for the error of a request to NATS, with the servers and what to do, if the connection is down or a
// permission is missing. It returns any other error as it is.
func (c *Conn) Explain(err error) error {
	symptom := false
	for _, one := range symptoms {
		symptom = symptom || errors.Is(err, one)
	}
	if !symptom {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.IsConnected():
		cause := c.LastError() // of the last attempt, if it got as far as TLS and authentication
		if cause == nil {
			cause = c.cause
		}
		if cause == nil {
			cause = err
		}
		return fmt.Errorf("NATS at %s is unavailable: %w; %s", c.urls, cause, advice(cause))
	case c.denied != nil && time.Since(c.deniedAt) < deniedFor:
		return fmt.Errorf("%w: NATS at %s: %w; give the user the permissions in docs/streams.md", err, c.urls, c.denied)
	}
	return err
}

// advice returns what to do about a connection that failed for a reason.
func advice(cause error) string {
	_, unknownServer := errors.AsType[*tls.CertificateVerificationError](cause)
	remote, _ := errors.AsType[*net.OpError](cause)
	_, file := errors.AsType[*os.PathError](cause)
	switch {
	case unknownServer:
		return "check PASSBOOK_NATS_CA, which has to have signed the certificates of the servers, and the names in the URL"
	case errors.Is(cause, nats.ErrTLS), remote != nil && remote.Op == "remote error": // a TLS alert, or just the end of the connection
		return "check PASSBOOK_NATS_CERT and PASSBOOK_NATS_KEY, the certificate that the servers ask for"
	case errors.Is(cause, nats.ErrSecureConnWanted):
		return "the URL begins with tls://, and the servers do not use TLS"
	case errors.Is(cause, nats.ErrAuthorization), errors.Is(cause, nats.ErrAuthExpired), errors.Is(cause, nats.ErrAuthRevoked), errors.Is(cause, nats.ErrAccountAuthExpired), file:
		return "check the user and the password in the URL, or PASSBOOK_NATS_CREDS"
	}
	return "check the URL, and that the servers run"
}

// Redact returns the URLs of NATS without users, passwords and tokens, for logs.
func Redact(urls string) string {
	all := strings.Split(urls, ",")
	for i, one := range all {
		if u, err := url.Parse(one); err == nil {
			u.User = nil
			all[i] = u.String()
		} else {
			all[i] = "(unreadable)"
		}
	}
	return strings.Join(all, ",")
}
