package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/arena"
)

// fewEvents is how many events a result has at most if its reader is not far behind.
const fewEvents = 512

// events runs a statement that reads at most limit events.
func (r reader) events(ctx context.Context, limit int, sql string, args ...any) ([]Event, error) {
	rows, _ := r.db.Query(ctx, sql, args...) // an error is in rows too
	events, err := scan(rows, limit)
	if err != nil {
		return events, r.wrap("read events", err)
	}
	return events, r.decode(ctx, events, true)
}

// decode passes events through the codec.
func (r reader) decode(ctx context.Context, events []Event, fetch bool) error {
	if r.codec == nil || len(events) == 0 {
		return nil
	}
	return r.codec.Open(ctx, events, fetch)
}

// eachDecoded reads and closes rows of events, passes them through the codec and calls each with them. An event is valid until each
// returns. It stops at the first error that each returns.
func (r reader) eachDecoded(ctx context.Context, rows pgx.Rows, each func(*Event) error) error {
	add, flush := each, func() error { return nil }
	if r.codec != nil {
		add, flush = r.codec.OpenEach(ctx, each)
	}
	var texts arena.Arena
	err := eachEvent(rows, &texts, func(e *Event) error {
		err := add(e)
		texts.Reset()
		return err
	})
	if err == nil {
		err = flush()
	}
	return err
}

// scan reads and closes rows of events, whose payloads share their memory.
func scan(rows pgx.Rows, limit int) (events []Event, err error) {
	var texts arena.Arena
	err = eachEvent(rows, &texts, func(e *Event) error {
		if len(events) == fewEvents {
			// There are many: allocate for all of them, rather than grow repeatedly.
			events = append(make([]Event, 0, max(limit, fewEvents+1)), events...)
		}
		events = append(events, *e)
		return nil
	})
	return events, err
}

// eachEvent reads and closes rows of events, with their texts in the arena, and stops at the first error that each returns. The
// event is valid until each returns.
func eachEvent(rows pgx.Rows, texts *arena.Arena, each func(*Event) error) error {
	defer rows.Close()
	var e Event
	types := make(map[string]string)
	for rows.Next() {
		if err := e.read(rows.RawValues(), texts, types); err != nil {
			return err
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return rows.Err()
}

var errRow = errors.New("eventstore: unexpected columns in a row of events")

// postgresEpoch is where a binary timestamptz counts its microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// read decodes a row by hand: scanning it with pgx costs more than applying the event. The columns are position, stream_id,
// version, event_id, type, schema_version, payload, recorded_at and, optionally, metadata. pgx asks for all of them in binary
// except text and JSON.
func (e *Event) read(raw [][]byte, texts *arena.Arena, types map[string]string) error {
	if len(raw) < 8 || len(raw[0]) != 8 || len(raw[1]) != 16 || len(raw[2]) != 8 || len(raw[3]) != 16 ||
		len(raw[5]) != 4 || len(raw[7]) != 8 {
		return errRow
	}
	e.Position = int64(binary.BigEndian.Uint64(raw[0]))
	copy(e.StreamID[:], raw[1])
	e.Version = int64(binary.BigEndian.Uint64(raw[2]))
	copy(e.EventID[:], raw[3])
	name, ok := types[string(raw[4])]
	if !ok {
		name = string(raw[4])
		types[name] = name
	}
	e.Type = name
	e.SchemaVersion = int(int32(binary.BigEndian.Uint32(raw[5])))
	e.Payload = texts.Hold(raw[6])
	e.RecordedAt = time.UnixMicro(postgresEpoch + int64(binary.BigEndian.Uint64(raw[7]))).UTC()
	if len(raw) > 8 {
		e.Metadata = texts.Hold(raw[8])
	}
	return nil
}
