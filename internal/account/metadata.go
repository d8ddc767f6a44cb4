package account

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits of Metadata; lengths are in characters (runes).
const (
	MaxMetadataKeys     = 16
	MaxMetadataKeyLen   = 40
	MaxMetadataValueLen = 500
)

// Metadata is the caller's own labels on an account or a movement: keys with text values. It is immutable and can be compared
// with ==; the zero value has no keys.
type Metadata struct {
	// pairs is the sorted keys, each followed by its value; both as a length in bytes, a colon, and the bytes.
	pairs string
}

// NewMetadata returns m as Metadata. It does not check the limits; Decide does.
func NewMetadata(m map[string]string) Metadata {
	if len(m) == 0 {
		return Metadata{}
	}
	var pairs []byte
	for _, key := range slices.Sorted(maps.Keys(m)) {
		for _, text := range []string{key, m[key]} {
			pairs = append(append(strconv.AppendInt(pairs, int64(len(text)), 10), ':'), text...)
		}
	}
	return Metadata{string(pairs)}
}

// IsEmpty reports whether there are no keys.
func (m Metadata) IsEmpty() bool { return m.pairs == "" }

// All iterates over keys and values, sorted by key.
func (m Metadata) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		rest := m.pairs
		next := func() string {
			digits, texts, _ := strings.Cut(rest, ":")
			n, _ := strconv.Atoi(digits)
			rest = texts[n:]
			return texts[:n]
		}
		for rest != "" {
			key := next()
			if !yield(key, next()) {
				return
			}
		}
	}
}

// Map returns the metadata as a new map, or nil if there are no keys.
func (m Metadata) Map() map[string]string {
	if m.IsEmpty() {
		return nil
	}
	return maps.Collect(m.All())
}

// merge returns the metadata with a merge patch (RFC 7396) applied.
func (m Metadata) merge(patch map[string]*string) Metadata {
	merged := maps.Collect(m.All())
	for key, value := range patch {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = *value
		}
	}
	return NewMetadata(merged)
}

// checkMetadata refuses metadata that exceeds a limit or that the log cannot store.
func checkMetadata(m Metadata) error {
	if m.IsEmpty() {
		return nil // the loop would allocate
	}
	keys := 0
	for key, value := range m.All() {
		if keys++; keys > MaxMetadataKeys {
			return refuse(CodeMetadataTooLarge, FieldMetadata, "metadata must not have more than %d keys", MaxMetadataKeys)
		}
		if key == "" {
			return refuse(CodeTextEmpty, FieldMetadata, "a key of metadata must not be empty")
		}
		if err := checkText(FieldMetadata, "a key of metadata", key, MaxMetadataKeyLen); err != nil {
			return err
		}
		if err := checkText(FieldMetadata, "a value of metadata", value, MaxMetadataValueLen); err != nil {
			return err
		}
	}
	return nil
}
