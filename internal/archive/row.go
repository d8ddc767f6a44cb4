package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/google/uuid"
)

// Row is a row of the table events, with all columns as they are stored. The tags name the columns of the Parquet file.
type Row struct {
	Position      int64     `parquet:"position"`
	StreamID      uuid.UUID `parquet:"stream_id,uuid"`
	Version       int64     `parquet:"version"`
	EventID       uuid.UUID `parquet:"event_id,uuid"`
	Type          string    `parquet:"type,dict"`
	SchemaVersion int32     `parquet:"schema_version"`
	// Payload and Metadata are JSON in PostgreSQL's text form of jsonb.
	Payload  string `parquet:"payload,json"`
	Metadata string `parquet:"metadata,json"`
	// RecordedAt is in microseconds since 1970-01-01 UTC.
	RecordedAt int64 `parquet:"recorded_at,timestamp(microsecond)"`
}

// Hash is the SHA-256 over rows in order of position. Each row counts as its columns in order: numbers as 8 bytes and
// schema_version as 4, big-endian, ids as 16 bytes, texts as their length in 4 bytes and their UTF-8.
type Hash struct {
	sum hash.Hash
	buf []byte
}

// NewHash returns the Hash of no rows.
func NewHash() *Hash { return &Hash{sum: sha256.New()} }

// Add adds the next row.
func (h *Hash) Add(r *Row) {
	b := binary.BigEndian.AppendUint64(h.buf[:0], uint64(r.Position)) //nolint:gosec // its bits
	b = append(b, r.StreamID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Version)) //nolint:gosec // its bits
	b = append(b, r.EventID[:]...)
	b = appendText(b, r.Type)
	b = binary.BigEndian.AppendUint32(b, uint32(r.SchemaVersion)) //nolint:gosec // its bits
	b = appendText(appendText(b, r.Payload), r.Metadata)
	h.buf = binary.BigEndian.AppendUint64(b, uint64(r.RecordedAt)) //nolint:gosec // its bits
	h.sum.Write(h.buf)
}

// Sum returns the hash in hexadecimal.
func (h *Hash) Sum() string { return hex.EncodeToString(h.sum.Sum(nil)) }

func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // a value of PostgreSQL is at most 1 GiB
	return append(b, text...)
}
