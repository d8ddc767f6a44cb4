package webhook

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// State is what a subscription does.
type State string

// The states of a subscription. Every one but Active waits to be resumed.
const (
	Active State = "active"
	// Paused by an operator.
	Paused State = "paused"
	// Parked because the receiver has failed for too long, or because the log no longer holds the event at the cursor.
	Parked State = "parked"
	// Disabled because the receiver returned 410 Gone.
	Disabled State = "disabled"
)

// Bounds of subscriptions.
const (
	// MaxWebhooks is how many there may be.
	MaxWebhooks = 100
	// MaxURL is the length of a URL, in bytes.
	MaxURL = 2048
)

// Overlap is how long the previous secret signs too after a rotation, unless told otherwise; MaxOverlap is the longest.
const (
	Overlap    = 24 * time.Hour
	MaxOverlap = 7 * 24 * time.Hour
)

var (
	// ErrNotFound means that there is no subscription with the id.
	ErrNotFound = errors.New("there is no such webhook")
	// ErrTooMany means that there are MaxWebhooks already.
	ErrTooMany = errors.New("there are too many webhooks")
	// ErrBeyondLog means that a subscription was to begin after a position that the log does not reach.
	ErrBeyondLog = errors.New("the log does not reach the position")
)

// Filter selects the events of a subscription. An empty list takes all.
type Filter struct {
	Types    []string
	Accounts []uuid.UUID
}

// Webhook is a subscription, without its secrets. Times that are zero are of what has not happened.
type Webhook struct {
	ID  uuid.UUID
	URL string
	Filter
	State State
	// Position is the cursor: every event up to it was delivered, or is not one to send. Lag is how many events the log has
	// after it.
	Position, Lag int64
	// Attempts is how often the next event was tried, which has failed since FailingSince.
	Attempts                    int
	FailingSince, NextAttemptAt time.Time
	LastError                   string
	LastDeliveredAt             time.Time
	// PreviousSecretUntil is until when the secret before the last rotation signs too.
	PreviousSecretUntil  time.Time
	CreatedAt, UpdatedAt time.Time
}

// New is a subscription to be made.
type New struct {
	URL string
	Filter
	// After is the position to begin after; the end of the log if it is nil.
	After *int64
}

// Change is what to change of a subscription; what is nil stays. A change of State to Active clears the error.
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
	// Status is that of the response; 0 without one.
	Status  int
	Latency time.Duration
	Error   string
	At      time.Time
}
