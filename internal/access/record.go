package access

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Kind says what a record tells of.
type Kind string

// Read and Opened are about requests, the others about a run of an instance.
const (
	// Read is a request that has ended, or the first accounts of one that concerns very many.
	Read Kind = "read"
	// Opened is a response that may take long, when it begins. A Read follows at its end, unless the instance is killed.
	Opened Kind = "opened"
	// Started and Stopped are the ends of a run. Detail is how much it records.
	Started Kind = "started"
	Stopped Kind = "stopped"
	// Dropped says that records are missing; Detail is how many.
	Dropped Kind = "dropped"
)

// Record is one record of the audit.
type Record struct {
	// At is by the clock of the instance; for a Read it is when the request began.
	At   time.Time
	Kind Kind
	// Caller is the caller's permanent id, "" without authentication, and CallerName the name of its key.
	Caller, CallerName string
	// Route is a pattern, such as /accounts/{account_id}/balance.
	Method, Route string
	// Accounts are those concerned. With AnyAccount it may be any account.
	Accounts   []uuid.UUID
	AnyAccount bool
	Status     int
	RequestID  string
	Address    netip.Addr
	// Position is that of the log as the caller saw it, or 0.
	Position int64
	Detail   string
}

// size is about how many bytes the record takes in memory.
func (r *Record) size() int64 {
	const fixed = 320
	return fixed + int64(len(r.Accounts)*len(uuid.UUID{})+len(r.Caller)+len(r.CallerName)+len(r.RequestID))
}

// ofRun reports whether the record is about a run and not about a request.
func (r *Record) ofRun() bool { return r.Kind != Read && r.Kind != Opened }
