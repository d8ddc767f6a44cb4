// Package pgarray encodes columns of values as PostgreSQL arrays, in binary and without reflection.
package pgarray

import "encoding/binary"

// Array is a column of a batch, encoded in PostgreSQL's binary format as its elements are added. The pools of internal/postgres
// send any encoding.BinaryAppender unchanged; having pgx encode the elements takes as long as deciding the batch. The format is
// that of array_send: the number of dimensions, whether there are nulls, the type of the elements, the length and first subscript
// of the one dimension, and then each element after its length.
type Array struct {
	oid      uint32 // of the elements' type
	n        int32
	nulls    byte
	elements []byte
}

// The OIDs of element types. PostgreSQL never changes them.
const (
	Bytea = 17
	Int8  = 20
	Int4  = 23
	Text  = 25
	UUID  = 2950
	JSONB = 3802
)

// New returns an array with room for n elements of size bytes each.
func New(oid uint32, n, size int) *Array {
	return &Array{oid: oid, elements: make([]byte, 0, n*(4+size))}
}

// Add adds an element; nil is null.
func (a *Array) Add(element []byte) {
	a.n++
	if element == nil {
		a.nulls = 1
		a.elements = append(a.elements, 0xff, 0xff, 0xff, 0xff)
		return
	}
	a.elements = binary.BigEndian.AppendUint32(a.elements, uint32(len(element)))
	a.elements = append(a.elements, element...)
}

// AddInt8 adds a bigint.
func (a *Array) AddInt8(v int64) {
	a.n++
	a.elements = binary.BigEndian.AppendUint64(append(a.elements, 0, 0, 0, 8), uint64(v))
}

// AddInt4 adds an integer.
func (a *Array) AddInt4(v int) {
	a.n++
	a.elements = binary.BigEndian.AppendUint32(append(a.elements, 0, 0, 0, 4), uint32(v))
}

// AddJSON adds a jsonb value: a JSON text after a format version.
func (a *Array) AddJSON(text []byte) {
	a.n++
	a.elements = append(binary.BigEndian.AppendUint32(a.elements, uint32(len(text))+1), 1)
	a.elements = append(a.elements, text...)
}

// Len returns how many elements there are.
func (a *Array) Len() int { return int(a.n) }

// AppendBinary implements encoding.BinaryAppender.
func (a *Array) AppendBinary(b []byte) ([]byte, error) {
	if a.n == 0 {
		return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0, 0, 0, 0, 0), a.oid), nil
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, a.nulls)
	b = binary.BigEndian.AppendUint32(b, a.oid)
	b = binary.BigEndian.AppendUint32(b, uint32(a.n))
	return append(append(b, 0, 0, 0, 1), a.elements...), nil
}
