// Package arena copies many small texts with few allocations.
package arena

// Arena holds texts in few allocations, which grow in size: if there are only a few texts, which callers may keep for long, they take
// little memory. The zero value is ready for use.
type Arena struct {
	free []byte
	size int
}

const (
	first = 1 << 10
	last  = 64 << 10
)

// Hold returns a copy of a text; nil stays nil.
func (a *Arena) Hold(text []byte) []byte {
	if text == nil {
		return nil
	}
	if len(text) > cap(a.free)-len(a.free) {
		a.size = min(max(first, 2*a.size), last)
		a.free = make([]byte, 0, max(a.size, len(text)))
	}
	start := len(a.free)
	a.free = append(a.free, text...)
	return a.free[start:len(a.free):len(a.free)]
}

// Reset has the next texts overwrite those that the last allocation holds. They must not be used any more.
func (a *Arena) Reset() { a.free = a.free[:0] }
