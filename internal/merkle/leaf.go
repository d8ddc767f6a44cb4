package merkle

import (
	"encoding/binary"

	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
)

// label begins every record, so that no record can be taken for data of another kind or format.
const label = "passbook event v1\n"

// AppendRecord appends to b the bytes that are hashed for an event: everything that the log stores of it, and the leaf hash of the
// event before it (zeros for position 1). Integers are big-endian; texts have their length in bytes before them.
//
//	"passbook event v1\n"
//	position uint64 | stream_id 16 bytes | version uint64 | event_id 16 bytes
//	length uint32, type | schema_version uint32
//	length uint32, payload, as PostgreSQL renders jsonb | length uint32, metadata, likewise
//	recorded_at int64, microseconds since 1970 in UTC
//	leaf hash of the previous event, 32 bytes
func AppendRecord(b []byte, e *eventstore.Event, previous tlog.Hash) []byte {
	b = append(b, label...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Position)) //nolint:gosec // the same bits
	b = append(b, e.StreamID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Version)) //nolint:gosec // the same bits
	b = append(b, e.EventID[:]...)
	b = appendText(b, e.Type)
	b = binary.BigEndian.AppendUint32(b, uint32(e.SchemaVersion)) //nolint:gosec // a column of 32 bits
	b = appendText(b, e.Payload)
	b = appendText(b, e.Metadata)
	b = binary.BigEndian.AppendUint64(b, uint64(e.RecordedAt.UnixMicro()))
	return append(b, previous[:]...)
}

// appendText appends a text, which PostgreSQL limits to 1 GiB.
func appendText[T string | []byte](b []byte, text T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // see above
	return append(b, text...)
}

// leaf returns the leaf hash of an event. buffer is reused for the record.
func leaf(buffer *[]byte, e *eventstore.Event, previous tlog.Hash) tlog.Hash {
	*buffer = AppendRecord((*buffer)[:0], e, previous)
	return tlog.RecordHash(*buffer)
}
