package eventjson

import (
	"errors"
	"fmt"

	"passbook/internal/account"
)

// ErrGap means that a stream lacks an event.
var ErrGap = errors.New("events are missing")

// Stored is an event of an account as the log has it.
type Stored struct {
	Version           int64
	Type              string
	SchemaVersion     int
	Payload, Metadata []byte
}

// Fold returns the state of an account after an event, given the state after version before. If before is 0, the event is the first that
// is read: the account's first, or one that has a snapshot.
func Fold(s account.State, before int64, e Stored) (account.State, error) {
	switch {
	case before == 0 && e.Version > 1:
		return Snapshot(e.Metadata)
	case e.Version != before+1:
		return s, fmt.Errorf("%w: the stream goes from version %d to %d", ErrGap, before, e.Version)
	}
	decoded, err := Decode(e.Type, e.SchemaVersion, e.Payload)
	if err != nil {
		return s, err
	}
	return account.Evolve(s, decoded)
}
