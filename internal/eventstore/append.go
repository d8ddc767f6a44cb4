package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store is the log in one database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	db   querier // the pool, or the transaction of Locked
}

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// New makes a Store on a pool, which stays the caller's to close.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool, db: pool} }

// The functions are in migrations/00001_event_log.sql, 00007_append_batch.sql and 00008_append_one.sql. But for Locked they run
// in autocommit, or the append lock would be held across a round trip.
const (
	appendSQL = `select head, recorded, conflicts, duplicates
from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

	appendBatchSQL = `select head, recorded, lost
from append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`

	appendOneSQL = `select append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
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
	err := s.db.QueryRow(ctx, appendSQL, newUnitArgs(units, args).values()...).Scan(&head, &recordedAt, &conflicts, &duplicates)
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
	// What append_one meets may be an error, which a transaction of several statements would not survive.
	if isOne(units) && past.isHead() && past.positions[0] >= shortLog && !s.isLocked() {
		if results, err = s.appendOne(ctx, past, &units[0]); results != nil || err != nil {
			return results, false, err
		}
	}
	args := newBatchArgs(units)
	var (
		head       *int64
		recordedAt time.Time
	)
	err = s.db.QueryRow(ctx, appendBatchSQL, args.values(past)...).Scan(&head, &recordedAt, &lost)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("eventstore: append: %w", s.suspect(err))
	case head != nil:
		results = make([]UnitResult, len(units))
		place(results, units, *head+1, recordedAt)
	default:
		if lost {
			past.Forget()
		}
		if results, err = s.Append(ctx, units); err != nil {
			return nil, lost, err
		}
	}
	for i, u := range slices.Backward(units) {
		if n := len(u.Events); results[i].Outcome == Appended && n > 0 {
			if head != nil { // the log was seen to hold all other marks
				past.wentOn(*head)
			}
			past.Saw(results[i].First+int64(n)-1, u.Events[n-1].EventID)
			break
		}
	}
	return results, lost, nil
}

// isOne tells whether there is nothing but one event to append.
func isOne(units []Unit) bool {
	return len(units) == 1 && len(units[0].Events) == 1 && len(units[0].Keys) <= 1
}

// appendOne appends the one event of a unit right behind the past, which then goes on from it. It answers nothing when it
// has done nothing: the event is then one for a batch.
func (s *Store) appendOne(ctx context.Context, past *Past, u *Unit) ([]UnitResult, error) {
	e := &u.Events[0]
	var key, fingerprint pgtype.UUID
	if len(u.Keys) > 0 {
		key, fingerprint = pgtype.UUID{Bytes: u.Keys[0].Hash, Valid: true}, pgtype.UUID{Bytes: u.Keys[0].Fingerprint, Valid: true}
	}
	metadata := e.Metadata
	if metadata == nil {
		metadata = noMetadata
	}
	var recordedAt *time.Time
	err := s.db.QueryRow(ctx, appendOneSQL, past.events[0], [16]byte(e.StreamID), e.Version, [16]byte(e.EventID), e.Type, e.SchemaVersion,
		e.Payload, metadata, key, fingerprint).Scan(&recordedAt)
	var taken *pgconn.PgError
	switch {
	case errors.As(err, &taken) && taken.Code == uniqueViolation:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("eventstore: append: %w", s.suspect(err))
	case recordedAt == nil:
		return nil, nil
	}
	first := past.positions[0] + 1
	past.Forget()
	past.Saw(first, e.EventID)
	return []UnitResult{{Outcome: Appended, First: first, RecordedAt: recordedAt.UTC()}}, nil
}

// uniqueViolation is the SQLSTATE of that name.
const uniqueViolation = "23505"

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

// batchArgs is a batch as append_batch takes it: an array a column, and once what many events have in common.
type batchArgs struct {
	streams  uuids
	versions int8s
	eventIDs uuids
	payloads jsonbs

	kinds   int4s
	types   texts
	schemas int4s
	numbers map[kind]int32 // of the kinds so far

	metadataOf int4s
	metadatas  jsonbs

	keys, prints        uuids
	keyFirst, keyEvents int4s
}

// kind is what tells how a payload is read.
type kind struct {
	name   string
	schema int
}

var noMetadata = []byte("{}")

func newBatchArgs(units []Unit) *batchArgs {
	events, keys := 0, 0
	for i := range units {
		events += len(units[i].Events)
		keys += len(units[i].Keys)
	}
	a := &batchArgs{
		streams: make(uuids, 0, events), versions: make(int8s, 0, events), eventIDs: make(uuids, 0, events),
		payloads: make(jsonbs, 0, events), kinds: make(int4s, 0, events), metadataOf: make(int4s, 0, events),
		keys: make(uuids, 0, keys), prints: make(uuids, 0, keys), keyFirst: make(int4s, 0, keys), keyEvents: make(int4s, 0, keys),
		numbers: make(map[kind]int32, 1),
	}
	for i := range units {
		first := int32(len(a.streams)) + 1 // SQL arrays count from 1
		for _, k := range units[i].Keys {
			a.keys = append(a.keys, k.Hash)
			a.prints = append(a.prints, k.Fingerprint)
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
	a.streams = append(a.streams, e.StreamID)
	a.versions = append(a.versions, e.Version)
	a.eventIDs = append(a.eventIDs, e.EventID)
	a.payloads = append(a.payloads, e.Payload)
	k := kind{e.Type, e.SchemaVersion}
	number, known := a.numbers[k]
	if !known {
		a.types, a.schemas = append(a.types, e.Type), append(a.schemas, int32(e.SchemaVersion))
		number = int32(len(a.types))
		a.numbers[k] = number
	}
	a.kinds = append(a.kinds, number)
	metadata := e.Metadata
	if metadata == nil {
		metadata = noMetadata
	}
	// The events of one request follow each other.
	if n := len(a.metadatas); n == 0 || !bytes.Equal(a.metadatas[n-1], metadata) {
		a.metadatas = append(a.metadatas, metadata)
	}
	a.metadataOf = append(a.metadataOf, int32(len(a.metadatas)))
}

func (a *batchArgs) values(past *Past) []any {
	return []any{
		int8s(past.positions), uuids(past.events), a.streams, a.versions, a.eventIDs, a.payloads, a.kinds, a.types, a.schemas,
		a.metadataOf, a.metadatas, a.keys, a.prints, a.keyFirst, a.keyEvents,
	}
}

// each spreads what is kept once over the events that have it in common.
func each[S ~[]T, T any](values S, of int4s) S {
	all := make(S, len(of))
	for i, n := range of {
		all[i] = values[n-1]
	}
	return all
}

// unitArgs is what append_events takes besides: which events and keys belong together, and what each event follows on.
type unitArgs struct {
	*batchArgs

	unitFirst, unitEvents int4s
	keyUnit               int4s
	follows               []pgtype.UUID
	heads                 int4s
}

func newUnitArgs(units []Unit, batch *batchArgs) *unitArgs {
	a := &unitArgs{
		batchArgs: batch, unitFirst: make(int4s, 0, len(units)), unitEvents: make(int4s, 0, len(units)),
		keyUnit: make(int4s, 0, len(batch.keys)), follows: make([]pgtype.UUID, 0, len(batch.streams)),
		heads: make(int4s, 0, len(batch.streams)),
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
		a.unitFirst, a.unitEvents, a.streams, a.versions, a.follows, a.eventIDs, each(a.types, a.kinds), each(a.schemas, a.kinds),
		a.payloads, each(a.metadatas, a.metadataOf), a.heads, a.keyUnit, a.keys, a.prints, a.keyFirst, a.keyEvents,
	}
}
