package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgarray"
)

// Store is the log in one database. It is safe for concurrent use.
type Store struct {
	reader
	pool *pgxpool.Pool
}

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// New returns a Store that uses a pool. The caller closes the pool.
func New(pool *pgxpool.Pool) *Store { return &Store{reader: reader{db: pool, pool: pool}, pool: pool} }

// Coded returns a Store that passes its events through a codec; nil changes nothing.
func (s *Store) Coded(c Codec) *Store {
	return &Store{reader: reader{db: s.pool, pool: s.pool, codec: c}, pool: s.pool}
}

// The function is in migrations/00006_partitions.sql.
const appendSQL = `select moved, recorded, taken
from append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

// Append writes a batch that was decided on head, in one round trip and one commit. If it returns without an error the outcome
// is durable; after an error it is unknown.
func (s *Store) Append(ctx context.Context, head Head, b *Batch) (Appended, error) {
	if err := s.encode(ctx, b); err != nil {
		return Appended{}, err
	}
	result, err := scanAppended(s.pool.QueryRow(ctx, appendSQL, appendArgs(head, b)...))
	return result, s.wrap("append", err)
}

func scanAppended(row pgx.Row) (result Appended, err error) {
	err = row.Scan(&result.Moved, &result.RecordedAt, &result.Taken)
	result.RecordedAt = result.RecordedAt.UTC()
	return result, err
}

// lockSQL begins a transaction with the append lock, in one round trip. If a session is idle while it holds the lock, the database
// ends it before the others give up waiting.
var lockSQL = [...]string{
	`begin isolation level read committed`,
	`set local lock_timeout = '5s'`,
	`set local idle_in_transaction_session_timeout = '2s'`,
	`select pg_advisory_xact_lock(7018230141)`,
}

// Locked is a transaction that holds the append lock: nothing can be appended after what it reads until Append commits. It must be
// used by one goroutine and released.
type Locked struct {
	reader
	conn *pgxpool.Conn
}

// Lock waits for the append lock and returns it, with the result of ReadAfter under the lock. Other appends wait until Append or
// Release; the database ends the session if it is idle for 2 s.
func (s *Store) Lock(ctx context.Context, after int64, limit int) (_ *Locked, events []Event, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, s.wrap("lock", err)
	}
	var steps pgx.Batch
	for _, sql := range lockSQL {
		steps.Queue(sql)
	}
	steps.Queue(readAfterSQL, after, limit).Query(func(rows pgx.Rows) error {
		events, err = scan(rows, limit)
		return err
	})
	if err := conn.SendBatch(ctx, &steps).Close(); err != nil {
		conn.Release()
		return nil, nil, s.wrap("lock", err)
	}
	locked := &Locked{reader: reader{conn, s.pool, s.codec}, conn: conn}
	if err := s.decode(ctx, events, false); err != nil {
		locked.Release()
		return nil, nil, err
	}
	return locked, events, nil
}

// Append does what Store.Append does in the transaction, and commits it, whether or not anything was written.
func (l *Locked) Append(ctx context.Context, head Head, b *Batch) (result Appended, err error) {
	if err := l.encode(ctx, b); err != nil {
		return Appended{}, err
	}
	var steps pgx.Batch
	steps.Queue(appendSQL, appendArgs(head, b)...).QueryRow(func(row pgx.Row) error {
		result, err = scanAppended(row)
		return err
	})
	steps.Queue(`commit`)
	err = l.conn.SendBatch(ctx, &steps).Close()
	return result, l.wrap("append with the lock held", err)
}

// Release returns the connection to the pool, which closes it if the transaction is still open.
func (l *Locked) Release() { l.conn.Release() }

// wrap adds the operation to an error; for nil it returns nil. It turns PB001 into an *ArchivedError. On a timeout it also replaces all connections: connections to a
// machine that is lost stay open, and each would cost another timeout.
func (r reader) wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		r.pool.Reset()
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "PB001" {
		first, _ := strconv.ParseInt(refused.Detail, 10, 64) // as whole_after raises it
		err = &ArchivedError{first}
	}
	return fmt.Errorf("eventstore: %s: %w", operation, err)
}

// Prepare fetches what encoding a batch needs, so that Locked.Append does not wait for it while others wait for the lock. It calls
// batch only if there is a codec.
func (s *Store) Prepare(ctx context.Context, batch func() *Batch) error {
	if s.codec == nil {
		return nil
	}
	return s.encode(ctx, batch())
}

// encode checks a batch and passes it through the codec.
func (r reader) encode(ctx context.Context, b *Batch) error {
	if err := b.check(); err != nil || r.codec == nil {
		return err
	}
	return r.codec.Seal(ctx, b.Events)
}

// check returns an error if the versions of a stream have a gap within the batch. Whether they continue those in the log is up to
// the caller, who knows them: asking the database costs a quarter of an append of one event (docs/adr/0015).
func (b *Batch) check() error {
	last := make(map[uuid.UUID]int64, len(b.Events))
	for i := range b.Events {
		e := &b.Events[i]
		if before, ok := last[e.StreamID]; ok && e.Version != before+1 || e.Version < 1 {
			return fmt.Errorf("eventstore: append: stream %s goes from version %d to %d", e.StreamID, before, e.Version)
		}
		last[e.StreamID] = e.Version
	}
	return nil
}

var noMetadata = []byte("{}")

// appendArgs returns the arguments of the SQL function append: an array for each column, with values that events share only once.
func appendArgs(head Head, b *Batch) []any {
	n, keys := len(b.Events), len(b.Keys)
	streams, versions, eventIDs := pgarray.New(pgarray.UUID, n, 16), pgarray.New(pgarray.Int8, n, 8), pgarray.New(pgarray.UUID, n, 16)
	payloads, kinds, metadataOf := pgarray.New(pgarray.JSONB, n, 128), pgarray.New(pgarray.Int4, n, 4), pgarray.New(pgarray.Int4, n, 4)
	types, schemas, metadatas := pgarray.New(pgarray.Text, 1, 16), pgarray.New(pgarray.Int4, 1, 4), pgarray.New(pgarray.JSONB, 1, 128)
	hashes, prints := pgarray.New(pgarray.UUID, keys, 16), pgarray.New(pgarray.UUID, keys, 16)
	first, counts, refusals := pgarray.New(pgarray.Int4, keys, 4), pgarray.New(pgarray.Int4, keys, 4), pgarray.New(pgarray.Bytea, keys, 0)
	type kind struct {
		name   string
		schema int
	}
	numbers, last := make(map[kind]int, 1), []byte(nil)
	for i := range b.Events {
		e := &b.Events[i]
		streams.Add(e.StreamID[:])
		versions.AddInt8(e.Version)
		eventIDs.Add(e.EventID[:])
		payloads.AddJSON(e.Payload)
		k := kind{e.Type, e.SchemaVersion}
		if numbers[k] == 0 {
			types.Add([]byte(e.Type))
			schemas.AddInt4(e.SchemaVersion)
			numbers[k] = len(numbers) + 1 // SQL arrays count from 1
		}
		kinds.AddInt4(numbers[k])
		metadata := e.Metadata
		if metadata == nil {
			metadata = noMetadata
		}
		if i == 0 || !bytes.Equal(last, metadata) { // the events of one request follow each other
			metadatas.AddJSON(metadata)
			last = metadata
		}
		metadataOf.AddInt4(metadatas.Len())
	}
	for i := range b.Keys {
		k := &b.Keys[i]
		hashes.Add(k.Hash[:])
		prints.Add(k.Fingerprint[:])
		counts.AddInt4(k.Count)
		refusals.Add(k.Refusal)
		if k.Refusal == nil {
			first.AddInt4(k.First + 1)
		} else {
			first.AddInt4(0)
		}
	}
	var headEvent any
	if head.Position > 0 {
		headEvent = [16]byte(head.EventID)
	}
	return []any{
		head.Position, headEvent, streams, versions, eventIDs, payloads, kinds, types, schemas, metadataOf, metadatas,
		hashes, prints, first, counts, refusals,
	}
}
