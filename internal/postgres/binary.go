package postgres

import (
	"context"
	"encoding"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// binaryArray is the codec of an array type that also accepts an encoding.BinaryAppender, which encodes itself in PostgreSQL's
// binary format. The general codec looks up the type of each element, which takes as long for the arrays of an append as
// deciding the batch.
type binaryArray struct{ *pgtype.ArrayCodec }

// PlanEncode implements pgtype.Codec.
func (c binaryArray) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(encoding.BinaryAppender); ok && format == pgtype.BinaryFormatCode {
		return appendPlan{}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type appendPlan struct{}

// Encode implements pgtype.EncodePlan.
func (appendPlan) Encode(value any, buf []byte) ([]byte, error) {
	return value.(encoding.BinaryAppender).AppendBinary(buf)
}

// registerBinaryArrays makes a connection accept arrays that encode themselves.
func registerBinaryArrays(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	for _, oid := range []uint32{
		pgtype.UUIDArrayOID, pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.TextArrayOID, pgtype.JSONBArrayOID,
		pgtype.ByteaArrayOID,
	} {
		if t, ok := types.TypeForOID(oid); ok {
			if codec, ok := t.Codec.(*pgtype.ArrayCodec); ok {
				types.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: binaryArray{codec}})
			}
		}
	}
	return nil
}
