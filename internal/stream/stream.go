// Package stream defines how the log is represented in a JetStream stream: it connects to NATS, makes the message of an event, and
// reads the event back from the message. Package relay publishes the messages, and package follow reads them.
package stream

import (
	"errors"

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

// IsMissing reports whether an error says that the stream, or the message, does not exist.
func IsMissing(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound)
}
