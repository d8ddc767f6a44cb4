package archive

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Who needs events up to position $1, and the position up to which it has them. Projections and the signer read the last event that
// they have again, together with the next ones; webhooks do not. Keys are stored in order of time, for which there is an
// index; those of refusals point to no event.
const needsSQL = `select 'head', '', coalesce(max(position), 0) from events having coalesce(max(position), 0) <= $1
union all
select 'projection', id, position from projections where position <= $1
union all
select 'previous', id, previous_position from projections where previous_generation is not null and previous_position <= $1
union all
select 'replay', projection, position from projection_replays where state = 'running'
union all
select 'failure', f.projection, min(f.position) from projection_failures f join projections p on p.id = f.projection
 where f.position <= $1 and f.generation in (p.generation, p.previous_generation) group by f.projection
union all
select 'webhook', id::text, position from webhooks where position < $1
union all
select 'key', to_char(max(stored_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), max(first_position) from idempotency_keys
 where refusal is null and first_position <= $1 and stored_at <= (select recorded_at from events where position = $1) having count(*) > 0
union all
select 'signed', '', split_part(checkpoint, E'\n', 2)::bigint from log_checkpoint where split_part(checkpoint, E'\n', 2)::bigint <= $1`

// NeededError means that a partition stays in the log, because something needs it.
type NeededError struct {
	Partition Partition
	// Reasons say what needs it, and what to do.
	Reasons []string
}

func (e *NeededError) Error() string {
	return fmt.Sprintf("%s (positions %d to %d) stays in the log: %s", e.Partition.Name, e.Partition.First, e.Partition.Last, strings.Join(e.Reasons, "; "))
}

// needed returns a *NeededError if something still needs the partition in the log; with forgetPrevious, previous generations do not count.
func needed(ctx context.Context, db querier, p Partition, forgetPrevious bool) error {
	rows, _ := db.Query(ctx, needsSQL, p.Last) // an error is in rows too
	needs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[need])
	if err != nil {
		return fmt.Errorf("archive: look for what needs %s: %w", p.Name, err)
	}
	var reasons []string
	for _, n := range needs {
		if n.Kind != "previous" || !forgetPrevious {
			reasons = append(reasons, n.reason())
		}
	}
	if len(reasons) > 0 {
		return &NeededError{p, reasons}
	}
	return nil
}

// need is what needs events of a partition.
type need struct {
	Kind, Name string
	Position   int64
}

func (n need) reason() string {
	name, position := n.Name, n.Position
	switch n.Kind {
	case "head":
		return fmt.Sprintf("it is not closed, the log ends at position %d", position)
	case "projection":
		return fmt.Sprintf("the projection %s has applied the log up to position %d: wait for it, or see in server status why it does not go on", name, position)
	case "previous":
		return fmt.Sprintf("the previous generation of the projection %s is at position %d, from where a rollback would go on: "+
			"replay the projection, or give the rollback up with --forget-previous", name, position)
	case "replay":
		return fmt.Sprintf("a replay of the projection %s is running: wait until it has ended, or cancel it", name)
	case "failure":
		return fmt.Sprintf("the projection %s could not apply the event at position %d, which waits for a retry: see GET /projections/%[1]s/failures", name, position)
	case "webhook":
		return fmt.Sprintf("the webhook %s has delivered the log up to position %d: wait for it, resume it (server webhooks), or delete it", name, position)
	case "key":
		return fmt.Sprintf("idempotency keys stored up to %s UTC belong to its events: wait until they expire (PASSBOOK_IDEMPOTENCY_TTL)", name)
	default:
		return fmt.Sprintf("the log is signed up to position %d: wait for the signer", position)
	}
}
