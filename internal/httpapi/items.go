package httpapi

import (
	"passbook/internal/httpapi/request"
)

// Bounds of POST /commands. They bound memory; the body itself may be of any length.
const (
	// A chunk is decided together: at most so many commands, or so many bytes of them.
	chunkItems = 1000
	chunkBytes = 1 << 20
	// maxAtomic is how many commands an atomic request may have.
	maxAtomic = 1000
)

// item is one command of a bulk request, or the error of reading it.
type item struct {
	command request.Command
	problem error
}

// readItem reads the text of one command. batchKey is the Idempotency-Key of the whole request, or "".
func (s *server) readItem(raw []byte, batchKey string, index int) item {
	c, err := s.spec.ReadItem(raw, batchKey, index)
	if err != nil {
		return item{problem: err}
	}
	return item{command: c}
}
