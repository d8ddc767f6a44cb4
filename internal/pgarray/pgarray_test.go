package pgarray

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// TestArraysEncodeAsPgxDoes compares the arrays' encoding with pgx's encoding of slices of the same elements. For an empty array
// pgx writes one dimension of length 0; array writes none, like PostgreSQL.
func TestArraysEncodeAsPgxDoes(t *testing.T) {
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
			name  string
			oid   uint32
			own   *Array
			plain any
		}{
			{"uuid", pgtype.UUIDArrayOID, arrayOf(UUID, ids, func(a *Array, v [16]byte) { a.Add(v[:]) }), ids},
			{"int8", pgtype.Int8ArrayOID, arrayOf(Int8, numbers, (*Array).AddInt8), numbers},
			{"int4", pgtype.Int4ArrayOID, arrayOf(Int4, small, func(a *Array, v int32) { a.AddInt4(int(v)) }), small},
			{"text", pgtype.TextArrayOID, arrayOf(Text, words, func(a *Array, v string) { a.Add([]byte(v)) }), words},
			{"jsonb", pgtype.JSONBArrayOID, arrayOf(JSONB, documents, (*Array).AddJSON), documents},
			{"bytea", pgtype.ByteaArrayOID, arrayOf(Bytea, answers, (*Array).Add), answers},
		} {
			want, err := m.Encode(one.oid, pgtype.BinaryFormatCode, one.plain, []byte("before"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := one.own.AppendBinary([]byte("before"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %x, but pgx writes %x", one.name, got, want)
			}
		}
	})
}

func arrayOf[T any](oid uint32, values []T, add func(*Array, T)) *Array {
	a := &Array{oid: oid}
	for _, v := range values {
		add(a, v)
	}
	return a
}
