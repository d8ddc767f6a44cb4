package archive

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

const (
	// %[1]s is the new table, %[2]s and %[3]s are names of constraints, between %[4]d and %[5]d are the positions.
	createSQL = `create table %[1]s (like events including all);
alter table %[1]s add constraint %[2]s unique (stream_id, version), add constraint %[3]s check (position between %[4]d and %[5]d)`

	// %s is the partition.
	lastOfStreamsSQL = `select stream_id, max(version), count(*) from %s where stream_id > $1 group by stream_id order by stream_id limit $2`

	// The last event of each stream, as it is stored, but with a snapshot. %[1]s is the stub, %[2]s the partition.
	insertLastSQL = `insert into %[1]s (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select p.position, p.stream_id, p.version, p.event_id, p.type, p.schema_version, p.payload,
       case when p.metadata @> $4 then p.metadata else p.metadata || u.snapshot::jsonb end, p.recorded_at
from unnest($1::uuid[], $2::bigint[], $3::text[]) as u(id, version, snapshot)
join %[2]s p on p.stream_id = u.id and p.version = u.version`

	// The events whose ids are looked up, as they are stored.
	insertNamedSQL = `insert into %[1]s (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at
from %[2]s where type = any ($1) on conflict do nothing`
)

// streamsAtOnce is how many streams are in memory at a time.
const streamsAtOnce = 1000

// lookedUp are the types of the events that commands find by an id, however old they are.
var lookedUp = []string{
	account.TypeAccountCreated, account.TypeTransferSent, account.TypeSubjectErased,
	account.TypeHoldPlaced, account.TypeHoldCaptured, account.TypeHoldReleased, account.TypeHoldExpired,
}

// newTable returns the statements that make a table like a partition of the log.
func newTable(name, uniqueName string, p Partition) string {
	return fmt.Sprintf(createSQL, quote(name), quote(uniqueName), quote(boundsOf(name)), p.First, p.Last)
}

// makeStub makes the table that replaces a partition, and returns how many rows it has. A table of that name is what a process that was
// killed has left.
func (s *session) makeStub(ctx context.Context, pool *pgxpool.Pool, p Partition, stub string) (kept int64, err error) {
	if err := s.exec(ctx, "drop table if exists "+quote(stub)); err != nil {
		return 0, err
	}
	if _, err := s.conn.Exec(ctx, newTable(stub, stub+"_stream_version", p), pgx.QueryExecModeSimpleProtocol); err != nil {
		return 0, fmt.Errorf("archive: create %s: %w", stub, err)
	}
	if err := s.restrict(ctx, stub); err != nil {
		return 0, err
	}
	kept, err = s.insertLast(ctx, pool, p, stub)
	if err != nil {
		return 0, fmt.Errorf("archive: fill %s: %w", stub, err)
	}
	tag, err := s.conn.Exec(ctx, fmt.Sprintf(insertNamedSQL, quote(stub), quote(p.Name)), lookedUp)
	if err != nil {
		return 0, fmt.Errorf("archive: fill %s: %w", stub, err)
	}
	return kept + tag.RowsAffected(), s.exec(ctx, "vacuum (freeze, analyze) "+quote(stub))
}

// insertLast inserts the last event of each stream.
func (s *session) insertLast(ctx context.Context, pool *pgxpool.Pool, p Partition, stub string) (inserted int64, err error) {
	log := eventstore.New(pool)
	if s.Codec != nil {
		log = log.Coded(s.Codec)
	}
	var read int64
	for after := uuid.Nil; ; {
		lasts, events, err := s.lastOfStreams(ctx, p, after)
		if err != nil {
			return inserted, err
		}
		if len(lasts.ids) == 0 {
			break
		}
		snapshots, err := s.snapshots(ctx, log, p, lasts)
		if err != nil {
			return inserted, err
		}
		tag, err := s.conn.Exec(ctx, fmt.Sprintf(insertLastSQL, quote(stub), quote(p.Name)), lasts.ids, lasts.versions, snapshots, eventjson.SnapshotPattern)
		if err != nil {
			return inserted, err
		}
		inserted, read, after = inserted+tag.RowsAffected(), read+events, lasts.ids[len(lasts.ids)-1]
		s.Progress("stub of", p, read)
	}
	if read != p.Last-p.First+1 {
		return inserted, fmt.Errorf("the streams have %d events from position %d to %d", read, p.First, p.Last)
	}
	return inserted, nil
}

// lasts are streams, in order, and the versions of their last events in a partition.
type lasts struct {
	ids      [][16]byte
	versions []int64
}

// lastOfStreams returns the next streams of a partition, and how many events they have in it.
func (s *session) lastOfStreams(ctx context.Context, p Partition, after [16]byte) (l lasts, events int64, err error) {
	rows, _ := s.conn.Query(ctx, fmt.Sprintf(lastOfStreamsSQL, quote(p.Name)), after, streamsAtOnce) // an error is in rows too
	type last struct {
		ID             [16]byte
		Version, Count int64
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[last])
	for _, one := range all {
		l.ids, l.versions, events = append(l.ids, one.ID), append(l.versions, one.Version), events+one.Count
	}
	return l, events, err
}

// snapshots returns metadata with the state of each stream after its last event in a partition, as the log stores it.
func (s *session) snapshots(ctx context.Context, log *eventstore.Store, p Partition, l lasts) ([]string, error) {
	sealed := make([]eventstore.NewEvent, len(l.ids))
	at := make(map[uuid.UUID]int, len(l.ids))
	states := make([]account.State, len(l.ids))
	for i, id := range l.ids {
		at[id] = i
	}
	err := log.ReadStreams(ctx, l.ids, p.Last, eventjson.SnapshotPattern, func(e *eventstore.Event) (err error) {
		i := at[e.StreamID]
		states[i], err = eventjson.Fold(states[i], sealed[i].Version, eventjson.Stored{
			Version: e.Version, Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload, Metadata: e.Metadata,
		})
		sealed[i] = eventstore.NewEvent{StreamID: e.StreamID, Version: e.Version, Type: e.Type}
		if err = cmp.Or(e.Err, err); err != nil {
			err = fmt.Errorf("the event at position %d: %w", e.Position, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range sealed {
		if sealed[i].Version != l.versions[i] {
			return nil, fmt.Errorf("the stream %s ends with version %d, not %d", uuid.UUID(l.ids[i]), sealed[i].Version, l.versions[i])
		}
		sealed[i].SubjectID = states[i].SubjectID
		if sealed[i].Metadata, err = (eventjson.Metadata{}).EncodeSnapshot(states[i]); err != nil {
			return nil, fmt.Errorf("the stream %s: %w", uuid.UUID(l.ids[i]), err)
		}
	}
	if s.Codec != nil {
		if err := s.Codec.Seal(ctx, sealed); err != nil {
			return nil, err
		}
	}
	texts := make([]string, len(sealed))
	for i := range sealed {
		texts[i] = string(sealed[i].Metadata)
	}
	return texts, nil
}
