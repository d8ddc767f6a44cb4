// Package stream defines how the log is represented in a JetStream stream: it connects to NATS, makes the message of an event, and
// reads the event back from the message. Package relay publishes the messages, and package follow reads them.
package stream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SubjectPrefix and an event's type are the subject of its message.
const SubjectPrefix = "passbook.events."

// Options say how to connect to NATS.
type Options struct {
	// URL is one URL or several, separated by commas: nats://, tls:// or ws://, with or without a user and a password.
	URL string
	// Credentials is a file with a user's JWT and seed; CA, Cert and Key are PEM files for TLS. All may be empty.
	Credentials, CA, Cert, Key string
	// Name is the name of the connection, which NATS shows.
	Name string
}

// Connect returns a connection that connects in the background, and reconnects whenever it is lost, until it is closed. While it is
// not connected, nothing is buffered and requests fail. An error means that the options are wrong.
func Connect(o Options) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name(o.Name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(100*time.Millisecond<<min(attempts, 10), 5*time.Second)
		}),
		// The connections of a node that is stopped or cut off stay open: notice within about 4 s.
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(1), nats.Timeout(2 * time.Second),
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
		return nil, fmt.Errorf("stream: connect to NATS at %s: %w", Redact(o.URL), err)
	}
	return conn, nil
}

// Redact returns the URLs of NATS without their passwords, for logs.
func Redact(urls string) string {
	all := strings.Split(urls, ",")
	for i, one := range all {
		if u, err := url.Parse(one); err == nil {
			all[i] = u.Redacted()
		} else {
			all[i] = "(unreadable)"
		}
	}
	return strings.Join(all, ",")
}

// IsMissing reports whether an error says that the stream, or the message, does not exist.
func IsMissing(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound)
}
