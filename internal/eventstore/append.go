package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store is the log in one database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// New makes a Store on a pool, which stays the caller's to close.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// The function is in migrations/00001_event_log.sql. It must run in autocommit, or the append lock would be held
// across a round trip.
const appendSQL = `select head, recorded, conflicts, duplicates
from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

// Append writes a batch of units in one round trip and one commit, and answers for each in the same order. When it
// returns without an error the outcome is durable; after an error it is unknown, since the commit's answer may be
// what was lost. No hash may occur twice among the keys of a batch.
//
// Units see each other in order: a unit may continue a stream where an earlier unit of the batch left it, and then
// conflicts if that one did.
func (s *Store) Append(ctx context.Context, units []Unit) ([]UnitResult, error) {
	args := newAppendArgs(units)
	var (
		head                  int64
		recordedAt            time.Time
		conflicts, duplicates []int32
	)
	err := s.pool.QueryRow(ctx, appendSQL, args.values()...).Scan(&head, &recordedAt, &conflicts, &duplicates)
	if err != nil {
		return nil, fmt.Errorf("eventstore: append: %w", s.suspect(err))
	}
	results := make([]UnitResult, len(units))
	for _, u := range conflicts {
		results[u-1].Outcome = Conflict
	}
	for _, u := range duplicates {
		results[u-1].Outcome = Duplicate
	}
	next := head + 1
	for i := range results {
		if results[i].Outcome != Appended {
			continue
		}
		results[i].First, results[i].RecordedAt = next, recordedAt.UTC()
		next += int64(len(units[i].Events))
	}
	return results, nil
}

// suspect has all connections made anew when the database has not answered in time, and answers err. A machine that is
// gone without a word leaves connections on which nothing is ever heard again; each would take as long to be found out.
func (s *Store) suspect(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		s.pool.Reset()
	}
	return err
}

// appendArgs is a batch as append_events takes it: an array a column.
type appendArgs struct {
	unitFirst, unitEvents []int32

	// As [16]byte, which pgx writes as it is; a uuid.UUID would go through its text form.
	streams   [][16]byte
	versions  []int64
	follows   []pgtype.UUID
	eventIDs  [][16]byte
	types     []string
	schemas   []int32
	payloads  [][]byte
	metadatas [][]byte
	heads     []int32
	last      map[uuid.UUID]int // the last event of a stream so far

	keyUnit             []int32
	keys, fingerprints  [][16]byte
	keyFirst, keyEvents []int32
}

var noMetadata = []byte("{}")

func newAppendArgs(units []Unit) *appendArgs {
	events, keys := 0, 0
	for i := range units {
		events += len(units[i].Events)
		keys += len(units[i].Keys)
	}
	a := &appendArgs{
		unitFirst: make([]int32, 0, len(units)), unitEvents: make([]int32, 0, len(units)),
		streams: make([][16]byte, 0, events), versions: make([]int64, 0, events), follows: make([]pgtype.UUID, 0, events),
		eventIDs: make([][16]byte, 0, events), types: make([]string, 0, events), schemas: make([]int32, 0, events),
		payloads: make([][]byte, 0, events), metadatas: make([][]byte, 0, events),
		heads: make([]int32, 0, events), last: make(map[uuid.UUID]int, events),
		keyUnit: make([]int32, 0, keys), keys: make([][16]byte, 0, keys), fingerprints: make([][16]byte, 0, keys),
		keyFirst: make([]int32, 0, keys), keyEvents: make([]int32, 0, keys),
	}
	for i := range units {
		first := int32(len(a.streams)) + 1 // SQL arrays count from 1
		a.unitFirst = append(a.unitFirst, first)
		a.unitEvents = append(a.unitEvents, int32(len(units[i].Events)))
		for _, k := range units[i].Keys {
			a.keyUnit = append(a.keyUnit, int32(i)+1)
			a.keys = append(a.keys, k.Hash)
			a.fingerprints = append(a.fingerprints, k.Fingerprint)
			a.keyFirst = append(a.keyFirst, first+int32(k.First))
			a.keyEvents = append(a.keyEvents, int32(k.Count))
		}
		for j := range units[i].Events {
			a.add(&units[i].Events[j])
		}
	}
	return a
}

func (a *appendArgs) add(e *NewEvent) {
	metadata := e.Metadata
	if metadata == nil {
		metadata = noMetadata
	}
	n := len(a.streams)
	before, chained := a.last[e.StreamID]
	if e.Version > 1 && !(chained && a.versions[before] == e.Version-1 && a.eventIDs[before] == e.Follows) {
		a.heads = append(a.heads, int32(n)+1)
	}
	a.last[e.StreamID] = n
	a.streams = append(a.streams, e.StreamID)
	a.follows = append(a.follows, pgtype.UUID{Bytes: e.Follows, Valid: e.Version > 1})
	a.versions = append(a.versions, e.Version)
	a.eventIDs = append(a.eventIDs, e.EventID)
	a.types = append(a.types, e.Type)
	a.schemas = append(a.schemas, int32(e.SchemaVersion))
	a.payloads = append(a.payloads, e.Payload)
	a.metadatas = append(a.metadatas, metadata)
}

func (a *appendArgs) values() []any {
	return []any{
		a.unitFirst, a.unitEvents, a.streams, a.versions, a.follows, a.eventIDs, a.types, a.schemas, a.payloads,
		a.metadatas, a.heads, a.keyUnit, a.keys, a.fingerprints, a.keyFirst, a.keyEvents,
	}
}
