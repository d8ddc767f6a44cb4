package eventstore

import "encoding/binary"

// array is a column of a batch, encoded in PostgreSQL's binary format as its elements are added. The pools of internal/postgres
// send any encoding.BinaryAppender unchanged; having pgx encode the elements takes as long as deciding the batch. The format is
// that of array_send: the number of dimensions, whether there are nulls, the type of the elements, the length and first subscript
// of the one dimension, and then each element after its length.
type array struct {
	oid      uint32 // of the elements' type
	n        int32
	nulls    byte
	elements []byte
}

// The OIDs of element types. PostgreSQL never changes them.
const (
	typeBytea = 17
	typeInt8  = 20
	typeInt4  = 23
	typeText  = 25
	typeUUID  = 2950
	typeJSONB = 3802
)

// newArray returns an array with room for n elements of size bytes each.
func newArray(oid uint32, n, size int) *array {
	return &array{oid: oid, elements: make([]byte, 0, n*(4+size))}
}

// add adds an element; nil is null.
func (a *array) add(element []byte) {
	a.n++
	if element == nil {
		a.nulls = 1
		a.elements = append(a.elements, 0xff, 0xff, 0xff, 0xff)
		return
	}
	a.elements = binary.BigEndian.AppendUint32(a.elements, uint32(len(element)))
	a.elements = append(a.elements, element...)
}

func (a *array) addInt8(v int64) {
	a.n++
	a.elements = binary.BigEndian.AppendUint64(append(a.elements, 0, 0, 0, 8), uint64(v))
}

func (a *array) addInt4(v int) {
	a.n++
	a.elements = binary.BigEndian.AppendUint32(append(a.elements, 0, 0, 0, 4), uint32(v))
}

// addJSON adds a jsonb value: a JSON text after a format version.
func (a *array) addJSON(text []byte) {
	a.n++
	a.elements = append(binary.BigEndian.AppendUint32(a.elements, uint32(len(text))+1), 1)
	a.elements = append(a.elements, text...)
}

// AppendBinary implements encoding.BinaryAppender.
func (a *array) AppendBinary(b []byte) ([]byte, error) {
	if a.n == 0 {
		return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0, 0, 0, 0, 0), a.oid), nil
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, a.nulls)
	b = binary.BigEndian.AppendUint32(b, a.oid)
	b = binary.BigEndian.AppendUint32(b, uint32(a.n))
	return append(append(b, 0, 0, 0, 1), a.elements...), nil
}
