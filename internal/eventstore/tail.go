package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Tail is a Store as a projector reads it: without metadata, in bulk, and by hand. A replay reads millions of events,
// and the general way of scanning a row costs more than all the rest of applying it.
type Tail struct{ *Store }

const tailSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where position > $1 order by position limit $2`

// The formats of the columns above: binary but for the payload, which is wanted as the text of its JSON.
var tailFormats = pgx.QueryResultFormats{
	pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode,
	pgx.BinaryFormatCode, pgx.TextFormatCode, pgx.BinaryFormatCode,
}

// fewEvents is how many events a result has when its reader is not far behind.
const fewEvents = 512

// ReadAfter is Store.ReadAfter, but leaves Metadata nil. The payloads of one answer share their memory.
func (t Tail) ReadAfter(ctx context.Context, after int64, limit int) ([]Event, error) {
	return t.tail(ctx, after, limit)
}

func (r reader) tail(ctx context.Context, after int64, limit int) ([]Event, error) {
	rows, err := r.db.Query(ctx, tailSQL, tailFormats, after, limit)
	if err != nil {
		return nil, fmt.Errorf("eventstore: tail: %w", r.suspect(err))
	}
	events, err := scanTail(rows, limit)
	if err != nil {
		return nil, fmt.Errorf("eventstore: tail: %w", r.suspect(err))
	}
	return events, nil
}

// scanTail reads and closes the rows of tailSQL.
func scanTail(rows pgx.Rows, limit int) ([]Event, error) {
	defer rows.Close()
	var (
		events []Event
		texts  arena
		types  = make(map[string]string)
	)
	for rows.Next() {
		if len(events) == fewEvents {
			// There are many: they get all the room they can need, rather than be moved to more and more of it.
			events = append(make([]Event, 0, max(limit, fewEvents+1)), events...)
		}
		events = append(events, Event{})
		if err := readTail(&events[len(events)-1], rows.RawValues(), &texts, types); err != nil {
			return nil, err
		}
	}
	return events, rows.Err() //nolint:wrapcheck // by the callers
}

var errRow = errors.New("eventstore: a row of events is not of the form that was asked for")

// postgresEpoch is where a binary timestamptz counts its microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func readTail(e *Event, raw [][]byte, texts *arena, types map[string]string) error {
	if len(raw) != 8 || len(raw[0]) != 8 || len(raw[1]) != 16 || len(raw[2]) != 8 || len(raw[3]) != 16 ||
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
	e.Payload = texts.hold(raw[6])
	e.RecordedAt = time.UnixMicro(postgresEpoch + int64(binary.BigEndian.Uint64(raw[7]))).UTC()
	return nil
}

// arena holds many small texts in few pieces of memory. Each is larger than the one before, so that a few texts, which may
// be kept for long, take little.
type arena struct {
	free  []byte
	piece int
}

const (
	firstPiece = 1 << 10
	lastPiece  = 64 << 10
)

func (a *arena) hold(text []byte) []byte {
	if len(text) > cap(a.free)-len(a.free) {
		a.piece = min(max(firstPiece, 2*a.piece), lastPiece)
		a.free = make([]byte, 0, max(a.piece, len(text)))
	}
	start := len(a.free)
	a.free = append(a.free, text...)
	return a.free[start:len(a.free):len(a.free)]
}
