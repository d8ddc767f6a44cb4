package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/httpapi/feed"
)

// secretPrefix and the length of a secret, in bytes, are those of Standard Webhooks.
const (
	secretPrefix = "whsec_"
	secretLength = 32
)

// Feed opens streams of the log's events. Streams makes one of a *feed.Feed.
type Feed interface {
	// Open begins a stream of all events after a position.
	Open(ctx context.Context, after int64) (Stream, error)
}

// Stream is one reader of the log. *feed.Stream implements it.
type Stream interface {
	Next(ctx context.Context, wait time.Duration) ([]feed.Item, error)
	Close()
}

// Streams makes a Feed of the *feed.Feed that GET /events reads, so that a webhook sends the same CloudEvents.
func Streams(f *feed.Feed) Feed { return streams{f} }

type streams struct{ feed *feed.Feed }

func (s streams) Open(ctx context.Context, after int64) (Stream, error) {
	return s.feed.Open(ctx, after, feed.Filter{})
}

// Log is the part of a feed.Log that a Service reads.
type Log interface {
	Look(ctx context.Context, seen feed.Point) (head feed.Point, held bool, err error)
	Read(ctx context.Context, after, upTo int64, f feed.Filter, limit int) ([]feed.Event, error)
}

// Config configures a Service. Pool, Feed, Log, Instance and Logger are required.
type Config struct {
	Pool *pgxpool.Pool
	Feed Feed
	// Log is that of the primary database.
	Log    Log
	Logger *slog.Logger
	// Instance is the name of this instance. It is stored with the leases, to show who delivers.
	Instance string
	// Version is the server's version, which is sent to receivers in User-Agent.
	Version string
	// AllowPrivate allows http URLs, and addresses that are not public.
	AllowPrivate bool
	// Ready reports whether the database's schema is in place; nil means that it always is.
	Ready func() bool
	// Observe is called after each attempt; it may be nil.
	Observe func(delivered bool)

	// For the following fields, 0 means the default.

	// Lease is how long an instance that died keeps its subscriptions.
	Lease time.Duration
	// Timeout limits an attempt.
	Timeout time.Duration
	// FirstRetry and LongestRetry are the first and the longest pause after a failed attempt. The pauses double in between.
	FirstRetry, LongestRetry time.Duration
	// ParkAfter is how long a receiver may fail until its subscription is parked, by the database's clock.
	ParkAfter time.Duration
	// KeepDeliveries is how many attempts of a subscription are kept in its log.
	KeepDeliveries int64
}

// Service manages and delivers subscriptions. Its methods may be called from several goroutines.
type Service struct {
	cfg    Config
	store  store
	sender *sender
	wake   chan struct{} // holds one: a reason to look at the subscriptions now
}

// NewService makes a Service. Nothing is delivered until Run.
func NewService(c Config) (*Service, error) {
	if c.Pool == nil || c.Feed == nil || c.Log == nil || c.Logger == nil || c.Instance == "" {
		return nil, errors.New("webhook: a pool, a feed, a log, a logger and an instance name are needed")
	}
	setDefault(&c.Lease, 6*time.Second)
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.FirstRetry, time.Second)
	setDefault(&c.LongestRetry, 15*time.Minute)
	setDefault(&c.ParkAfter, 24*time.Hour)
	setDefault(&c.KeepDeliveries, 1000)
	if c.Observe == nil {
		c.Observe = func(bool) {}
	}
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	return &Service{
		cfg: c, store: store{c.Pool}, sender: newSender(c.AllowPrivate, c.Timeout, c.Version), wake: make(chan struct{}, 1),
	}, nil
}

func setDefault[T comparable](value *T, to T) {
	var none T
	if *value == none {
		*value = to
	}
}

// CheckURL returns an error if a webhook may not have a URL. The error's text follows the name of the field: "must begin with https://".
func (s *Service) CheckURL(text string) error { return checkURL(text, s.cfg.AllowPrivate) }

// CreateWebhook makes a subscription whose URL has been checked, and returns the secret that its messages are signed with. It fails
// with ErrTooMany, ErrBeyondLog or *feed.ArchivedError.
func (s *Service) CreateWebhook(ctx context.Context, n New) (w Webhook, secret string, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return w, "", fmt.Errorf("webhook: %w", err)
	}
	at, err := s.point(ctx, n.After)
	if err != nil {
		return w, "", err
	}
	key := newSecret()
	w, err = s.changed(ctx, func() (Webhook, error) { return s.store.insert(ctx, id, n, at, key, MaxWebhooks) })
	return w, secretText(key), err
}

// point returns the event at a position, or the last one of the log.
func (s *Service) point(ctx context.Context, after *int64) (feed.Point, error) {
	if after == nil {
		head, _, err := s.cfg.Log.Look(ctx, feed.Point{})
		return head, err
	}
	_, held, err := s.cfg.Log.Look(ctx, feed.Point{Position: *after})
	if err == nil && !held {
		err = ErrBeyondLog
	}
	if err == nil {
		_, err = s.cfg.Log.Read(ctx, *after, *after+1, feed.Filter{}, 1) // fails if the event is in the archive
	}
	return feed.Point{Position: *after}, err
}

func newSecret() []byte {
	secret := make([]byte, secretLength)
	_, _ = rand.Read(secret) // it never fails
	return secret
}

func secretText(secret []byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// Webhooks returns all subscriptions, in the order they were made.
func (s *Service) Webhooks(ctx context.Context) ([]Webhook, error) {
	all, err := s.store.list(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	head, _, err := s.cfg.Log.Look(ctx, feed.Point{})
	for i := range all {
		all[i].Lag = max(head.Position-all[i].Position, 0)
	}
	return all, err
}

// Webhook returns a subscription. It fails with ErrNotFound.
func (s *Service) Webhook(ctx context.Context, id uuid.UUID) (Webhook, error) {
	return s.withLag(ctx, func() (Webhook, error) { return s.store.one(ctx, getSQL, id) })
}

// changed returns what a change returns, with its lag, and has the workers look.
func (s *Service) changed(ctx context.Context, change func() (Webhook, error)) (Webhook, error) {
	w, err := s.withLag(ctx, change)
	s.look()
	return w, err
}

// withLag reads the end of the log before the webhook is read or changed, because after a change it must not fail: the secret
// would be lost.
func (s *Service) withLag(ctx context.Context, read func() (Webhook, error)) (Webhook, error) {
	head, _, err := s.cfg.Log.Look(ctx, feed.Point{})
	if err != nil {
		return Webhook{}, err
	}
	w, err := read()
	w.Lag = max(head.Position-w.Position, 0)
	return w, err
}

// ChangeWebhook changes a subscription: its URL, which has been checked, its filter, its state or its cursor. Once it returns, at most
// the event that is next is still sent as before the change. It fails with ErrNotFound,
// ErrBeyondLog or *feed.ArchivedError.
func (s *Service) ChangeWebhook(ctx context.Context, id uuid.UUID, c Change) (w Webhook, err error) {
	var at feed.Point
	if c.After != nil {
		if at, err = s.point(ctx, c.After); err != nil {
			return w, err
		}
	}
	return s.changed(ctx, func() (Webhook, error) { return s.store.change(ctx, id, c, at) })
}

// RotateSecret gives a subscription a new secret and returns it. For the overlap, messages are signed with the previous one too. It fails
// with ErrNotFound.
func (s *Service) RotateSecret(ctx context.Context, id uuid.UUID, overlap time.Duration) (w Webhook, secret string, err error) {
	key := newSecret()
	w, err = s.changed(ctx, func() (Webhook, error) { return s.store.one(ctx, rotateSQL, id, key, overlap) })
	return w, secretText(key), err
}

// DeleteWebhook ends a subscription. It fails with ErrNotFound.
func (s *Service) DeleteWebhook(ctx context.Context, id uuid.UUID) error {
	err := s.store.delete(ctx, id)
	s.look()
	return err
}

// Deliveries returns at most limit of the latest attempts of a subscription, latest first. If before is not 0, it returns only those
// with lower numbers. It fails with ErrNotFound.
func (s *Service) Deliveries(ctx context.Context, id uuid.UUID, before int64, limit int) ([]Delivery, error) {
	all, err := s.store.deliveries(ctx, id, before, limit)
	if err == nil && len(all) == 0 {
		_, err = s.store.one(ctx, getSQL, id)
	}
	return all, err
}

// look makes the dispatcher look at the subscriptions. It never blocks.
func (s *Service) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
