package readmodel

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/google/uuid"
)

// transactionSource encodes rows in the binary format of COPY as they are read. A replay writes a row for each event, and
// pgx.CopyFrom takes as long to encode one as everything else here together. The format is described in
// PostgreSQL's documentation of COPY: a header, for each row the number of its fields and for each field its length and
// bytes, and a trailer.
type transactionSource struct {
	generation int64
	rows       []transaction
	next       int
	state      sourceState
	buf        []byte // encoded but not read yet
	room       []byte // the memory of buf, to be reused
}

type sourceState uint8

const (
	atHeader sourceState = iota
	atRows
	atEnd
)

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, no extension
	copyTrailer = "\xff\xff"
	// copyPiece is roughly how many bytes are encoded at a time.
	copyPiece = 32 << 10
)

// Read implements io.Reader.
func (s *transactionSource) Read(p []byte) (int, error) {
	if len(s.buf) == 0 {
		s.fill()
		if len(s.buf) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

// fill encodes the next piece; at the end it is empty.
func (s *transactionSource) fill() {
	b := s.room[:0]
	if s.state == atHeader {
		b = append(b, copyHeader...)
		s.state = atRows
	}
	for s.state == atRows && len(b) < copyPiece {
		if s.next == len(s.rows) {
			b = append(b, copyTrailer...)
			s.state = atEnd
			break
		}
		b = s.rows[s.next].appendBinary(b, s.generation)
		s.next++
	}
	s.buf, s.room = b, b
}

// appendBinary appends the row, its fields in the order of copyTransactionsSQL.
func (r *transaction) appendBinary(b []byte, generation int64) []byte {
	b = binary.BigEndian.AppendUint16(b, 16)
	b = appendInt8(b, generation)
	b = appendInt8(b, r.position)
	b = appendInt8(b, r.version)
	b = appendInt8(b, r.recordedAt.UnixMicro()-postgresEpoch)
	b = appendInt8(b, r.amount)
	b = appendInt8(b, r.balance)
	b = appendInt8(b, r.held)
	if r.links.reversed != 0 {
		b = appendInt8(b, r.links.reversed)
	} else {
		b = append(b, null...)
	}
	b = appendUUID(b, r.of.id)
	b = appendUUID(b, r.links.counterparty)
	b = appendUUID(b, r.links.transferID)
	b = appendUUID(b, r.links.holdID)
	b = append(b, 0, 0, 0, 1, byte(r.kind))
	b = append(b, 0, 0, 0, 1, byte(r.status))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.reference)))
	b = append(b, r.reference...)
	if r.links.metadata.IsEmpty() {
		return append(b, null...)
	}
	metadata := metadataJSON(r.links.metadata)
	b = binary.BigEndian.AppendUint32(b, uint32(len(metadata)+1))
	b = append(b, jsonbVersion)
	return append(b, metadata...)
}

const (
	null = "\xff\xff\xff\xff" // the length of a field that is null
	// jsonbVersion precedes the text of a binary jsonb.
	jsonbVersion = 1
)

// postgresEpoch is the time that the microseconds of a binary timestamptz count from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func appendInt8(b []byte, v int64) []byte {
	b = append(b, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

// appendUUID appends a field of 16 bytes, or null for the nil UUID.
func appendUUID(b []byte, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return append(b, null...)
	}
	b = append(b, 0, 0, 0, 16)
	return append(b, id[:]...)
}
