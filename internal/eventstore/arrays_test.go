package eventstore

import (
	"bytes"
	"encoding"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// TestArraysAreThoseOfPgx compares what the arrays write of themselves with what pgx makes of the slices they are. Of an
// array without elements pgx writes one dimension of length 0, and PostgreSQL none, as is done here.
func TestArraysAreThoseOfPgx(t *testing.T) {
	t.Parallel()
	m := pgtype.NewMap()
	rapid.Check(t, func(t *rapid.T) {
		json := rapid.Map(rapid.StringMatching(`[a-z0-9]{0,40}`), func(s string) []byte { return []byte(`{"a": "` + s + `"}`) })
		id := rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) [16]byte { return [16]byte(b) })
		ids := rapid.SliceOfN(id, 1, -1).Draw(t, "ids")
		numbers := rapid.SliceOfN(rapid.Int64(), 1, -1).Draw(t, "numbers")
		small := rapid.SliceOfN(rapid.Int32(), 1, -1).Draw(t, "small")
		words := rapid.SliceOfN(rapid.String(), 1, -1).Draw(t, "words")
		documents := rapid.SliceOfN(json, 1, -1).Draw(t, "documents")
		answers := rapid.SliceOfN(rapid.OneOf(json, rapid.Just[[]byte](nil)), 1, -1).Draw(t, "answers")
		for _, one := range []struct {
			oid   uint32
			own   encoding.BinaryAppender
			plain any
		}{
			{pgtype.UUIDArrayOID, uuids(ids), ids},
			{pgtype.Int8ArrayOID, int8s(numbers), numbers},
			{pgtype.Int4ArrayOID, int4s(small), small},
			{pgtype.TextArrayOID, texts(words), words},
			{pgtype.JSONBArrayOID, jsonbs(documents), documents},
			{pgtype.ByteaArrayOID, byteas(answers), answers},
		} {
			want, err := m.Encode(one.oid, pgtype.BinaryFormatCode, one.plain, []byte("before"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := one.own.AppendBinary([]byte("before"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%T: %x, and pgx writes %x", one.own, got, want)
			}
			// A pool that knows nothing of this takes them as slices.
			if got, err = m.Encode(one.oid, pgtype.BinaryFormatCode, one.own, []byte("before")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%T given to pgx: %x, %v", one.own, got, err)
			}
		}
	})
}
