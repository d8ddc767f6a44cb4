package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/httpapi/feed"
	"passbook/internal/postgres"
)

// newFeed returns a feed of the log for at most so many streams.
func (a *app) newFeed(cfg config.Config, pools map[string]*pgxpool.Pool, maxStreams int) *feed.Feed {
	return feed.New(feed.Config{
		Log: feedLog{a.subjects.log(pools["feed"]), a.subjects.log(primaryOf(pools))}, Naming: cfg.Naming, Logger: cfg.Log,
		Transient: postgres.IsUnavailable, MaxStreams: maxStreams,
	})
}

// feedLog is the log as package feed reads it, perhaps from a replica: with payloads in the newest schema version, and amounts
// as decimals.
type feedLog struct{ store, primary *eventstore.Store }

// Look implements feed.Log. A replica that has not reached a position may just be behind, so only the primary decides
// whether the log holds it. While the primary is unavailable, no position counts as lost.
func (l feedLog) Look(ctx context.Context, seen feed.Point) (head feed.Point, held bool, err error) {
	status, err := l.store.Status(ctx, seen.Position, seen.ID)
	if err != nil {
		return head, false, err
	}
	head, held = feed.Point{Position: status.Head.Position, ID: status.Head.EventID}, status.Contains
	if !held && status.Standby && status.Head.Position < seen.Position {
		primary, err := l.primary.Status(ctx, seen.Position, seen.ID)
		held = err != nil || primary.Contains || primary.Standby
	}
	return head, held, nil
}

// Read implements feed.Log.
func (l feedLog) Read(ctx context.Context, after, upTo int64, f feed.Filter, limit int) ([]feed.Event, error) {
	selection := eventstore.Selection{StreamID: f.Subject}
	if f.Type != "" {
		selection.Types = []string{f.Type}
	}
	recorded, err := l.store.Select(ctx, after, upTo, selection, limit)
	if archived, ok := errors.AsType[*eventstore.ArchivedError](err); ok {
		return nil, &feed.ArchivedError{First: archived.First}
	}
	if err != nil {
		return nil, err
	}
	events := make([]feed.Event, len(recorded))
	for i := range recorded {
		if events[i], err = feedEvent(&recorded[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func feedEvent(e *eventstore.Event) (feed.Event, error) {
	shown := feed.Event{
		Position: e.Position, ID: e.EventID, Subject: e.StreamID, Version: e.Version, Type: e.Type,
		SchemaVersion: e.SchemaVersion, Data: e.Payload, RecordedAt: e.RecordedAt,
	}
	// Events of a newer release pass unchanged: the feed does not have to understand them.
	if e.SchemaVersion < eventjson.SchemaVersion(e.Type) {
		event, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			return shown, fmt.Errorf("feed: event at position %d: %w", e.Position, err)
		}
		newest, err := eventjson.Encode(event)
		if err != nil {
			return shown, fmt.Errorf("feed: event at position %d: %w", e.Position, err)
		}
		shown.SchemaVersion, shown.Data = newest.SchemaVersion, newest.Payload
	}
	data, err := eventjson.Public(shown.Data)
	if err != nil {
		return shown, fmt.Errorf("feed: event at position %d: %w", e.Position, err)
	}
	shown.Data = data
	var m command.Metadata
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		return shown, fmt.Errorf("feed: event at position %d: metadata: %w", e.Position, err)
	}
	shown.CorrelationID, shown.CausationID, shown.Traceparent, shown.Actor = m.CorrelationID, m.CausationID, m.Traceparent, m.Actor
	return shown, nil
}
