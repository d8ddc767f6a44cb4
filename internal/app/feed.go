package app

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/httpapi/feed"
)

// feedLog is the log as package feed reads it, which may be from replicas: payloads of older schema versions are shown in
// the newest, and amounts as decimals.
type feedLog struct{ store, primary *eventstore.Store }

// Look implements feed.Log. A replica that does not reach a position may just be behind, or behind another replica; whether
// the log has it, only the primary can tell. While that one cannot, nothing is said to be lost.
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
	// What a newer release wrote is shown as it is: the feed need not understand what it passes on.
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
