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

// The functions are in migrations/00001_event_log.sql and 00007_append_batch.sql. They must run in autocommit, or the
// append lock would be held across a round trip.
const (
	appendSQL = `select head, recorded, conflicts, duplicates
from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

	appendBatchSQL = `select head, recorded, lost from append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`
)

// Append writes a batch of units in one round trip and one commit, and answers for each in the same order. When it
// returns without an error the outcome is durable; after an error it is unknown, since the commit's answer may be
// what was lost. No hash may occur twice among the keys of a batch.
//
// Units see each other in order: a unit may continue a stream where an earlier unit of the batch left it, and then
// conflicts if that one did.
func (s *Store) Append(ctx context.Context, units []Unit) ([]UnitResult, error) {
	args := newBatchArgs(units)
	var (
		head                  int64
		recordedAt            time.Time
		conflicts, duplicates []int32
	)
	err := s.pool.QueryRow(ctx, appendSQL, newUnitArgs(units, args).values()...).Scan(&head, &recordedAt, &conflicts, &duplicates)
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
	place(results, units, head+1, recordedAt)
	return results, nil
}

// AppendAfter is Append for units that were decided on a past of the log and on nothing else. That the log holds its marks
// is then looked at in place of the event that each stream goes on from, and a batch that meets no conflict costs less.
// When it does meet one, or a mark is gone, it does the same as Append. With a mark gone, lost is true: nothing that is
// known from before is to be trusted, but for the streams of the units that were appended. The past then goes on from the
// batch. After an error it is not known whether it does.
func (s *Store) AppendAfter(ctx context.Context, past *Past, units []Unit) (results []UnitResult, lost bool, err error) {
	args := newBatchArgs(units)
	var (
		head       *int64
		recordedAt time.Time
	)
	err = s.pool.QueryRow(ctx, appendBatchSQL, args.values(past)...).Scan(&head, &recordedAt, &lost)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("eventstore: append: %w", s.suspect(err))
	case head != nil:
		results = make([]UnitResult, len(units))
		place(results, units, *head+1, recordedAt)
		past.Forget()
	default:
		if lost {
			past.Forget()
		}
		if results, err = s.Append(ctx, units); err != nil {
			return nil, lost, err
		}
	}
	for i := len(units) - 1; i >= 0; i-- {
		if n := len(units[i].Events); results[i].Outcome == Appended && n > 0 {
			past.Saw(results[i].First+int64(n)-1, units[i].Events[n-1].EventID)
			break
		}
	}
	return results, lost, nil
}

// place gives the units that were appended their positions, the first of them next.
func place(results []UnitResult, units []Unit, next int64, recordedAt time.Time) {
	for i := range results {
		if results[i].Outcome != Appended {
			continue
		}
		results[i].First, results[i].RecordedAt = next, recordedAt.UTC()
		next += int64(len(units[i].Events))
	}
}

// suspect has all connections made anew when the database has not answered in time, and answers err. A machine that is
// gone without a word leaves connections on which nothing is ever heard again; each would take as long to be found out.
func (s *Store) suspect(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		s.pool.Reset()
	}
	return err
}

// batchArgs is a batch as append_batch takes it: an array a column.
type batchArgs struct {
	// As [16]byte, which pgx writes as it is; a uuid.UUID would go through its text form.
	streams   [][16]byte
	versions  []int64
	eventIDs  [][16]byte
	types     []string
	schemas   []int32
	payloads  [][]byte
	metadatas [][]byte

	keys, fingerprints  [][16]byte
	keyFirst, keyEvents []int32
}

var noMetadata = []byte("{}")

func newBatchArgs(units []Unit) *batchArgs {
	events, keys := 0, 0
	for i := range units {
		events += len(units[i].Events)
		keys += len(units[i].Keys)
	}
	a := &batchArgs{
		streams: make([][16]byte, 0, events), versions: make([]int64, 0, events), eventIDs: make([][16]byte, 0, events),
		types: make([]string, 0, events), schemas: make([]int32, 0, events),
		payloads: make([][]byte, 0, events), metadatas: make([][]byte, 0, events),
		keys: make([][16]byte, 0, keys), fingerprints: make([][16]byte, 0, keys),
		keyFirst: make([]int32, 0, keys), keyEvents: make([]int32, 0, keys),
	}
	for i := range units {
		first := int32(len(a.streams)) + 1 // SQL arrays count from 1
		for _, k := range units[i].Keys {
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

func (a *batchArgs) add(e *NewEvent) {
	metadata := e.Metadata
	if metadata == nil {
		metadata = noMetadata
	}
	a.streams = append(a.streams, e.StreamID)
	a.versions = append(a.versions, e.Version)
	a.eventIDs = append(a.eventIDs, e.EventID)
	a.types = append(a.types, e.Type)
	a.schemas = append(a.schemas, int32(e.SchemaVersion))
	a.payloads = append(a.payloads, e.Payload)
	a.metadatas = append(a.metadatas, metadata)
}

func (a *batchArgs) values(past *Past) []any {
	return []any{
		past.positions, past.events, a.streams, a.versions, a.eventIDs, a.types, a.schemas, a.payloads, a.metadatas,
		a.keys, a.fingerprints, a.keyFirst, a.keyEvents,
	}
}

// unitArgs is what append_events takes besides: which events and keys belong together, and what each event follows on.
type unitArgs struct {
	*batchArgs

	unitFirst, unitEvents []int32
	keyUnit               []int32
	follows               []pgtype.UUID
	heads                 []int32
}

func newUnitArgs(units []Unit, batch *batchArgs) *unitArgs {
	a := &unitArgs{
		batchArgs: batch, unitFirst: make([]int32, 0, len(units)), unitEvents: make([]int32, 0, len(units)),
		keyUnit: make([]int32, 0, len(batch.keys)), follows: make([]pgtype.UUID, 0, len(batch.streams)),
		heads: make([]int32, 0, len(batch.streams)),
	}
	last := make(map[uuid.UUID]int, len(batch.streams)) // the last event of a stream so far
	for i := range units {
		a.unitFirst = append(a.unitFirst, int32(len(a.follows))+1)
		a.unitEvents = append(a.unitEvents, int32(len(units[i].Events)))
		for range units[i].Keys {
			a.keyUnit = append(a.keyUnit, int32(i)+1)
		}
		for j := range units[i].Events {
			e := &units[i].Events[j]
			n := len(a.follows)
			before, chained := last[e.StreamID]
			if e.Version > 1 && !(chained && a.versions[before] == e.Version-1 && a.eventIDs[before] == e.Follows) {
				a.heads = append(a.heads, int32(n)+1)
			}
			last[e.StreamID] = n
			a.follows = append(a.follows, pgtype.UUID{Bytes: e.Follows, Valid: e.Version > 1})
		}
	}
	return a
}

func (a *unitArgs) values() []any {
	return []any{
		a.unitFirst, a.unitEvents, a.streams, a.versions, a.follows, a.eventIDs, a.types, a.schemas, a.payloads,
		a.metadatas, a.heads, a.keyUnit, a.keys, a.fingerprints, a.keyFirst, a.keyEvents,
	}
}
