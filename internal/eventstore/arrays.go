package eventstore

import "encoding/binary"

// The arrays of an append write themselves in PostgreSQL's binary format (encoding.BinaryAppender), which the pools of
// internal/postgres make use of; with any other pool they are encoded as the slices they are. The format is that of
// array_send: the number of dimensions, whether there are nulls, the type of the elements, for the one dimension its length
// and first subscript, and then each element with its length before it.
type (
	uuids  [][16]byte
	int8s  []int64
	int4s  []int32
	texts  []string
	jsonbs [][]byte // each a JSON text
	byteas [][]byte // nil is null
)

// The types' numbers, which PostgreSQL never changes.
const (
	uuidOID  = 2950
	int8OID  = 20
	int4OID  = 23
	textOID  = 25
	jsonbOID = 3802
	byteaOID = 17
)

func appendArray(b []byte, oid uint32, length int) []byte {
	if length == 0 {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		return binary.BigEndian.AppendUint32(b, oid)
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, oid)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, 1)
}

// AppendBinary implements encoding.BinaryAppender.
func (a uuids) AppendBinary(b []byte) ([]byte, error) {
	b = appendArray(b, uuidOID, len(a))
	for i := range a {
		b = append(append(b, 0, 0, 0, 16), a[i][:]...)
	}
	return b, nil
}

// AppendBinary implements encoding.BinaryAppender.
func (a int8s) AppendBinary(b []byte) ([]byte, error) {
	b = appendArray(b, int8OID, len(a))
	for _, v := range a {
		b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
	}
	return b, nil
}

// AppendBinary implements encoding.BinaryAppender.
func (a int4s) AppendBinary(b []byte) ([]byte, error) {
	b = appendArray(b, int4OID, len(a))
	for _, v := range a {
		b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
	}
	return b, nil
}

// AppendBinary implements encoding.BinaryAppender.
func (a texts) AppendBinary(b []byte) ([]byte, error) {
	b = appendArray(b, textOID, len(a))
	for _, v := range a {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b, nil
}

// AppendBinary implements encoding.BinaryAppender. An element is the version of its format, which is 1, and its text.
func (a jsonbs) AppendBinary(b []byte) ([]byte, error) {
	b = appendArray(b, jsonbOID, len(a))
	for _, v := range a {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))+1), 1)
		b = append(b, v...)
	}
	return b, nil
}

// AppendBinary implements encoding.BinaryAppender.
func (a byteas) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = appendArray(b, byteaOID, len(a))
	for _, v := range a {
		if v == nil {
			b[start+7] = 1 // there are nulls
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b, nil
}
