package webhook

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// State is the state of a subscription.
type State string

// The states of a subscription. Only an active one is delivered; the others wait to be resumed.
const (
	Active State = "active"
	// Paused means that an operator has paused it.
	Paused State = "paused"
	// Parked means that the receiver has failed for too long, or that the log no longer holds the event at the cursor.
	Parked State = "parked"
	// Disabled means that the receiver returned 410 Gone.
	Disabled State = "disabled"
)

// Limits of subscriptions.
const (
	// MaxWebhooks is how many there may be.
	MaxWebhooks = 100
	// MaxURL is the length of a URL, in bytes.
	MaxURL = 2048
)

// Overlap is the default time for which the previous secret signs too after a rotation; MaxOverlap is the longest.
const (
	Overlap    = 24 * time.Hour
	MaxOverlap = 7 * 24 * time.Hour
)

var (
	// ErrNotFound means that there is no subscription with the id.
	ErrNotFound = errors.New("there is no such webhook")
	// ErrTooMany means that there are already MaxWebhooks.
	ErrTooMany = errors.New("there are too many webhooks")
	// ErrBeyondLog means that a subscription was to begin after a position that the log does not reach.
	ErrBeyondLog = errors.New("the log does not reach the position")
)

// Filter selects the events of a subscription. An empty list selects all.
type Filter struct {
	Types    []string
	Accounts []uuid.UUID
}

// Webhook is a subscription, without its secrets. A time is zero if it does not apply.
type Webhook struct {
	ID  uuid.UUID
	URL string
	Filter
	State State
	// Position is the cursor: every event up to it was delivered or is not selected by the filter. Lag is how many events the log
	// has after it.
	Position, Lag int64
	// Attempts counts the failed attempts at the next event, the first of which was at FailingSince.
	Attempts                    int
	FailingSince, NextAttemptAt time.Time
	LastError                   string
	LastDeliveredAt             time.Time
	// PreviousSecretUntil is the end of the overlap of the last rotation: until then the previous secret signs too.
	PreviousSecretUntil  time.Time
	CreatedAt, UpdatedAt time.Time
}

// New is a subscription to create.
type New struct {
	URL string
	Filter
	// After is the position to begin after; nil means the end of the log.
	After *int64
}

// Change is a change of a subscription; a nil field is not changed. Setting State to Active clears the error.
type Change struct {
	URL      *string
	Types    *[]string
	Accounts *[]uuid.UUID
	State    *State
	// After moves the cursor.
	After *int64
}

// Delivery is one attempt to deliver an event.
type Delivery struct {
	// Number counts the attempts of the subscription, from 1.
	Number   int64
	Position int64
	EventID  uuid.UUID
	Type     string
	// Attempt counts the attempts at this event, from 1.
	Attempt   int
	Delivered bool
	// Status is the status of the response, 0 if there was none.
	Status  int
	Latency time.Duration
	Error   string
	At      time.Time
}
